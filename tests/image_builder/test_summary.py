"""What a build cost: without true figures nobody knows what to make faster, or why a build was slow today."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from image_builder.build_summary import summarise
from image_builder.contract import BuildStatus, LayerProgress
from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests.fakes.pipeline import request
from tests.image_builder.test_queue import Shop, done, history
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of


def test_bytes_and_seconds_are_added_up_by_what_happened_to_each_layer() -> None:
    layers = [
        LayerProgress(name="torch 2", kind="wheel", state="built", size=100, fetched=120, seconds=2.0),
        LayerProgress(name="numpy 2", kind="wheel", state="built", size=10, seconds=3.0),
        LayerProgress(name="weights", kind="weights", state="reused", size=7),
        LayerProgress(name="program", kind="program", state="waiting", size=5),
    ]
    found = summarise(layers, [("resolve", 10.0), ("fetch", 11.0), ("resolve", 11.5), ("layers", 12.0)], 15.0)
    assert (found.fetched, found.built, found.reused, found.slowest) == (120, 110, 7, "numpy 2")
    assert found.steps == {"resolve": 1.5, "fetch": 0.5, "layers": 3.0}


def test_a_build_that_never_ran_cost_nothing() -> None:
    found = summarise([], [], 5.0)
    assert (found.fetched, found.built, found.reused, found.steps, found.slowest) == (0, 0, 0, {}, None)


async def test_the_last_event_and_the_status_tell_the_same_and_survive_a_restart(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.open() as queue:
        status = await done(queue, (await queue.submit(request())).id)
        last = (await history(queue, status.id))[-1]
    assert status.summary and status.summary.built == status.layers[0].size > 0
    assert (last.kind, last.summary, last.layers) == ("done", status.summary, status.layers)
    async with shop.open() as queue:
        assert await queue.status(status.id) == status
        assert (await history(queue, status.id))[-1] == last


def test_the_record_of_an_older_builder_is_read() -> None:
    """Builds that were done before there was a summary must not vanish."""
    old = BuildStatus(id="0" * 32, state="succeeded", request=request(), created=1.0).model_dump(exclude={"summary"})
    assert BuildStatus.model_validate(old).summary is None


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[str]:
    """A page of wheels over HTTP."""
    links = tmp_path / "links"
    make_wheel(links, requires=("dep>=1",))
    make_wheel(links, "dep", files={"dep.py": "x = 1\n"})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(links))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_bytes_from_the_network_are_counted_once(tmp_path: Path, shelf: str) -> None:
    make_project(tmp_path / "shared")
    environ = {**offline(tmp_path / "links"), "UV_FIND_LINKS": shelf}
    workshop = Workshop.open(tmp_path / "state", environ)
    plan = plan_of(make_request("hello"), tmp_path / "shared", workshop)
    first, second = Notes(), Notes()
    await build(plan, workshop, first)
    await build(plan, workshop, second)
    workshop.close()
    sizes = sum(path.stat().st_size for path in (tmp_path / "links").glob("*.whl"))
    assert first.layers["2 packages"].fetched == sizes > 0
    assert first.layers["program"].fetched == second.layers["2 packages"].fetched == 0
