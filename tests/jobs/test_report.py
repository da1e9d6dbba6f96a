"""`make_report`: what it counts, what it writes down, and that both can be opened without harm."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any, Final
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from jobs.daily_report import REPORT_TO, daily_report
from jobs.make_report import Report, make_report
from jobs.report import Count, Now, Period, count, page, table
from jobs.report.chart import HEIGHT, Bar, Series, bars
from jobs.report.figures import MOST_FUNCTIONS, OTHERS, Tally, by_function, by_stretch
from jobs.send_email import send_email
from service.engine import (
    FROM_WORKER,
    RESET,
    Catalogue,
    Context,
    Engine,
    Event,
    Fail,
    FileStore,
    InvalidInput,
    Job,
    Pause,
    Progress,
    QueueInfo,
    Resource,
    RetryPolicy,
    job,
)
from service.outgoing import MailServer
from service.settings import Settings
from tests.jobs.mail_peer import MailPeer, mail_peer
from tests.stage import Stage, ask, done, eventually

NOON: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY: Final = Period.last(24, NOON)
EVIL: Final = "<script src='https://evil.example/x.js'>alert(1)</script>"


@job()
async def double(number: int) -> int:
    return 2 * number


@job()
async def refuse() -> None:
    raise Fail("never")


def event(kind: str, job_id: str, minutes: float, function: str = "double", **data: Any) -> Event:
    """One of a job, so many minutes before noon."""
    return Event(None, kind, NOON - timedelta(minutes=minutes), {"job_id": job_id, "function": function, **data})


def counted(*events: Event, period: Period = DAY) -> Count:
    """What is counted of these."""
    counting = Count(period)
    for one in events:
        counting.take(one)
    return counting


def shown(counting: Count, now: Now | None = None) -> str:
    return page(counting, DAY, now or Now([], []), ZoneInfo("UTC"))


class Opened(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)
        if tag in {"td", "h1"}:
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"td", "h1"}:
            self.cells[-1] += data


def test_what_became_of_jobs_is_counted_in_the_stretch_in_which_it_was_told() -> None:
    counting = counted(
        event("job.created", "a", 90),
        event("job.started", "a", 70),
        event("job.retrying", "a", 69, error={"type": "ValueError"}),
        event("job.started", "a", 30),
        event("job.succeeded", "a", 29.5),
        event("job.started", "b", 20),
        event("job.lost", "b", 15),
        event("job.started", "b", 15),
        event("job.failed", "b", 14, error={"type": "Fail", "message": "never"}),
        event("job.cancelled", "c", 10),
        event("job.expired", "d", 9),
        event("queue.paused", "", 8),
    )
    (name, total), *more = by_function(counting.cells)
    assert (name, more) == ("double", [])
    assert (total.created, total.succeeded, total.failed, total.cancelled, total.expired) == (1, 1, 1, 1, 1)
    assert (total.retried, total.lost) == (1, 1)
    assert sorted(total.seconds) == [30, 60, 60], "of a lost attempt nobody knows how long it ran"
    assert (total.within(0.5), total.within(0.95)) == (60, 60)
    stretches = dict(by_stretch(counting.cells, DAY))
    assert (stretches[NOON - timedelta(hours=2)].created, stretches[NOON - timedelta(hours=1)].done) == (1, 4)
    assert [(one.function, one.error, one.times, one.last) for one in counting.failures.values()] == [
        ("double", "Fail", 1, "b")
    ]


def test_what_was_before_the_period_only_tells_when_attempts_began() -> None:
    counting = counted(event("job.started", "a", 24 * 60 + 1), event("job.succeeded", "a", 24 * 60 - 1))
    ((_, total),) = by_function(counting.cells)
    assert (total.succeeded, total.seconds) == (1, [120])
    assert counted(event("job.succeeded", "a", 24 * 60 + 1)).cells == {}
    assert counted(event("job.succeeded", "a", -1)).cells == {}


async def test_counting_begins_anew_when_the_beginning_is_trimmed_away_meanwhile() -> None:
    async def events() -> AsyncIterator[Event]:
        yield event("job.succeeded", "a", 10)
        yield Event(None, RESET, datetime.fromtimestamp(0, UTC), {})
        yield event("job.succeeded", "b", 9)
        yield event("job.succeeded", "c", -1)
        yield event("job.succeeded", "d", 5)

    async def told(_: datetime) -> None: ...

    counting = await count(events(), DAY, told)
    assert [tally.succeeded for tally in counting.cells.values()] == [1]
    assert counting.first == NOON - timedelta(minutes=9)


@pytest.mark.parametrize(("hours", "stretches"), [(1, 12), (3, 36), (12, 48), (24, 24), (48, 48), (168, 28)])
def test_a_period_has_a_readable_number_of_stretches(hours: int, stretches: int) -> None:
    assert len(Period.last(hours, NOON).stretches()) == stretches
    assert len(Period.last(hours, NOON + timedelta(minutes=1)).stretches()) == stretches + 1


def test_of_very_many_functions_the_least_busy_are_one_line() -> None:
    cells = {(NOON, f"f{number}"): Tally(succeeded=1 + (number < MOST_FUNCTIONS)) for number in range(150)}
    lines = by_function(cells)
    assert len(lines) == MOST_FUNCTIONS + 1
    assert (lines[-1][0], lines[-1][1].succeeded) == (OTHERS, 50)


def test_whatever_comes_from_outside_is_text_in_the_page_and_nothing_is_loaded() -> None:
    """Seen to fail with `_cell` not escaping."""
    queue = QueueInfo("default", 1234, 0, 0, 90.0, Pause("me", EVIL, NOON))
    opened = Opened(shown(counted(event("job.failed", EVIL, 5, EVIL, error={"type": EVIL})), Now([queue], [])))
    assert opened.tags.isdisjoint({"script", "img", "link", "iframe", "a", "image", "use", "foreignobject"})
    assert opened.attributes.isdisjoint({"src", "href", "srcset", "onclick", "onload"})
    assert opened.cells.count(EVIL) == 5, "twice the function, error, job and the reason of the pause"
    assert {"1,234", "90.0 s"} <= set(opened.cells)
    assert "default-src 'none'" in shown(counted())


def test_how_far_back_the_events_reach_is_said() -> None:
    assert "there is none" in shown(counted())
    assert "the oldest is of 2026-11-21 11:50" in shown(counted(event("job.created", "a", 10)))
    assert "Counted from" not in shown(counted(event("job.created", "a", 24 * 60)))


def test_the_chart_stacks_its_bars_to_scale_and_is_well_formed() -> None:
    series = (Series("good", "green"), Series("bad", "red"))
    drawn = ET.fromstring(bars("<&>", series, [Bar("1", (30, 10)), Bar("2", (0, 0)), Bar("3", (5, 0))]))
    rectangles = [(one.get("fill"), float(one.get("y", 0)), float(one.get("height", 0))) for one in drawn.iter("rect")]
    (_, good_top, good), (_, bad_top, bad), (_, _, small) = rectangles
    assert good == pytest.approx(3 * bad, abs=0.2)
    assert good == pytest.approx(6 * small, abs=0.2)
    assert bad_top + bad == pytest.approx(good_top, abs=0.2)
    assert bad_top == pytest.approx(12, abs=0.2), "the highest bar fills the chart"
    assert good_top + good == pytest.approx(HEIGHT - 28, abs=0.2)
    assert [text.text for text in drawn.iter("text")] == ["0", "10", "20", "30", "40", "1", "2", "3"]
    assert [title.text for title in drawn.iter("title")] == ["<&>", "1: 30 good, 10 bad", "2", "3: 5 good"]


def test_the_table_has_a_line_for_each_function_and_stretch_and_no_formula() -> None:
    """Seen to fail without `_harmless`."""
    counting = counted(
        event("job.started", "a", 61.5, "=1+1"),
        event("job.succeeded", "a", 61, "=1+1"),
        event("job.succeeded", "b", 1),
        event("job.succeeded", "c", 1),
    )
    first, second = csv.DictReader(io.StringIO(table(counting.cells)))
    assert (first["since"], first["function"], first["p95_s"]) == ("2026-11-21T10:00:00Z", "'=1+1", "30.000")
    assert (second["function"], second["succeeded"], second["p95_s"]) == ("double", "2", "")


@job(retry=RetryPolicy(max_attempts=2, base=0.0))
async def twice(ctx: Context, mail_to: list[str], *, engine: Annotated[Engine, Resource()] = FROM_WORKER) -> Report:
    """A report whose first attempt fails when all is done."""
    report = await make_report(ctx, mail_to=mail_to, engine=engine)
    if ctx.attempt == 1:
        raise RuntimeError("after all")
    return report


@dataclass(slots=True)
class Office:
    """A worker with all that reports need, some jobs that it has run, and where its mail goes."""

    engine: Engine
    letters: MailPeer

    async def run(self, function: str, **arguments: Any) -> Job:
        """The finished job."""
        jobs = [await self.engine.enqueue(ask("double", input={"number": number})) for number in range(3)]
        jobs.append(await self.engine.enqueue(ask("refuse")))
        for one in jobs:
            await done(self.engine, one)
        return await done(self.engine, await self.engine.enqueue(ask(function, input=arguments)))


@pytest.fixture
async def office(stage: Stage, store: FileStore) -> AsyncIterator[Office]:
    functions = (double, refuse, make_report, daily_report, send_email, twice)
    engine = await stage.engine(*functions)
    async with mail_peer() as peer:
        resources = {
            "files": store,
            "engine": engine,
            "mail_server": MailServer.parse(f"smtp://127.0.0.1:{peer.port}?tls=none", "jobs@arqade.example"),
            REPORT_TO: ("ops@example.org",),
        }
        async with stage.working(*functions, ctx=resources):
            yield Office(engine, peer)


async def test_a_report_on_jobs_that_really_ran(office: Office, store: FileStore) -> None:
    job = await office.run("make_report", hours=1, timezone="Europe/Berlin")
    result = job.result
    assert (result["created"], result["succeeded"], result["failed"], result["failures"]) == (5, 3, 1, 1)
    assert result["mail_job_id"] is None
    assert job.progress == Progress(100, 100, "done")

    opened = Opened((await store.path(result["page_id"])).read_text())
    row = opened.cells.index("double")
    assert opened.cells[row + 1 : row + 4] == ["3", "3", "0"]
    assert "(Europe/Berlin)" in opened.cells[0]
    assert "Fail" in opened.cells
    described = await store.get(result["table_id"])
    assert (described.content_type, described.name[:7]) == ("text/csv; charset=utf-8", "report-")
    rows = csv.DictReader(io.StringIO((await store.path(result["table_id"])).read_text()))
    succeeded = {row["function"]: int(row["succeeded"]) for row in rows}
    assert succeeded == {"double": 3, "refuse": 0, "make_report": 0}


async def test_a_report_is_mailed_once_by_a_job_of_its_own(office: Office, store: FileStore) -> None:
    job = await office.run("daily_report")
    mail = await done(office.engine, await office.engine.get(job.result["mail_job_id"]))
    letter = office.letters.letter()
    assert (mail.function, letter["To"], letter["Subject"]) == (
        "send_email", "ops@example.org", "Jobs of the last 24 hours"
    )  # fmt: skip
    attached = {part.get_filename(): part.get_content() for part in letter.iter_attachments()}
    assert {str(name).rpartition(".")[2] for name in attached} == {"html", "csv"}
    assert (await store.path(job.result["page_id"])).read_text() in {str(text) for text in attached.values()}


async def test_a_second_attempt_makes_no_second_files_and_no_second_mail(office: Office, tmp_path: Path) -> None:
    """Seen to fail with files without a key, and with a mail whose text tells numbers."""
    job = await office.run("twice", mail_to=["ada@example.org"])
    assert [attempt.state for attempt in job.attempts] == ["failed", "succeeded"]
    mail = await done(office.engine, await office.engine.get(job.result["mail_job_id"]))
    assert mail.parent_id == job.id
    made = {path.name for path in (tmp_path / "data" / "files").iterdir()}
    assert made == {f"{job.result[name]}{end}" for name in ("page_id", "table_id") for end in ("", ".json")}
    assert len(office.letters.letters) == 1


async def test_it_runs_by_itself_each_morning(office: Office) -> None:
    engine = office.engine
    schedule = await eventually(lambda: engine.schedules.page(None, 10), bool)
    assert [one.id for one in schedule] == ["sch_daily_report"]
    ticks = await engine.schedules.upcoming("sch_daily_report", 2)
    assert [datetime.fromtimestamp(tick / 1000, UTC).strftime("%H:%M") for tick in ticks] == ["06:00", "06:00"]


@pytest.mark.parametrize(
    "arguments", [{"hours": 0}, {"hours": 169}, {"timezone": "Mars/Olympus"}, {"timezone": "../x"}, {"mail_to": ["x"]}]
)
def test_what_cannot_be_is_refused_before_it_is_enqueued(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Catalogue.of(make_report).get("make_report").validate(arguments)
    assert refused.value.problems[0].pointer.startswith(f"/input/{next(iter(arguments))}")


def test_who_gets_it_is_checked_when_the_service_starts() -> None:
    assert Settings.load(report_to="Ada <ada@example.org>, ops@example.org").report_to == (
        "Ada <ada@example.org>",
        "ops@example.org",
    )
    with pytest.raises(Exception, match="mail address"):
        Settings.load(report_to="nobody")
