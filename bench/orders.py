"""What the parent tells a child process: one JSON argument."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """A worker takes `url`, `slots`, `poll`; a driver `url`, `function`, and `count` or `rate` and `seconds`; a server
    `url`, `folder`, `port`.

    `slots`: jobs at a time. `poll`: seconds, for systems that poll; None is the system's default.
    """

    url: str
    slots: int = 100
    poll: float | None = None
    function: str = "noop"
    count: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    folder: str = ""
    port: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))
