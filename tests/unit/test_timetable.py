"""When schedules are due, above all where clocks change."""

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.errors import InvalidInput
from service.engine.schedules.timetable import LATE, CatchUp, Step, Timetable, step

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def table(
    cron: str | None = None, every: float | None = None, zone: str = "UTC", anchor: int = 0, ends: int | None = None
) -> Timetable:
    return Timetable(cron=cron, every=every, timezone=zone, anchor=anchor, ends=ends)


def local(ticks: list[int], zone: str) -> list[str]:
    return [datetime.fromtimestamp(tick / 1000, ZoneInfo(zone)).isoformat(timespec="minutes") for tick in ticks]


def test_a_fixed_time_that_the_clock_skips_runs_right_after() -> None:
    ticks = table("30 2 * * *", zone=BERLIN).upcoming(at("2026-03-28T12:00", BERLIN), 2)
    assert local(ticks, BERLIN) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]


def test_a_fixed_time_that_comes_twice_runs_once() -> None:
    ticks = table("30 2 * * *", zone=BERLIN).upcoming(at("2026-10-24T12:00", BERLIN), 2)
    assert local(ticks, BERLIN) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_what_runs_each_minute_goes_on_by_real_time(zone: str, day: str) -> None:
    begin = at(f"{day}T00:00", zone)
    ticks = table("* * * * *", zone=zone).upcoming(begin, 600)
    assert [later - earlier for earlier, later in pairwise(ticks)] == [60_000] * 599


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_a_day_in_new_york_has_as_many_ticks_as_it_has_minutes(day: str, hours: int) -> None:
    begin = at(f"{day}T00:00", NEW_YORK)
    end = int((datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(NEW_YORK)) + timedelta(days=1)).timestamp() * 1000)
    ticks = table("* * * * *", zone=NEW_YORK).upcoming(begin - 1, 2000)
    assert len([tick for tick in ticks if tick < end]) == hours * 60


def test_each_tick_is_later_than_the_one_before_through_a_whole_year() -> None:
    ticks = table("15,45 1-3 * * *", zone=NEW_YORK).upcoming(at("2026-01-01T00:00"), 6 * 365)
    assert all(later > earlier for earlier, later in pairwise(ticks))
    in_the_year = [tick for tick in ticks if tick < at("2027-01-01T00:00", NEW_YORK)]
    assert len(in_the_year) == 6 * 365 - 1, "of 8 March, 2:15 and 2:45 are both made up for at 3:00"


def test_seconds_come_first_when_there_are_six_fields() -> None:
    ticks = table("*/20 * * * * *").upcoming(at("2026-01-01T00:00:05"), 3)
    assert ticks == [at("2026-01-01T00:00:20"), at("2026-01-01T00:00:40"), at("2026-01-01T00:01:00")]


def test_intervals_are_counted_from_the_anchor() -> None:
    hourly = table(every=3600, anchor=at("2026-01-01T00:10"))
    assert hourly.upcoming(at("2026-01-01T05:00"), 2) == [at("2026-01-01T05:10"), at("2026-01-01T06:10")]
    assert hourly.after(at("2025-01-01T00:00")) == at("2026-01-01T00:10"), "never before the anchor"


@given(st.integers(1, 10**12), st.integers(1, 10**6), st.integers(0, 10**12))
def test_an_interval_never_repeats_and_never_skips(anchor: int, every: int, moment: int) -> None:
    found = table(every=every, anchor=anchor).after(moment)
    assert found is not None
    assert found > moment
    assert (found - anchor) % (every * 1000) == 0
    assert found == anchor or found - moment <= every * 1000


def test_it_ends() -> None:
    ending = table("0 * * * *", ends=at("2026-01-01T02:00"))
    assert ending.upcoming(at("2026-01-01T00:00"), 10) == [at("2026-01-01T01:00"), at("2026-01-01T02:00")]


def test_jitter_delays_and_all_workers_agree_on_it() -> None:
    one, other = (Timetable(None, 60, "UTC", 0, jitter=30, seed="sch_1") for _ in range(2))
    delays = [one.fires_at(tick) - tick for tick in one.upcoming(0, 200)]
    assert delays == [other.fires_at(tick) - tick for tick in other.upcoming(0, 200)]
    assert 0 <= min(delays) < 5_000
    assert 25_000 < max(delays) <= 30_000


