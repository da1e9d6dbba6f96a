"""What nobody expected: logged with its traceback, answered as a 500 that shows nothing of it."""

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Problem, problem_response

_log = structlog.stdlib.get_logger("api")


class LastResort:
    """ASGI middleware around everything that may fail by mistake."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except Exception:
            if begun:
                raise  # the server must cut the answer off, or it would look complete
            _log.exception("unexpected_error", method=scope["method"], path=scope["path"])
            problem = Problem("internal-error", "something went wrong on our side; it has been logged")
            await problem_response(scope, problem)(scope, receive, send)
