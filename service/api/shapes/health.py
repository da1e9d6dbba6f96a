"""Health."""

from typing import Literal

from typing_extensions import TypedDict


class Alive(TypedDict):
    alive: Literal[True]


class Check(TypedDict):
    ok: bool
    detail: str


class Readiness(TypedDict):
    ready: Literal[True]
    checks: dict[str, Check]
