"""What Redis is given of the shared Lua files."""

import re
from collections import Counter

import pytest

from service.engine import keys
from service.engine.script_text import source
from service.engine.scripts import NAMES

TEXT_OR_COMMENT = re.compile(r"'(?:[^'\\\n]|\\.)*'|--[^\n]*")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_what_it_uses_and_no_more(name: str) -> None:
    code = TEXT_OR_COMMENT.sub("", source(name, allow_oom=True))
    words = Counter(re.findall(r"[A-Za-z_]\w*", code))
    shared = re.findall(r"^local (?:function )?(\w+)", code, re.MULTILINE)
    assert [one for one in shared if words[one] < 2] == []
    assert [one for one in words if isinstance(vars(keys).get(one), str)] == [], "names of keys that were not filled in"


def test_what_stands_in_a_text_is_no_name() -> None:
    assert "'ZCOUNT'" in source("claim", allow_oom=False)
    assert "'arq:retry:' .. " in source("claim", allow_oom=False)