@pytest.mark.parametrize(
    ("cron", "every", "zone", "pointer"),
    [
        ("0 0 30 2 *", None, "UTC", "/cron"),
        ("61 * * * *", None, "UTC", "/cron"),
        ("* * * *", None, "UTC", "/cron"),
        ("* * * * * * *", None, "UTC", "/cron"),
        ("1," * 100 + "1 * * * *", None, "UTC", "/cron"),
        ("", None, "UTC", "/cron"),
        (None, None, "UTC", "/cron"),
        ("* * * * *", 60.0, "UTC", "/cron"),
        (None, 0.5, "UTC", "/every"),
        (None, 1e12, "UTC", "/every"),
        ("* * * * *", None, "Mars/Olympus", "/timezone"),
        ("* * * * *", None, "../etc/passwd", "/timezone"),
        ("* * * * *", None, "", "/timezone"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    cron: str | None, every: float | None, zone: str, pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        table(cron, every, zone).check()
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


@pytest.mark.parametrize(("cron", "every"), [(None, 60.0), ("* * * * *", None), ("0,1 6 * * *", None)])
def test_a_jitter_that_would_reach_the_next_tick_is_refused(cron: str | None, every: float | None) -> None:
    Timetable(cron, every, "UTC", 0, jitter=59).check()
    with pytest.raises(InvalidInput) as refused:
        Timetable(cron, every, "UTC", 0, jitter=60).check()
    assert refused.value.problems[0].pointer == "/jitter"


@pytest.mark.parametrize("cron", ["* * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 12 1,15 * *", "5 4 * * sun"])
@given(moment=st.integers(at("2026-01-01T00:00"), at("2027-01-01T00:00")))
@settings(max_examples=40)
def test_looking_back_finds_what_looking_forward_has_found(cron: str, moment: int) -> None:
    berlin = table(cron, zone=BERLIN)
    tick = berlin.after(moment)
    assert tick is not None
    assert berlin.before(tick) == tick
    assert berlin.before(tick - 1) <= moment


MINUTE, HOUR = 60_000, 3_600_000


def late(policy: CatchUp, minutes: int, window: int = HOUR) -> Step:
    """The step for a schedule of each minute whose tick 0 is looked at that much later."""
    return step(table(every=60), policy, window, 0, minutes * MINUTE + 20_000)


@pytest.mark.parametrize("policy", list(CatchUp))
def test_a_tick_on_time_is_fired_whatever_the_policy(policy: CatchUp) -> None:
    assert step(table(every=60), policy, HOUR, 0, LATE) == Step(0, True, 0, MINUTE)


def test_skip_lets_all_that_is_late_go() -> None:
    assert late(CatchUp.SKIP, 3) == Step(3 * MINUTE, False, 4, 4 * MINUTE)


def test_skip_fires_the_one_that_is_just_due() -> None:
    assert step(table(every=60), CatchUp.SKIP, HOUR, 0, 3 * MINUTE + 1) == Step(3 * MINUTE, True, 3, 4 * MINUTE)


def test_once_fires_the_last_of_them() -> None:
    assert late(CatchUp.ONCE, 3) == Step(3 * MINUTE, True, 3, 4 * MINUTE)


def test_all_fires_one_after_another() -> None:
    assert late(CatchUp.ALL, 3) == Step(0, True, 0, MINUTE)


@pytest.mark.parametrize("policy", [CatchUp.ONCE, CatchUp.ALL])
def test_what_is_older_than_the_window_is_not_made_up_for(policy: CatchUp) -> None:
    chosen = late(policy, 10, window=3 * MINUTE)
    assert chosen.fire
    assert chosen.tick == (10 if policy is CatchUp.ONCE else 8) * MINUTE


def test_after_a_year_away_once_is_still_once() -> None:
    now = 365 * 24 * HOUR
    assert step(table(every=1), CatchUp.ONCE, HOUR, 0, now) == Step(now, True, 1000, now + 1000)


def test_what_waits_for_the_end_of_its_jitter_is_not_fired_early() -> None:
    spread = Timetable(None, 3600, "UTC", 0, jitter=3000, seed="sch_1")
    now = spread.fires_at(5 * HOUR) - 1
    assert step(spread, CatchUp.ONCE, 24 * HOUR, 0, now) == Step(4 * HOUR, True, 4, 5 * HOUR)
