"""What a function's docstring says of it: a first line, what follows, and examples.

An example is a call of the function in a line that begins with `>>>`, and below it what comes back:

    >>> await hello(name="Ada")
    'Hello, Ada!'

The arguments are literals; a function that takes a Context is called with `ctx` first. The result may be left out.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.engine import Function, InvalidInput

_EXAMPLE: Final = re.compile(
    r"""^(?:[ \t]*Examples?:?[ \t]*\n)?      # a heading, perhaps
    [ \t]*>>>[ ].*\n?                        # the call
    (?:[ \t]*(?!>>>[ ])[^ \t\n].*\n?)*""",  # its other lines and what comes back, up to an empty one
    re.MULTILINE | re.VERBOSE,
)
_GAP: Final = re.compile(r"\n{3,}")
_CONTINUED: Final = "... "


@dataclass(frozen=True, slots=True)
class Example:
    """One call: what is passed by name, and what comes back, if that is shown."""

    call: str
    input: Mapping[str, Any]
    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Docstring:
    summary: str
    description: str
    examples: tuple[Example, ...]


def read_docstring(function: Function) -> Docstring:
    """What is no example of the function, or would be refused by it, is left out."""
    prose = _GAP.sub("\n\n", _EXAMPLE.sub("", function.doc))
    first, _, rest = prose.strip().partition("\n\n")
    examples = (_example(block[0], function) for block in _EXAMPLE.finditer(function.doc))
    return Docstring(
        " ".join(first.replace("`", "").split()).removesuffix("."),
        rest.strip(),
        tuple(example for example in examples if example is not None),
    )


def _example(block: str, function: Function) -> Example | None:
    call, result = _split(block)
    try:
        passed = _passed(ast.parse(call, mode="eval").body, function)
        function.validate(passed)
        orjson.dumps(passed)
    except (SyntaxError, ValueError, TypeError, InvalidInput):
        return None
    return Example(call, passed, tuple(_literal(result)))


def _split(block: str) -> tuple[str, str]:
    """The source of the call, and what stands below it."""
    lines = block[block.index(">>> ") + 4 :].splitlines()
    end = next((n for n, line in enumerate(lines) if n and not line.lstrip().startswith(_CONTINUED)), len(lines))
    source = [lines[0], *(line.lstrip().removeprefix(_CONTINUED) for line in lines[1:end])]
    return "\n".join(source).strip(), "\n".join(line.strip() for line in lines[end:])


def _passed(call: ast.expr, function: Function) -> dict[str, Any]:
    """The arguments by name. Raises ValueError for anything but a call of `function` with literals, InvalidInput."""
    if isinstance(call, ast.Await):
        call = call.value
    name = function.body.__name__
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name):
        raise ValueError(f"no call of {name}")
    positional = call.args[1:] if function.takes_context else call.args
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg is not None}
    return function.bind([ast.literal_eval(value) for value in positional], named)


def _literal(text: str) -> Iterator[Any]:
    """The value that is written there, if it is one that JSON has too."""
    try:
        value = ast.literal_eval(text)
        orjson.dumps(value)
    except (SyntaxError, ValueError, TypeError):
        return
    yield value
