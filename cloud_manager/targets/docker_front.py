"""The stable address of a project on a Docker Engine: a relay, turned to another revision between two connections.

Runs alone, in a container of its own, on any python from 3.7 on; it needs no manager. The manager puts a wish beside
it (`wish.json`: which container is to serve, and how its health is asked); the front asks that container until it
answers, then gives it all new connections, and says how things stand in `state.json`. Connections to the container
before go on for as long as that lives.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

PORT = 8080
"""Where it listens, inside its container."""
_TICK = 0.2
_CHUNK = 64 * 1024
_BACKLOG = 1024
_IDLE = 60
"""Seconds without a byte after which the system asks whether a peer is still there."""
_STATE_SIZE = 2048
"""Always the same: the Engine reads a file's size first, and its bytes when there may be another in its place."""
if TYPE_CHECKING:  # python 3.7 cannot evaluate it
    Backend = tuple[str, int]


class Front:
    def __init__(self, folder: Path) -> None:
        self._wish_file = folder / "wish.json"
        self._state_file = folder / "state.json"
        self._read = ""
        self._written = ""
        self._open: Counter[str] = Counter()
        self.wish: dict[str, Any] = {}
        self.active: Backend | None = None
        self.verdict = "starting"
        self.reason = ""
        self._began = time.monotonic()
        self._fails = 0
        self._failing_since = 0.0
        self._refused = False
        self._next_probe = 0.0

    async def serve(self, port: int) -> None:
        self._restore()
        self._tell()
        everywhere = "0.0.0.0"  # noqa: S104 - its container's own
        server = await asyncio.start_server(self._accept, everywhere, port, backlog=_BACKLOG)
        async with server:
            while True:
                self._read_wish()
                if self.wish:
                    await self._look()
                self._tell()
                await asyncio.sleep(_TICK)

    async def _look(self) -> None:
        if self.verdict == "starting":
            await self._try_candidate()
        elif self.active == self._backend() and time.monotonic() >= self._next_probe:
            await self._check_active()

    async def _try_candidate(self) -> None:
        failure = await self._probe()
        if not failure:
            self.active, self.verdict, self.reason = self._backend(), "ready", ""
            self._note(False, False)
        elif time.monotonic() - self._began > self.wish["startup"]:
            self.verdict, self.reason = "failed", failure

    async def _check_active(self) -> None:
        failure = await self._probe()
        self.reason = failure
        self._note(bool(failure), failure == "does not listen")

    def _note(self, failed: bool, refused: bool) -> None:
        now = time.monotonic()
        if failed and self._fails == 0:
            self._failing_since, self._refused = now, False
        self._refused = failed and (self._refused or refused)
        self._fails = self._fails + 1 if failed else 0
        self._next_probe = now + (min(1.0, self.wish["period"]) if failed else self.wish["period"])

    def _health(self) -> str:
        """`down`: it does not listen now, it may be on its way; `unhealthy`: it will not mend itself."""
        if self._fails == 0:
            return "healthy"
        patience = self.wish["period"] * self.wish["threshold"]
        if self._refused:
            patience = max(patience, self.wish["startup"])
        if time.monotonic() - self._failing_since > patience:
            return "unhealthy"
        return "down" if self._refused else "healthy"

    async def _probe(self) -> str:
        """What is wrong with the wished container; empty if its health path is answered with 2xx-4xx."""
        host, port = self._backend()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), self.wish["timeout"])
        except (OSError, asyncio.TimeoutError):  # noqa: UP041 - two errors before 3.11
            return "does not listen"
        try:
            words = f"GET {self.wish['path']} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(words.encode())
            line = await asyncio.wait_for(reader.readline(), self.wish["timeout"])
            status = line.split()[1:2]
            return "" if status and b"200" <= status[0] < b"500" else "does not answer with 2xx-4xx"
        except (OSError, ValueError, asyncio.TimeoutError):  # noqa: UP041
            return "does not answer"
        finally:
            writer.close()

    def _backend(self) -> Backend:
        return str(self.wish["host"]), int(self.wish["port"])

    def _read_wish(self) -> None:
        """A file that is being written is read again at the next tick."""
        try:
            text = self._wish_file.read_text()
            if text == self._read:
                return
            wish = json.loads(text)
        except (OSError, ValueError):
            return
        self._read = text
        if wish.get("attempt") != self.wish.get("attempt"):
            self._began, self.verdict, self.reason, self._fails = time.monotonic(), "starting", "", 0
        self.wish = wish

    def _tell(self) -> None:
        keys = ("attempt", "at", "revision", "container", "settled", "port", "startup")
        state = {key: self.wish.get(key) for key in keys}
        state.update(verdict=self.verdict, reason=self.reason, health=self._health() if self.wish else "healthy")
        state.update(active=self.active, open={host: count for host, count in self._open.items() if count})
        text = json.dumps(state)
        if text != self._written:
            growing = self._state_file.with_suffix(".growing")
            growing.write_text(text.ljust(_STATE_SIZE))
            growing.replace(self._state_file)
            self._written = text

    def _restore(self) -> None:
        """After a restart: whom it served, and how far it was with the wish."""
        self._read_wish()
        try:
            state = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return
        self.active = tuple(state["active"]) if state["active"] else None
        if self.wish and state["attempt"] == self.wish["attempt"]:
            self.verdict, self.reason = state["verdict"], state["reason"]
        if self.verdict == "ready":  # what died with it may have come back later than it: healthy once it answers
            self.reason = "has not answered yet"
            self._note(True, True)
            self._next_probe = 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self.active
        try:
            if backend is not None:
                self._open[backend[0]] += 1
                await self._relay(reader, writer, backend)
        except OSError:
            pass  # one side has left; the other is closed below
        finally:
            if backend is not None:
                self._open[backend[0]] -= 1
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: Backend) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*backend)
        except OSError:
            self._next_probe = 0.0
            raise
        for side in (writer, inner_writer):
            _keep_asking(side)
        ways = [asyncio.ensure_future(_copy(reader, inner_writer)), asyncio.ensure_future(_copy(inner_reader, writer))]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.close()


def _keep_asking(writer: asyncio.StreamWriter) -> None:
    """One whose machine has gone says no goodbye: without this its connection would stay for ever."""
    peer = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE), ("TCP_KEEPINTVL", _IDLE // 4), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while True:
        data = await source.read(_CHUNK)
        if not data:
            break
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


if __name__ == "__main__":
    asyncio.run(Front(Path(__file__).parent).serve(int(sys.argv[1]) if sys.argv[1:] else PORT))
