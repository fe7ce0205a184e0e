"""A package index on loopback that asks for a name and a password: https://peps.python.org/pep-0503/"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serving_index(links: Path, *, user: str, password: str) -> Iterator[str]:
    """Its `host:port`; the index is at `/simple`."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            data = self._data()
            allowed = self.headers.get("Authorization") == expected
            self.send_response(401 if not allowed else 200 if data is not None else 404)
            self.send_header("Content-Type", "text/html" if self.path.startswith("/simple") else "application/zip")
            if not allowed:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            body = data if data is not None and allowed else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _data(self) -> bytes | None:
            name = self.path.strip("/").rpartition("/")[2]
            if not self.path.startswith("/simple"):
                return (links / name).read_bytes() if (links / name).is_file() else None
            wheels = sorted(links.glob(f"{name}-*.whl"))
            rows = (f'<a href="/files/{path.name}#sha256={_sha256(path)}">{path.name}</a>' for path in wheels)
            return "\n".join(rows).encode() if wheels else None

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
