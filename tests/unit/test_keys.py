"""Keys are ARQ's where ARQ has them, and names cannot reach another's."""

import arq.constants
import pytest

from service.engine import check_name, keys


def test_arq_reads_and_writes_the_same_keys() -> None:
    assert keys.payload("x") == arq.constants.job_key_prefix + "x"
    assert keys.lease("x") == arq.constants.in_progress_key_prefix + "x"
    assert keys.result("x") == arq.constants.result_key_prefix + "x"
    assert keys.count("x") == arq.constants.retry_key_prefix + "x"
    assert keys.queue("default") == arq.constants.default_queue_name


@pytest.mark.parametrize("name", ["mail", "a.b:c-d_e", "x" * 128])
def test_a_queue_keeps_the_name_that_it_has_in_arq(name: str) -> None:
    assert keys.queue(check_name(name, "queue")) == name
    assert keys.queue_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "a/b", "ä", "a\n", "arq:job:1", "arqade:events"])
def test_names_that_could_be_other_keys_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="queue"):
        check_name(name, "queue")
