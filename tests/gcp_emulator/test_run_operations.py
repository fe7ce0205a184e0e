"""Long-running operations, for whichever service of the twin: they take time by the twin's clock and are not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.longrunning import operations_pb2 as pb
from google.protobuf import duration_pb2, struct_pb2

from gcp_emulator.clock import ManualClock
from gcp_emulator.operations import Operations
from gcp_emulator.run_errors import Refused
from gcp_emulator.state import State

NAME = "projects/twin-project/locations/us-central1/operations"
ABOUT = struct_pb2.Struct()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    found = State(tmp_path)
    yield found
    found.close()


async def test_who_waits_is_woken_by_the_end(state: State) -> None:
    operations = Operations(state, ManualClock())
    operations.start(f"{NAME}/one", ABOUT)
    waiting = asyncio.create_task(operations.wait(pb.WaitOperationRequest(name=f"{NAME}/one")))
    await asyncio.sleep(0)
    operations.finish(f"{NAME}/one", ABOUT)
    assert (await waiting).done


async def test_who_waits_is_told_when_his_time_is_over(state: State) -> None:
    clock = ManualClock()
    operations = Operations(state, clock)
    operations.start(f"{NAME}/one", ABOUT)
    request = pb.WaitOperationRequest(name=f"{NAME}/one", timeout=duration_pb2.Duration(seconds=60))
    waiting = asyncio.create_task(operations.wait(request))
    await clock.advance(59)
    assert not waiting.done()
    await clock.advance(1)
    assert not (await waiting).done


async def test_only_what_its_service_can_stop_is_cancelled(state: State) -> None:
    operations = Operations(state, ManualClock())
    stopped = []

    async def stop(name: str) -> None:
        stopped.append(name)

    operations.start(f"{NAME}/one", ABOUT)
    with pytest.raises(Refused, match="cannot be cancelled"):
        await operations.cancel(pb.CancelOperationRequest(name=f"{NAME}/one"))
    operations.may_cancel("google.protobuf.Struct", stop)
    for _ in range(2):
        await operations.cancel(pb.CancelOperationRequest(name=f"{NAME}/one"))
    assert stopped == [f"{NAME}/one"]
    ended = await operations.get(pb.GetOperationRequest(name=f"{NAME}/one"))
    assert (ended.done, ended.error.code) == (True, 1)


async def test_what_has_ended_stays_as_it_ended(state: State) -> None:
    operations = Operations(state, ManualClock())
    operations.start(f"{NAME}/one", ABOUT)
    operations.fail(f"{NAME}/one", 5, "Image 'x' not found.")
    operations.finish(f"{NAME}/one", ABOUT)
    operations.note(f"{NAME}/one", struct_pb2.Value())
    ended = await Operations(state, ManualClock()).get(pb.GetOperationRequest(name=f"{NAME}/one"))
    assert (ended.error.code, ended.error.message) == (5, "Image 'x' not found.")
    assert ended.metadata.TypeName() == "google.protobuf.Struct"


async def test_lists_come_in_pages_of_one_place(state: State) -> None:
    operations = Operations(state, ManualClock())
    for number in range(5):
        operations.start(f"{NAME}/{number}", ABOUT)
    operations.start(f"{NAME.replace('us-central1', 'europe-west1')}/0", ABOUT)
    operations.finish(f"{NAME}/3", ABOUT)
    parent = NAME.removesuffix("/operations")
    found, token = [], ""
    while not found or token:
        page = await operations.list(pb.ListOperationsRequest(name=parent, page_size=2, page_token=token))
        found += [one.name.rsplit("/", 1)[-1] for one in page.operations]
        token = page.next_page_token
    assert found == ["0", "1", "2", "3", "4"]
    done = await operations.list(pb.ListOperationsRequest(name=parent, filter="done = true"))
    assert [one.name for one in done.operations] == [f"{NAME}/3"]
    with pytest.raises(Refused):
        await operations.list(pb.ListOperationsRequest(name=parent, filter="createTime > 1"))
