"""What a worker opens for its functions, and that it closes it again."""

from typing import Any

from jobs.invalidate_cache import Cache
from service.bootstrap import build_worker_parts
from service.engine import Context, FileStore
from service.outgoing import MailServer, Outgoing
from service.settings import Settings
from tests.stage import eventually


async def test_functions_find_their_resources_by_type(settings: Settings, inspector: Any) -> None:
    parts = build_worker_parts(settings.model_copy(update={"cache_prefixes": ("shop:",), "mail_from": "a@b.c"}))
    ctx: dict[Any, Any] = {}
    await parts.on_startup(ctx)
    context = Context(arq=ctx)
    cache = context.resource(Cache)

    connection = await cache.redis.client_id()
    assert connection in connections(inspector)
    assert cache.prefixes == ("shop:",)
    assert isinstance(context.resource(Outgoing), Outgoing)
    assert isinstance(context.resource(FileStore), FileStore)

    await parts.on_shutdown(ctx)
    await eventually(lambda: connection in connections(inspector), lambda there: not there)


def connections(inspector: Any) -> set[int]:
    return {int(client["id"]) for client in inspector.client_list()}


async def test_a_mail_server_is_there_when_the_settings_name_one(redis_url: str) -> None:
    for smtp_url, there in ((None, False), ("smtp://mail.example", True)):
        parts = build_worker_parts(Settings.load(redis_url=redis_url, smtp_url=smtp_url, mail_from="a@b.c"))
        ctx: dict[Any, Any] = {}
        await parts.on_startup(ctx)
        assert any(isinstance(value, MailServer) for value in ctx.values()) is there
        await parts.on_shutdown(ctx)
