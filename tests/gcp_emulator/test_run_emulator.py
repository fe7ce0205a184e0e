"""`python -m gcp_emulator` as a program of its own: stock clients by its environment alone, and `kill -9` of it."""

from __future__ import annotations

import json
import signal
import sqlite3
import ssl
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gcp_emulator.runtime_process import carriers
from tests.gcp_emulator.emulated import Emulator
from tests.gcp_emulator.run_images import HOST, SERVER, push
from tests.integration.stack import until

CREATE = """
import asyncio
from google.cloud import run_v2
async def main():
    client = run_v2.ServicesAsyncClient()
    template = run_v2.RevisionTemplate(containers=[run_v2.Container(image="IMAGE")])
    service = run_v2.Service(template=template, invoker_iam_disabled=True)
    parent = "projects/twin-project/locations/us-central1"
    operation = await client.create_service(parent=parent, service=service, service_id="hello")
    print(operation.operation.name)
    print((await operation.result()).uri)
asyncio.run(main())
"""
GET = """
import asyncio
from google.cloud import run_v2
from google.longrunning import operations_pb2
async def main():
    client = run_v2.ServicesAsyncClient()
    operation = await client.get_operation(operations_pb2.GetOperationRequest(name="OPERATION"))
    assert operation.done and not operation.HasField("error"), operation
    print((await client.get_service(name="projects/twin-project/locations/us-central1/services/hello")).uri)
asyncio.run(main())
"""
TOKEN = """
import google.auth, google.auth.transport.requests
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token)
"""
CALL = "import urllib.request; print(urllib.request.urlopen('URI').read().decode())"


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[Emulator]:
    emulator = Emulator(tmp_path / "state")
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)
    assert _ours(emulator) == []


def _ours(emulator: Emulator) -> list[psutil.Process]:
    """What it left running."""
    with closing(sqlite3.connect(emulator.state / "state.sqlite")) as rows:
        found = rows.execute("SELECT value FROM rows WHERE kind = 'run' AND key = 'identity'").fetchone()
    return carriers(str(json.loads(found[0])))


async def _image(emulator: Emulator) -> str:
    """Reference of one that was pushed as any client would push it."""
    trust = ssl.create_default_context(cafile=emulator.variables["SSL_CERT_FILE"])
    headers = {"Authorization": f"Bearer {emulator.python(TOKEN).strip()}"}
    proxy = emulator.variables["https_proxy"]
    async with httpx.AsyncClient(base_url=f"https://{HOST}", headers=headers, proxy=proxy, verify=trust) as client:
        return await push(client, "hello", {"app/main.py": SERVER})


@pytest.mark.slow
async def test_a_service_outlives_the_emulator_that_is_killed(emulator: Emulator) -> None:
    """Its processes do not: they end with the emulator, and run again after its return."""
    image = await _image(emulator)
    made = emulator.python(CREATE.replace("IMAGE", image)).split()
    seen: dict[str, Any] = json.loads(emulator.python(CALL.replace("URI", made[1])))
    assert seen["env"]["K_SERVICE"] == "hello"
    emulator.kill(signal.SIGKILL)
    until("its processes to be gone", lambda: not _ours(emulator))
    emulator.start()
    assert emulator.python(GET.replace("OPERATION", made[0])).strip() == made[1]
    again = json.loads(emulator.python(CALL.replace("URI", made[1])))
    assert again["pid"] != seen["pid"]
    assert again["env"]["K_REVISION"] == seen["env"]["K_REVISION"]
