"""`python -m tests.gcp_emulator.storage_server FOLDER PORT`: the storage of the twin alone, to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gcp_emulator.clock import SystemClock
from gcp_emulator.faults import Faults
from gcp_emulator.http_server import HttpServer
from gcp_emulator.state import State
from gcp_emulator.storage import create_app


async def _serve(folder: Path, port: int) -> None:
    state = State(folder)
    app = create_app(state, Faults(), SystemClock(), lambda header: header)
    await HttpServer(app, https=False).start(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
