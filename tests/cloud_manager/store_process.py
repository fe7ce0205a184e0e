"""A manager's store in a process of its own, to be killed: `-m tests.cloud_manager.store_process own|write|leave …`.

It says on standard output what it was told by the store, one line each, at once.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from cloud_manager.clock import SystemClock
from cloud_manager.store.open import open_store
from cloud_manager.store.protocol import NewEvent, Store
from tests.cloud_manager.storing import KEY, loaded


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def own(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=1.0)
    async with store.own(KEY) as row:
        say("owned" if row else "refused")
        await asyncio.Event().wait()


async def write(store: Store) -> None:
    for number in count():
        row = await store.want_present(KEY, loaded(), now=float(number))
        await store.add_events(KEY, row.generation, [NewEvent("number", str(number))], now=float(number))
        say(str(row.generation))


async def leave(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=1.0)
    await store.get(KEY)
    raise SystemExit(3)


async def main(work: str, database_url: str, state_dir: str) -> None:
    store = await open_store(database_url, Path(state_dir), SystemClock())
    await {"own": own, "write": write, "leave": leave}[work](store)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
