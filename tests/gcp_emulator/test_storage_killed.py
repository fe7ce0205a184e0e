"""`kill -9` of the twin's storage: what was acknowledged is there and whole, and an upload goes on."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.gcp_emulator.storage_twin import bucket_name, client_of
from tests.integration.stack import until
from tests.parallel import free_port

_CHUNK = 256 * 1024
_ROOT = Path(__file__).resolve().parents[2]
_HEADERS = {"Authorization": "Bearer anybody"}


class StorageProcess:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.gcp_emulator.storage_server", str(self.folder), str(self._port)]
        self._process = subprocess.Popen(command, cwd=_ROOT)
        until("the storage to answer", self._answers)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait(20)

    def _answers(self) -> bool:
        try:
            return requests.get(self.address, timeout=5).status_code == 401
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageProcess]:
    server = StorageProcess(tmp_path_factory.mktemp("storage"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(server: StorageProcess, request: pytest.FixtureRequest) -> Iterator[storage.Bucket]:
    bucket = client_of(server.address).create_bucket(bucket_name(request.node.nodeid))
    yield bucket
    bucket.delete(force=True)
    assert _files(server) == []


def _files(server: StorageProcess) -> list[Path]:
    return [path for path in (server.folder / "blobs" / "storage").rglob("*") if path.is_file()]


class _Deadly(io.BytesIO):
    """Kills the server, and starts it again, when the third chunk is read."""

    def __init__(self, data: bytes, server: StorageProcess) -> None:
        super().__init__(data)
        self._server = server
        self.killed = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 2 * _CHUNK and not self.killed:
            self.killed = True
            self._server.kill()
            self._server.start()
        return super().read(size)


def test_an_upload_goes_on_after_the_server_died(server: StorageProcess, bucket: storage.Bucket) -> None:
    data = os.urandom(4 * _CHUNK + 3)
    stream = _Deadly(data, server)
    blob = bucket.blob("weights", chunk_size=_CHUNK)
    blob.upload_from_file(stream, checksum="md5", retry=DEFAULT_RETRY.with_delay(initial=0.01))
    assert stream.killed
    assert blob.download_as_bytes() == data


def test_a_chunk_that_was_cut_off_is_sent_from_where_it_was(server: StorageProcess, bucket: storage.Bucket) -> None:
    data = os.urandom(6 * _CHUNK)
    session = bucket.blob("a").create_resumable_upload_session(size=len(data))

    def deadly() -> Iterator[bytes]:
        yield data[: 3 * _CHUNK + 9]
        server.kill()
        yield data[3 * _CHUNK + 9 :]

    with pytest.raises(requests.exceptions.RequestException):
        whole = f"bytes 0-{len(data) - 1}/{len(data)}"
        requests.put(session, data=deadly(), headers={**_HEADERS, "Content-Range": whole}, timeout=20)
    server.start()
    asked = requests.put(session, headers={**_HEADERS, "Content-Range": "bytes */*"}, timeout=20)
    assert asked.status_code == 308
    come = int(asked.headers["range"].split("-")[1]) + 1 if "range" in asked.headers else 0
    assert come in range(0, 3 * _CHUNK + 1, _CHUNK)
    rest = {**_HEADERS, "Content-Range": f"bytes {come}-{len(data) - 1}/{len(data)}"}
    done = requests.put(session, data=data[come:], headers=rest, timeout=20)
    assert done.status_code == 200
    assert bucket.blob("a").download_as_bytes() == data


def test_what_was_acknowledged_is_there_and_nothing_else(server: StorageProcess, bucket: storage.Bucket) -> None:
    """Objects are written over and deleted while the server dies."""
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def write() -> None:
        http = requests.Session()
        http.headers.update(_HEADERS)
        for number in range(100_000):
            name, data = f"o{number % 7}", os.urandom(20_000)
            path = f"{server.address}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name={name}"
            pending.update({name: hashlib.sha256(data).hexdigest()})
            try:
                http.post(path, data=data, timeout=20).raise_for_status()
            except requests.RequestException:
                return
            acknowledged.update(pending)
            pending.clear()
            if number == 40:
                enough.set()

    pending: dict[str, str] = {}
    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(60)
    server.kill()
    writer.join()
    server.start()
    found = {blob.name: hashlib.sha256(blob.download_as_bytes()).hexdigest() for blob in bucket.list_blobs()}
    assert found in (acknowledged, {**acknowledged, **pending})
    assert len(_files(server)) == len(found)
