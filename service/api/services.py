"""What every endpoint may use, opened by the lifespan and carried in `app.state`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from starlette.requests import Request

from service.api.door import Door
from service.api.event_frames import Frames
from service.api.open_streams import OpenStreams
from service.api.presenting import present_function
from service.api.shapes.functions import FunctionDescription
from service.engine import Engine, FileStore
from service.settings import Settings


@dataclass(frozen=True)
class Services:
    engine: Engine
    files: FileStore
    settings: Settings

    @cached_property
    def door(self) -> Door:
        """Lets callers in."""
        return Door(self.engine.credentials, self.settings)

    @cached_property
    def streams(self) -> OpenStreams:
        """Those of this process."""
        return OpenStreams(self.settings.max_streams, self.settings.max_streams_per_caller)

    @cached_property
    def frames(self) -> Frames:
        """Events as all streams of `/v1/events` show them."""
        return Frames()

    @cached_property
    def functions(self) -> Mapping[str, FunctionDescription]:
        """Every function as the API describes it, sorted by name. They are the same for the life of the process."""
        return {function.name: present_function(function) for function in self.engine.functions}


def services(request: Request) -> Services:
    """The services of the app that serves `request`."""
    return cast("Services", request.app.state.services)
