"""For the tests of who writes jobs: call a function, run its jobs at once, or run them on a Redis of their own.

The pytest fixtures are in `service.testing.plugin`; nothing else here needs pytest.
"""

from service.testing.eager import Eager
from service.testing.harness import Harness
from service.testing.private_redis import private_redis
from service.testing.trial import Trial

__all__ = ["Eager", "Harness", "Trial", "private_redis"]
