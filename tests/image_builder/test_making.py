"""One at a time for each key: within a process, between processes, and after a death."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from image_builder.making import Making
from tests.image_builder.service import ROOT

_HOLDER = """
import asyncio, pathlib, sys
from image_builder.making import Making
async def hold():
    async with Making(pathlib.Path(sys.argv[1]))("torch"):
        print("held", flush=True)
        sys.stdin.read()
asyncio.run(hold())
"""


@contextmanager
def holder(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that makes `torch`."""
    command = [sys.executable, "-c", _HOLDER, str(file)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("shared", [True, False])
async def test_builds_of_a_process_wait_in_line(tmp_path: Path, shared: bool) -> None:
    """Otherwise two builds make the same layer, and the second fails as its file is not where it left it."""
    making = Making(tmp_path / "making.lock" if shared else None)
    told: list[str] = []

    async def one(name: str, key: str) -> None:
        async with making(key):
            told.append(f"{name} in")
            await asyncio.sleep(0)
            told.append(f"{name} out")

    await asyncio.gather(one("a", "torch"), one("b", "torch"), one("c", "torch"))
    assert told == ["a in", "a out", "b in", "b out", "c in", "c out"]
    told.clear()
    await asyncio.gather(one("a", "torch"), one("b", "numpy"))
    assert told[:2] == ["a in", "b in"]
    making.close()


async def test_another_process_is_waited_for_and_its_death_frees(tmp_path: Path) -> None:
    """Otherwise a builder that is killed blocks all others on the volume for ever."""
    waited = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waited.set()
        await asyncio.sleep(0.005)

    making = Making(tmp_path / "making.lock", sleep=sleep)
    with holder(tmp_path / "making.lock") as other:
        async with making("numpy"):
            assert not waited.is_set(), "another key is no matter of the other's"

        async def wanted() -> None:
            async with making("torch"):
                pass

        first, second = asyncio.create_task(wanted()), asyncio.create_task(wanted())
        await waited.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        waited.clear()
        await waited.wait()
        assert not second.done(), "cancelling one lets none in"
        other.kill()
        await asyncio.wait_for(second, 20)
    making.close()


async def test_a_hundred_layers_take_no_descriptors(tmp_path: Path) -> None:
    """Otherwise a few builds with many layers reach the limit of open files."""
    making, process = Making(tmp_path / "making.lock"), psutil.Process()
    before = process.num_fds()
    async with asyncio.TaskGroup() as group:
        inside, leave = asyncio.Semaphore(0), asyncio.Event()

        async def one(key: str) -> None:
            async with making(key):
                inside.release()
                await leave.wait()

        for number in range(100):
            group.create_task(one(f"layer {number}"))
        for _ in range(100):
            await inside.acquire()
        assert process.num_fds() == before
        leave.set()
    making.close()
    assert [path.name for path in tmp_path.iterdir()] == ["making.lock"]
