"""Ids sort by age, also within a millisecond, and nobody gets one twice."""

import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from service.engine.batch import job_id_of, new_batch_id
from service.engine.ids import made_at, new_id

_FORK: Final = """
import os
from service.engine.ids import new_id
new_id("job_")
child = os.fork()
os.write(1, new_id("job_").encode() + b"\\n")
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_ids_sort_by_age_within_a_millisecond_too() -> None:
    made = [new_id("job_") for _ in range(50_000)]
    assert made == sorted(made)
    assert {len(one) for one in made} == {32}
    assert len(made) > 2 * len({one[:16] for one in made}), "many share a millisecond"


def test_two_batches_of_a_millisecond_share_no_job() -> None:
    batches = [new_batch_id() for _ in range(5_000)]
    jobs = {job_id_of(batch, index) for batch in batches for index in (0, 1, 0xFFFFF)}
    assert len(jobs) == 3 * len(batches)


def test_the_steps_cannot_be_guessed() -> None:
    made = [int(new_id("job_")[4:], 16) for _ in range(1_000)]
    steps = [after - before for before, after in pairwise(made)]
    assert len(set(steps)) == len(steps)
    assert sum(step > 1 << 36 for step in steps) > 900


def test_a_forked_process_makes_other_ids() -> None:
    """In a process that has no threads, as pytest's may have."""
    run = subprocess.run([sys.executable, "-c", _FORK], check=True, capture_output=True, text=True, timeout=30)
    mine, theirs = (int(one[16:], 16) for one in run.stdout.split())
    assert abs(mine - theirs) > 1 << 42


def test_an_id_says_when_it_was_made_and_a_foreign_one_does_not() -> None:
    made = made_at(new_id("sch_"))
    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < 5
    assert made_at("somebody's own") is None
    assert made_at("x" * 28) is None
