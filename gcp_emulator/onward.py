"""The way to hosts that the twin has nothing to do with: straight, or by the proxy that this machine uses."""

from __future__ import annotations

import asyncio
import base64
import ssl
from urllib.parse import SplitResult, unquote, urlsplit

_SECONDS = 60.0
_CHUNK = 1 << 18

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Onward:
    """Bytes pass unread: TLS is the client's and the host's own."""

    def __init__(self, proxy: str = "") -> None:
        """proxy: its URL, with name and password if it wants them; empty: straight."""
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None

    async def open(self, host: str, port: int) -> Connection:
        """Raises OSError, with the proxy's own words where it refuses."""
        async with asyncio.timeout(_SECONDS):
            if self._proxy is None:
                return await asyncio.open_connection(host, port, limit=_CHUNK)
            return await _through(self._proxy, f"{host}:{port}")


async def _through(proxy: SplitResult, target: str) -> Connection:
    secure = proxy.scheme == "https"
    trust = ssl.create_default_context() if secure else None
    port = proxy.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(proxy.hostname, port, ssl=trust, limit=_CHUNK)
    try:
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_login(proxy)}\r\n".encode())
        status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            raise OSError(f"the proxy of this machine says {status}")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        writer.transport.abort()
        raise OSError("the proxy of this machine does not speak HTTP, or hung up") from error
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _login(proxy: SplitResult) -> str:
    """https://www.rfc-editor.org/rfc/rfc9110#name-proxy-authorization"""
    if proxy.username is None:
        return ""
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
