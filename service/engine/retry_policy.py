"""When a failed attempt is tried again, and after how long."""

import random
from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, capped; delays are seconds.

    The wait after attempt n is drawn from [0, min(cap, base · 2ⁿ⁻¹)] ("full jitter", Brooker, AWS 2015), so that
    jobs which failed together do not come back together. `never` lists exceptions that are final at once; `only`,
    when given, lists the only ones that are tried again.
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    base: float = 1.0
    cap: float = 300.0
    jitter: bool = True
    never: tuple[type[BaseException], ...] = ()
    only: tuple[type[BaseException], ...] | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts counts the first try too: it is at least 1")
        if self.base < 0 or self.cap < 0:
            raise ValueError("base and cap are seconds and not negative")

    def retries(self, error: BaseException) -> bool:
        """Whether an attempt that ended with `error` may be followed by another."""
        if isinstance(error, self.never):
            return False
        return self.only is None or isinstance(error, self.only)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1)."""
        ceiling = min(self.cap, self.base * 2 ** min(attempt - 1, 32))
        return random.uniform(0, ceiling) if self.jitter else ceiling  # noqa: S311  # spreads load, guards nothing


NO_RETRY: Final = RetryPolicy(max_attempts=1)
