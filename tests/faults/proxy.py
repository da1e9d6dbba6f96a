"""A proxy in front of Redis that reads along, and loses, holds or cuts exactly the command that a test names."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any, cast

from redis.asyncio.connection import parse_url

from service.engine.script_text import source
from service.engine.scripts import digest

Command = list[bytes]


class Do(Enum):
    """What happens to a command that a rule matches."""

    PASS = auto()
    """Only counted."""
    CUT_BEFORE = auto()
    """The link is reset; Redis never sees the command."""
    CUT_AFTER = auto()
    """Redis runs the command; the link is reset instead of its reply."""
    HOLD_BEFORE = auto()
    """The command waits at the proxy until the rule is released."""
    HOLD_REPLY = auto()
    """Redis runs the command; its reply waits at the proxy until the rule is released."""


class Rule:
    """Does something to the next `times` commands that match: a script by its name, or a command by its own."""

    def __init__(self, name: str, do: Do, times: int) -> None:
        self._wanted = {name.upper().encode()}
        if name.islower():
            for allow_oom in (False, True):
                self._wanted |= {digest(name, allow_oom=allow_oom).encode(), source(name, allow_oom=allow_oom).encode()}
        self.do = do
        self.left = times
        self.hits = 0
        self.hit = asyncio.Event()
        self._released = asyncio.Event()

    def takes(self, command: Command) -> bool:
        named = command[0].upper() in self._wanted or (len(command) > 1 and command[1] in self._wanted)
        if not named or self.left == 0:
            return False
        self.left -= 1
        self.hits += 1
        self.hit.set()
        return True

    def release(self) -> None:
        """Let what is held go on, and match nothing any more."""
        self.left = 0
        self._released.set()

    async def released(self) -> None:
        await self._released.wait()


class _Link:
    """One client's connection and its twin to Redis."""

    def __init__(self, proxy: "Proxy", client: "_Ends", server: "_Ends") -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._reply_rule: Rule | None = None
        self._sent: set[bytes] = set()

    def has_sent(self, name: str) -> bool:
        return name.encode() in self._sent

    def freeze(self) -> None:
        """Nothing passes any more, in either direction, and neither end is told."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def cut(self) -> None:
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            for pump in pumps:
                if not pump.cancelled() and not isinstance(pump.exception(), OSError | asyncio.IncompleteReadError):
                    pump.result()

    async def _requests(self) -> None:
        reader, writer = self._client[0], self._server[1]
        while True:
            raw, command = await _read_command(reader)
            await self._thawed.wait()
            self._proxy.commands += 1
            self._sent.add(command[0].upper())
            rule = next((rule for rule in self._proxy.rules if rule.takes(command)), None)
            match rule.do if rule else None:
                case Do.CUT_BEFORE:
                    return
                case Do.HOLD_BEFORE if rule:
                    await rule.released()
                case Do.CUT_AFTER | Do.HOLD_REPLY:
                    self._reply_rule = rule
                case _:
                    pass
            writer.write(raw)
            await writer.drain()

    async def _replies(self) -> None:
        reader, writer = self._server[0], self._client[1]
        while data := await reader.read(65536):
            await self._thawed.wait()
            rule, self._reply_rule = self._reply_rule, None
            if rule is not None and rule.do is Do.CUT_AFTER:
                return
            if rule is not None:
                await rule.released()
            writer.write(data)
            await writer.drain()


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, Command]:
    """One command as sent, and its words (RESP: an array of bulk strings)."""
    lines = [await reader.readuntil(b"\n")]
    words: Command = []
    for _ in range(int(lines[0][1:])):
        lines.append(await reader.readuntil(b"\n"))
        lines.append(await reader.readexactly(int(lines[-1][1:]) + 2))
        words.append(lines[-1][:-2])
    return b"".join(lines), words


class Proxy:
    """Listens on loopback; `upstream` is the server that new links go to."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.rules: list[Rule] = []
        self.commands = 0
        self.refusing = False
        self.refused = 0
        self.silent = False
        """New links are taken and then nothing passes: with `freeze`, a black hole."""

        self._links: dict[asyncio.Task[None], _Link] = {}
        self._port = 0

    @property
    def url(self) -> str:
        password = cast("dict[str, Any]", dict(parse_url(self.upstream))).get("password")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self._port}/0"

    @property
    def links(self) -> int:
        return len(self._links)

    def having_sent(self, name: str) -> int:
        """How many of the links that are open have sent a command, such as XREAD."""
        return sum(link.has_sent(name) for link in self._links.values())

    def on(self, name: str, do: Do, times: int = 1) -> Rule:
        """What to do to the next `times` calls of a script (`claim`) or command (`EXEC`)."""
        rule = Rule(name, do, times)
        self.rules.append(rule)
        return rule

    def freeze(self, having_sent: str | None = None) -> int:
        """Links that are open now go silent, as when a firewall drops its state. New ones pass. Returns how many.

        `having_sent` picks those that have sent a command, such as SUBSCRIBE.
        """
        chosen = [link for link in self._links.values() if having_sent is None or link.has_sent(having_sent)]
        for link in chosen:
            link.freeze()
        return len(chosen)

    def thaw(self) -> None:
        """What was held back in frozen links passes."""
        for link in self._links.values():
            link.thaw()

    def cut(self) -> None:
        """Reset every link that is open now."""
        for link in self._links.values():
            link.cut()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator["Proxy"]:
        """Serve while the block lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**24)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for rule in self.rules:
                rule.release()
            for task in list(self._links):
                task.cancel()
            if self._links:
                await asyncio.wait(set(self._links))
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            ends = None if self.refusing else await self._connect()
            if ends is None:
                self.refused += 1
            else:
                link = self._links[task] = _Link(self, (reader, writer), ends)
                if self.silent:
                    link.freeze()
                with contextlib.suppress(asyncio.CancelledError):
                    await link.run()
        finally:
            self._links.pop(task, None)
            writer.transport.abort()

    async def _connect(self) -> "_Ends | None":
        target = cast("dict[str, Any]", dict(parse_url(self.upstream)))
        try:
            if "path" in target:
                return await asyncio.open_unix_connection(target["path"])
            return await asyncio.open_connection(target["host"], target["port"])
        except OSError:
            return None
