"""Does a program answer, and where does it listen?"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable

import psutil

LOOPBACK = "127.0.0.1"
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-4])\d\d")


async def answers(port: int, path: str, timeout: float) -> bool:
    """Whether GET `path` on the port of this machine is answered with 2xx-4xx within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return bool(_STATUS.match(await _status_line(port, path)))
    except (OSError, TimeoutError, ValueError):
        return False


async def _status_line(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nUser-Agent: cloud-deploy\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()


def listening(processes: Iterable[psutil.Process]) -> set[int]:
    """TCP ports on which any of these processes listens. Blocking."""
    ports: set[int] = set()
    for process in processes:
        try:
            found = process.net_connections(kind="tcp")
        except (psutil.Error, OSError):
            continue  # gone meanwhile
        ports |= {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}
    return ports


def listener(port: int) -> str | None:
    """`name (pid)` of who listens on a port, as far as we may see it. Blocking."""
    for process in psutil.process_iter():
        try:
            found = process.net_connections(kind="tcp")
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found):
                return f"{process.name()} (process {process.pid})"
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or not ours to look at
    return None


def is_free(port: int, host: str = "") -> bool:
    """Whether the port can be listened on. Blocking, for no time."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(avoid: set[int]) -> int:
    """A port that nobody listens on and that is not in `avoid`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port
