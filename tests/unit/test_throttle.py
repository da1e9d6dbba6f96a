"""Progress in a stream: four reports a second of one job, and always the last one."""

from datetime import UTC, datetime
from typing import Any

from service.api.throttle import INTERVAL, Throttle
from service.engine import Event

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def progress(current: int, job_id: str = "job_1") -> Event:
    return Event(f"evt_1-{current}-1", "job.progress", NOON, {"job_id": job_id, "current": current})


def ended(job_id: str = "job_1") -> Event:
    return Event("evt_2-0-1", "job.succeeded", NOON, {"job_id": job_id})


def shown(events: list[Event]) -> list[Any]:
    return [event.data.get("current", event.type) for event in events]


def test_what_comes_too_soon_is_held_and_overtaken_by_what_is_newer() -> None:
    throttle = Throttle()
    assert shown(throttle.pass_on([progress(1), progress(2), progress(3)], 10.0)) == [1]
    assert throttle.wait(10.0) == INTERVAL
    assert throttle.pass_on([progress(4)], 10.1) == []
    (late,) = throttle.pass_on([], 10.0 + INTERVAL)
    assert (late.data["current"], late.id) == (4, None), "its id would lead back behind what was sent meanwhile"
    assert throttle.wait(10.3) == float("inf")
    assert throttle.pass_on([progress(5)], 10.4) == [], "a held one counts when it is sent"


def test_a_flood_makes_four_reports_a_second() -> None:
    throttle = Throttle()
    sent = sum(len(throttle.pass_on([progress(n)], n / 1000)) for n in range(1_000))
    assert sent == 4


def test_the_last_report_comes_before_what_follows_it() -> None:
    throttle = Throttle()
    assert shown(throttle.pass_on([progress(1), progress(2), ended()], 10.0)) == [1, 2, "job.succeeded"]


def test_the_end_of_a_stream_holds_nothing_back() -> None:
    throttle = Throttle()
    throttle.pass_on([progress(1), progress(2)], 10.0)
    assert shown(throttle.pass_on([], float("inf"))) == [2]


def test_jobs_do_not_hold_each_other_back() -> None:
    throttle = Throttle()
    many = [progress(n, f"job_{n}") for n in range(5_000)]
    assert throttle.pass_on(many, 10.0) == many
    assert throttle.pass_on(many[:10], 10.1) == []
    assert len(throttle.pass_on([], 11.0)) == 10
