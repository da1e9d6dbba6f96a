"""Settings come from the environment, are checked at the start, and show no secret."""

from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import redis_address
from service.settings import Settings, SettingsError


def test_the_environment_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARQADE_GRACE_PERIOD", "2m")
    monkeypatch.setenv("ARQADE_QUEUES", "high=6, low=1")
    settings = Settings.load()
    assert settings.grace_period == 120
    assert [(queue.name, queue.weight) for queue in settings.queues] == [("high", 6), ("low", 1)]
    monkeypatch.setenv("ARQADE_MAX_PENDING", "1000, bulk=50")
    assert Settings.load().max_pending == {"*": 1000, "bulk": 50}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ARQADE_CONCURRENCY", "many"),
        ("ARQADE_LEASE", "0"),
        ("ARQADE_QUEUES", "a=1,b"),
        ("ARQADE_QUEUES", "arq:job:x"),
        ("ARQADE_REDIS_URL", "http://elsewhere"),
        ("ARQADE_PORT", "70000"),
        ("ARQADE_MAX_PENDING", "many"),
        ("ARQADE_MAX_PENDING", "bulk=0"),
        ("ARQADE_MAX_PENDING", "arq:job:x=5"),
    ],
)
def test_a_wrong_value_is_refused_at_the_start_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refusal:
        Settings.load()
    assert "elsewhere" not in str(refusal.value)


def test_secrets_come_from_files_and_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cr:t@/%\n")
    monkeypatch.setenv("ARQADE_REDIS_PASSWORD_FILE", str(secret))
    settings = Settings.load()
    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == "s3cr:t@/%"
    assert "s3cr" not in repr(settings)
    assert "s3cr" not in repr(redis_address(settings))
    assert "s3cr" not in repr(redis_address(settings).for_arq())

    monkeypatch.setenv("ARQADE_REDIS_PASSWORD_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="ARQADE_REDIS_PASSWORD_FILE"):
        Settings.load()


def test_credentials_in_a_url_are_percent_decoded_and_tls_checks_the_host() -> None:
    address = redis_address(Settings.load(redis_url="rediss://us%40er:p%2Fw@redis.example:6390/3"))
    settings = address.for_arq()
    assert (settings.username, settings.password, settings.database) == ("us@er", "p/w", 3)
    assert settings.ssl
    assert settings.ssl_check_hostname
    pool: Any = address.open_pool().connection_pool
    assert pool.connection_kwargs["ssl_check_hostname"] is True
    assert pool.connection_kwargs["socket_timeout"] == 5.0
    assert pool.connection_kwargs["socket_keepalive"] is True


def test_sentinels_keep_tls_timeouts_and_passwords() -> None:
    settings = Settings.load(
        redis_url="rediss://:pw@ignored/2", redis_sentinel="s1:26379,s2", redis_sentinel_master="main"
    )
    pool: Any = redis_address(settings).open_pool().connection_pool
    assert pool.connection_kwargs["socket_timeout"] == 5.0
    assert pool.connection_kwargs["password"] == "pw"
    assert pool.connection_kwargs["db"] == 2
    assert redis_address(settings).sentinels == (("s1", 26379), ("s2", 26379))
