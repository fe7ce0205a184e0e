"""`python -m gcp_emulator --state DIR`: build the concretes and serve until a signal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from gcp_emulator.emulator import PortInUse, running, servers_of
from gcp_emulator.settings import Host, Settings, host_of
from gcp_emulator.state import FolderInUse
from gcp_emulator.twin import Twin, open_twin


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings = parse(arguments)
        twin = open_twin(settings)
    except (ValidationError, FolderInUse, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    try:
        asyncio.run(serve(twin, host_of(os.environ, settings.state)))
    except PortInUse as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    finally:
        twin.state.close()
    return 0


async def serve(twin: Twin, host: Host) -> None:
    """Until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(twin, servers_of(twin), host) as up:
        sys.stdout.write(up.environment.read_text())
        sys.stdout.write(f"ready: in another shell, . {up.environment}\n")
        sys.stdout.flush()
        await stopped.wait()


def parse(arguments: Sequence[str]) -> Settings:
    """Raises ValidationError; ends the process where argparse does."""
    fields = Settings.model_fields
    parser = argparse.ArgumentParser(
        prog="python -m gcp_emulator",
        description="An offline twin of the Google Cloud services that Cloud Deploy uses.",
    )
    parser.add_argument("--state", type=Path, required=True, help=fields["state"].description)
    parser.add_argument("--port", type=int, help=fields["port"].description)
    parser.add_argument("--listen", help=fields["listen"].description)
    parser.add_argument("--control-port", type=int, help=fields["control_port"].description)
    parser.add_argument("--project", help=fields["project"].description)
    parser.add_argument("--region", help=fields["region"].description)
    parser.add_argument("--repository", action="append", dest="repositories", help=fields["repositories"].description)
    parser.add_argument("--docker", help=fields["docker"].description)
    parser.add_argument("--secrets", type=Path, help=fields["secrets"].description)
    parser.add_argument("--nfs", action="append", help=fields["nfs"].description)
    parser.add_argument("--forward", action="store_true", help=fields["forward"].description)
    given = vars(parser.parse_args(arguments))
    return Settings(**{name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
