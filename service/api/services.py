"""What every endpoint may use, opened by the lifespan and carried in `app.state`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from starlette.requests import Request

from service.api import shapes
from service.api.presenting import present_function
from service.engine import Engine, FileStore
from service.settings import Settings


@dataclass(frozen=True)
class Services:
    engine: Engine
    files: FileStore
    settings: Settings

    @cached_property
    def functions(self) -> Mapping[str, shapes.Function]:
        """Every function as the API shows it, sorted by name. They are the same for the life of the process."""
        return {function.name: present_function(function) for function in self.engine.functions}


def services(request: Request) -> Services:
    """The services of the app that serves `request`."""
    return cast("Services", request.app.state.services)
