"""Load on one address, from a process of its own: keep-alive connections, one request in flight on each.

Written here, and not wrk, so that it measures the same on every machine that has python. It takes less time per request
than either server, so the server is what is measured. Prints one line of JSON.

    python -m bench.load URL SECONDS CONNECTIONS PROJECTS
"""

from __future__ import annotations

import asyncio
import json
import sys
from array import array
from functools import partial
from itertools import count
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

from uvicorn.loops.auto import auto_loop_factory

from bench.projects import identifiers


def request(host: str, number: int) -> bytes:
    """As TANGO's project manager writes it with `requests`."""
    user_id, project_id = identifiers(number)
    return (
        f"GET /status_request?user_id={user_id}&project_id={project_id} HTTP/1.1\r\nHost: {host}\r\n"
        "User-Agent: python-requests/2.32\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
        "Connection: keep-alive\r\nContent-Type: text/plain\r\n\r\n"
    ).encode()


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last is whole."""

    def __init__(self, load: Load, first: int) -> None:
        self._load = load
        self._numbers = count(first)
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass of it.
        self._send()

    def _send(self) -> None:
        requests = self._load.requests
        self._transport.write(requests[next(self._numbers) * 7919 % len(requests)])
        self._sent = perf_counter()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self._load.seconds.append(perf_counter() - self._sent)
        self._load.wrong += not head.startswith(b"HTTP/1.1 200 ")
        self._received = b""
        if not self._load.over:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.wrong += not self._load.over


class Load:
    def __init__(self, url: str, projects: int) -> None:
        self.host = urlsplit(url).netloc
        self.requests = [request(self.host, number) for number in range(projects)]
        self.seconds = array("d")
        self.wrong = 0
        self.over = False

    async def run(self, seconds: float, connections: int) -> dict[str, float]:
        address, _, port = self.host.partition(":")
        loop = asyncio.get_running_loop()
        begun = perf_counter()
        made = [
            await loop.create_connection(partial(Connection, self, n * 101), address, int(port))
            for n in range(connections)
        ]
        await asyncio.sleep(seconds)
        self.over = True
        took = perf_counter() - begun
        for transport, _ in made:
            transport.close()
        ordered = sorted(self.seconds)
        return {
            "answers": len(ordered),
            "per_second": len(ordered) / took,
            "p50": ordered[len(ordered) // 2],
            "p99": ordered[len(ordered) * 99 // 100],
            "wrong": self.wrong,
        }


def main() -> None:
    url, seconds, connections, projects = sys.argv[1:]
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        print(json.dumps(runner.run(Load(url, int(projects)).run(float(seconds), int(connections)))))


if __name__ == "__main__":
    main()
