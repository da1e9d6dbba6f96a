"""`compose.yaml` as it is written: what can be proved without a container engine."""

import pytest

from service.settings import PREFIX, Settings
from tests.ship.shipped import ROOT, Service, compose, dockerfile, services

ALL = list(services().values())
OURS = [service for service in ALL if service.name != "redis"]


def test_the_services() -> None:
    assert {service.name for service in ALL} == {"redis", "api", "worker"}


@pytest.mark.parametrize("service", ALL, ids=lambda service: service.name)
def test_nothing_may_be_written_or_gained(service: Service) -> None:
    raw = service.raw
    assert raw["read_only"] is True
    assert raw["cap_drop"] == ["ALL"]
    assert raw["security_opt"] == ["no-new-privileges:true"]
    assert str(raw["user"]).split(":", maxsplit=1)[0] not in {"", "0", "root"}
    assert "privileged" not in raw
    assert all(entry.startswith("/tmp:size=") for entry in raw["tmpfs"])
    assert raw["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_the_environment_makes_settings(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(service.environment) <= fields, "each variable is a setting"
    assert all(isinstance(value, str) for value in service.environment.values()), "YAML must not turn it into something"
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    settings = Settings.load()

    assert settings.environment == "production"
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"


def test_a_worker_is_given_more_time_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = services()["worker"]
    monkeypatch.setenv("ARQADE_GRACE_PERIOD", worker.environment["ARQADE_GRACE_PERIOD"])

    assert Settings.load().grace_period + 5 <= worker.stop_grace_period


def test_data_lies_in_volumes_that_exist() -> None:
    mounts = {service.name: service.raw["volumes"] for service in ALL}
    assert mounts == {"redis": ["redis:/data"], "api": ["files:/data"], "worker": ["files:/data"]}
    assert set(compose()["volumes"]) == {"redis", "files"}
    assert {service.environment["ARQADE_DATA_DIR"] for service in OURS} == {"/data"}


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    api, *others = sorted(ALL, key=lambda service: service.name)
    assert api.raw["ports"] == [f"127.0.0.1:8000:{api.environment['ARQADE_PORT']}"]
    assert all("ports" not in other.raw for other in others)
    assert compose()["networks"]["inside"] == {"internal": True}
    assert services()["redis"].raw["networks"] == ["inside"]


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.name)
def test_redis_is_waited_for(service: Service) -> None:
    assert service.raw["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_our_services_are_one_image_run_by_its_own_user() -> None:
    (user,) = {instruction.text for instruction in dockerfile() if instruction.name == "USER"}
    for service in OURS:
        assert service.raw["user"] == user
        assert (ROOT / service.raw["build"]["context"]).resolve() == ROOT
        assert (ROOT / service.raw["build"]["dockerfile"]).is_file()
    assert len({service.raw["image"] for service in OURS}) == 1
