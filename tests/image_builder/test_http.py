"""The API over a real connection."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from image_builder.app import create_app
from image_builder.build_queue import BuildQueue
from image_builder.build_store import BuildStore
from image_builder.cache_keeper import CacheKeeper
from image_builder.clock import SystemClock
from image_builder.contract import BuildRequest
from image_builder.errors import BadBuildRequest, BuildError, DiskFull, QueueFull, SourceChanged
from image_builder.plan import BuildPlan
from tests.fakes.pipeline import NotingPipeline, layout_at, maker
from tests.image_builder.service import BODY, Service, serving
from tests.integration.stack import until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("http") / "state") as service:
        yield service


@pytest.fixture(autouse=True)
def _closed_gate(service: Service) -> Iterator[None]:
    """Builds wait until a test lets them go; what a test left running ends with it."""
    (service.state_dir / "go").unlink(missing_ok=True)
    yield
    for state in ("queued", "running"):
        for build in service.http.get("/builds", params={"state": state}).json():
            service.http.delete(f"/builds/{build['id']}")


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "cause", "fix", "retryable", "docs"}
    assert "\n" not in answer.json()["error"]["cause"]
    return dict(answer.json()["error"])


def test_asking_twice_is_one_build(service: Service) -> None:
    """Otherwise a manager that repeats itself after a lost answer starts a second build."""
    first = service.http.post("/builds", json=BODY | {"source": "twice"})
    again = service.http.post("/builds", json=BODY | {"source": "twice"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    service.go()
    service.wait(first.json()["id"], "succeeded")
    last = service.http.post("/builds", json=BODY | {"source": "twice"})
    assert (last.status_code, last.json()["state"]) == (200, "succeeded")


def test_cancel_is_answered_when_what_ran_is_dead(service: Service) -> None:
    """Otherwise /stop reports an end that has not come."""
    build = service.ask(source="cancel")
    service.wait(build["id"], "running")
    answer = service.http.delete(f"/builds/{build['id']}", params={"owner": "7/42"})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert f"dead {build['id']}" in (service.state_dir / "runs").read_text()


def test_events_resume_where_they_stopped(service: Service) -> None:
    """Otherwise a manager that lost its connection shows a history with holes or doubles."""
    build_id = service.ask(source="events")["id"]
    seen: list[int] = []
    with connect_sse(service.http, "GET", f"/builds/{build_id}/events") as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        for event in stream.iter_sse():
            seen.append(int(event.id))
            assert event.json()["sequence"] == seen[-1]
            if event.json()["message"] == "program: building":
                break
    service.go()
    service.wait(build_id, "succeeded")
    rest = service.events(build_id, **{"Last-Event-ID": str(seen[-1])})
    assert rest[0]["sequence"] > seen[-1]
    assert [event["kind"] for event in rest] == ["layer", "done"]
    assert rest[0]["layer"]["state"] == "built"
    asked = service.http.get(f"/builds/{build_id}/events", params={"after": seen[-1]})
    assert [int(number) for number in re.findall(r"^id: (\d+)$", asked.text, re.M)] == [e["sequence"] for e in rest]
    assert service.events(build_id, **{"Last-Event-ID": str(rest[-1]["sequence"])}) == []


def test_events_come_while_it_happens(service: Service) -> None:
    """Otherwise a progress bar stands still until the build is done."""
    build_id = service.ask(source="live")["id"]
    with connect_sse(service.http, "GET", f"/builds/{build_id}/events") as stream:
        kinds = []
        for event in stream.iter_sse():
            kinds.append(event.json()["kind"])
            if event.json()["message"] == "program: building":
                assert service.show(build_id)["state"] == "running"
                assert service.show(build_id)["layers"][0]["state"] == "building"
                service.go()
    assert kinds[-1] == "done"


def test_a_listener_who_leaves_disturbs_nobody(service: Service) -> None:
    """Otherwise a closed browser tab breaks a build or the others' streams."""
    build_id = service.ask(source="leaver")["id"]
    with connect_sse(service.http, "GET", f"/builds/{build_id}/events") as stream:
        next(stream.iter_sse())
    heard: list[dict[str, Any]] = []
    stays = threading.Thread(target=lambda: heard.extend(service.events(build_id)))
    stays.start()
    service.go()
    stays.join(20)
    assert heard[-1]["kind"] == "done"
    assert "Traceback" not in service.log


def test_what_is_not_there(service: Service) -> None:
    """Otherwise a client cannot tell a forgotten build from a broken builder."""
    for method, path in [
        ("GET", "/builds/" + "0" * 32),
        ("GET", "/builds/nonsense"),
        ("GET", "/builds/" + "0" * 32 + "/events"),
        ("DELETE", "/builds/" + "0" * 32),
        ("GET", "/builds/%2e%2e"),
    ]:
        answer = service.http.request(method, path)
        assert (answer.status_code, problem(answer)["code"]) == (404, "build_not_found"), path
    assert problem(service.http.get("/nowhere"))["cause"] == "GET /nowhere: Not Found"
    answer = service.http.put("/builds")
    assert (answer.status_code, problem(answer)["code"]) == (405, "method_not_allowed")


