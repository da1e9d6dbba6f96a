"""Files that `summarize_csv` cannot summarise: each ends the job at once and says why."""

from pathlib import Path

import pytest

from jobs.csv_profile import Limits, Profile
from jobs.summarize_csv import summarize_csv
from service.engine import Context, Fail
from tests.jobs.conftest import Summarize

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("\ufeff", "the file is empty"),
        (" \n\r\n\t", "the file is empty"),
        (PNG, "binary"),
        (b"PK\x03\x04" + bytes(100), "binary"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("stadt\nZürich\n".encode("latin-1"), "UTF-8: byte 7"),
        (
            b"a,b\n" + b"1,2\n" * 200_000 + "Zürich,2\n".encode("latin-1"),
            "near line (19|20)[0-9]{4}: the file is not UTF-8",
        ),
        (b"a,b\n" + b"1,2\n" * 200_000 + b"1,\0\n", "line 200002: the file is binary"),
        ("a,b\n1,2\n3,4,5\n6,7\n", "line 3: 3 cells, but the header has 2"),
        ('a,b\n1,2\n"x"y,2\n', "line 3: not CSV: ',' expected after '\"'"),
        ('a,b\n1,2\n"x,2\n3,4\n', "line 4: not CSV: unexpected end of data"),
        ('a,b\n"' + "x\n" * 100_000, "not CSV: field larger than field limit"),
        ('"a\n' + "1,2\n" * 100_000, "not CSV: field larger than field limit"),
        ("a,b\n" + ",".join(['"x\n"'] * 300_000), "the row is longer than 1 MiB"),
        ("a,b\n" + "1," * 600_000, "line 2: the row is longer than 1 MiB"),
        (",".join(["x"] * 501), "the header has 501 columns, more than 500"),
    ],
)
async def test_what_is_no_csv_fails_for_good(summarize: Summarize, content: str | bytes, reason: str) -> None:
    with pytest.raises(Fail, match=reason):
        await summarize(content)


@pytest.mark.parametrize("file_id", ["file_" + "0" * 28, "../../etc/passwd", ""])
async def test_an_unknown_file_fails_for_good(context: Context, file_id: str) -> None:
    with pytest.raises(Fail, match="no file"):
        await summarize_csv(context, file_id)


async def test_nothing_is_left_of_a_refused_file(summarize: Summarize, tmp_path: Path) -> None:
    with pytest.raises(Fail):
        await summarize("a,b\n" + "1,2\n" * 10_000 + "1,2,3\n")

    assert list((tmp_path / "data" / "tmp").iterdir()) == []


def test_what_does_not_fit_into_the_memory_limit_fails_for_good(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("a,b\n" + "".join(f"{number:0200},x\n" for number in range(50_000)))

    with pytest.raises(Fail, match="does not fit into the 1 MiB"):
        Profile(path, path.stat().st_size, tmp_path / "tmp", Limits(memory=1 << 20)).run()
