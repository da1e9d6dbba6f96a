"""Refuses to serve where every caller needs a key and no key lets anybody in."""

from service import bootstrap
from service.api.door import needs_keys
from service.engine import Engine, Unavailable
from service.settings import Settings, SettingsError


async def check_keys(settings: Settings) -> None:
    """Before anything is served. Raises SettingsError."""
    if needs_keys(settings):
        engine = bootstrap.build_engine(settings)
        try:
            await refuse_without_a_key(engine, settings)
        finally:
            await engine.close()


async def refuse_without_a_key(engine: Engine, settings: Settings) -> None:
    """Raises SettingsError. A Redis that is away decides nothing: then every call is refused until it is back."""
    try:
        if not needs_keys(settings) or await engine.credentials.usable():
            return
    except Unavailable:
        return
    raise SettingsError(
        f"at ARQADE_HOST={settings.host} every caller needs a key, and there is none: make one with "
        "`arqade key create`, or serve with --insecure (ARQADE_INSECURE=1) where something else keeps strangers out"
    )
