"""The storage of the twin on a port of its own, and Google's client pointed at it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from gcp_emulator.clock import ManualClock
from gcp_emulator.faults import Faults
from gcp_emulator.http_server import HttpServer
from gcp_emulator.state import State
from gcp_emulator.storage import create_app


class StorageTwin:
    """A twin that anybody may call who has any Authorization at all."""

    def __init__(self, folder: Path) -> None:
        self.faults = Faults()
        self.clock = ManualClock()
        self.state = State(folder)
        self.address = ""
        self.loop = asyncio.new_event_loop()
        self.app = create_app(self.state, self.faults, self.clock, lambda header: header, "123456789012")

    def client(self) -> storage.Client:
        return client_of(self.address)


def client_of(address: str) -> storage.Client:
    """Google's client, pointed at an address, and sending a token that needs no asking."""
    http = requests.Session()
    http.headers["Authorization"] = "Bearer anybody"
    return storage.Client(
        project="twin-project",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": address},
        _http=http,
    )


def bucket_name(test: str) -> str:
    """One of its own for each test."""
    return f"b-{hashlib.sha256(test.encode()).hexdigest()[:20]}"


@contextmanager
def storage_twin(folder: Path) -> Iterator[StorageTwin]:
    """It listens while the block runs, in a thread: Google's client is not asynchronous."""
    twin = StorageTwin(folder)
    loop = twin.loop
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = HttpServer(twin.app, https=False)
    try:
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        twin.address = f"http://127.0.0.1:{port}"
        yield twin
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        twin.state.close()