def test_a_wrong_request_names_its_fields(service: Service) -> None:
    """Otherwise whoever wrote a client has to guess."""
    answer = service.http.post("/builds", json=BODY | {"port": 70000, "colour": "red"})
    assert answer.status_code == 422
    cause = problem(answer)["cause"]
    assert "body.port: Input should be less than or equal to 65535" in cause
    assert "body.colour: Extra inputs are not permitted" in cause
    for data in (b"", b"{", b"\xff\xfe", b"[]", b"1" * 5000):
        answer = service.http.post("/builds", content=data, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        problem(answer)
    for query in ("state=x", "limit=0", "limit=x"):
        assert service.http.get(f"/builds?{query}").status_code == 422
    assert service.http.get("/builds/x/events", headers={"Last-Event-ID": "abc"}).status_code in (404, 422)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(service: Service, declared: bool) -> None:
    """Otherwise one request fills the builder's memory."""
    data = json.dumps(BODY).encode() + b" " * (1 << 20)
    answer = service.http.post(
        "/builds",
        content=data if declared else iter([data]),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert "larger than" in problem(answer)["cause"]


def test_builds_newest_first(service: Service) -> None:
    """Otherwise people look for their build among old ones."""
    service.go()
    ids = [service.ask(source=name)["id"] for name in ("old", "new")]
    for build_id in ids:
        service.wait(build_id, "succeeded")
    rows = service.http.get("/builds", params={"state": "succeeded", "limit": 2}).json()
    assert [row["id"] for row in rows] == ids[::-1]


def test_health(service: Service) -> None:
    """Otherwise compose and people cannot tell whether it serves."""
    build_id = service.ask(source="health")["id"]
    service.wait(build_id, "running")
    until("the count", lambda: service.http.get("/healthz").json() == {"status": "ok", "queued": 0, "running": 1})


def test_the_documentation_needs_no_internet(service: Service) -> None:
    """Otherwise /docs is a blank page where builders usually stand."""
    for path in ("/docs", "/redoc"):
        page = service.http.get(path).text
        assert "//" not in re.sub(r"<!--.*?-->|//.*$|link:|window\.location.*", "", page, flags=re.S | re.M)
        for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            assert service.http.get(asset).status_code == 200, asset


def test_every_operation_is_described(service: Service) -> None:
    """Otherwise whoever writes a client must read our source."""
    paths = service.http.get("/openapi.json").json()["paths"]
    assert {"/builds", "/builds/{build_id}", "/builds/{build_id}/events", "/images", "/healthz"} <= set(paths)
    for path, operations in paths.items():
        for operation in operations.values():
            assert operation["summary"], path
            if path.startswith("/builds"):
                answers = {code for code in operation["responses"] if code >= "400"}
                assert "500" in answers


async def test_a_fault_of_ours_tells_no_secrets(tmp_path: Path) -> None:
    """Otherwise a traceback with paths and settings goes to whoever asks."""

    def planner(_asked: BuildRequest) -> BuildPlan:
        raise ZeroDivisionError("secret detail")

    layout = layout_at(tmp_path / "layout")
    made = maker(layout, NotingPipeline(tmp_path, layout), planner)
    queue = BuildQueue(BuildStore(tmp_path / "builds"), made, SystemClock())
    app = create_app(queue, layout, CacheKeeper(tmp_path, queue, bound=0, history=200))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://builder") as http:
        answer = await http.post("/builds", json=BODY)
        assert (answer.status_code, problem(answer)["cause"]) == (500, "internal")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("7 builds wait already", "Ask later."), 429),
        (DiskFull("no space left", "Make room."), 507),
        (SourceChanged("main.py changed", "Ask again."), 409),
        (BadBuildRequest("outside the shared root", "Name a folder in it."), 422),
    ],
)
async def test_errors_have_their_codes(tmp_path: Path, error: BuildError, status: int) -> None:
    """Otherwise a client repeats what cannot succeed, or gives up where waiting helps."""

    def planner(_asked: BuildRequest) -> BuildPlan:
        raise error

    layout = layout_at(tmp_path / "layout")
    made = maker(layout, NotingPipeline(tmp_path, layout), planner)
    queue = BuildQueue(BuildStore(tmp_path / "builds"), made, SystemClock())
    app = create_app(queue, layout, CacheKeeper(tmp_path, queue, bound=0, history=200))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://builder") as http:
        answer = await http.post("/builds", json=BODY)
        assert (answer.status_code, problem(answer)) == (status, error.problem.model_dump())
        assert ("Retry-After" in answer.headers) is error.problem.retryable
