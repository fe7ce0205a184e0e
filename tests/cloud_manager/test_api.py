"""/api/v1: what people's tools read and ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import InvalidSpec, LostOwnership, Unavailable
from image_builder.contract import BuildState, Problem
from tests.cloud_manager.face import PROJECT, Face, build, image, served

ONE = "/api/v1/deployments/7/42"


@pytest.fixture
def face() -> Iterator[Face]:
    with served() as face:
        yield face


def get(face: Face, path: str, **options: Any) -> requests.Response:
    return requests.get(face.url + path, timeout=10, **options)


def error_of(answer: requests.Response) -> Problem:
    """Every error has this shape, or a tool cannot read it."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return Problem.model_validate(answer.json()["error"])


def test_a_deployment_tells_what_runs_and_where(face: Face) -> None:
    face.know(Phase.RUNNING, image=image(), url="http://127.0.0.1:4000", revision="0f" * 8, detail="two lines")
    face.controller.build = build(BuildState.SUCCEEDED)
    body = get(face, ONE).json()
    assert (body["phase"], body["want"], body["generation"], body["target"]) == ("running", "present", 1, "local")
    assert (body["url"], body["revision"], body["detail"]) == ("http://127.0.0.1:4000", "0f" * 8, "two lines")
    assert body["image"] == {"repository": "builds/1", "digest": "sha256:" + "ab" * 32, "size": 3, "pushed": None}
    assert body["build"] == {"id": "b" * 32, "state": "succeeded", "step": "layers", "layers": []}
    assert (body["image_uri"], body["problem"]) == (None, None)
    assert body["updated"] > body["created"] > 0


def test_a_failure_carries_cause_and_fix(face: Face) -> None:
    problem = Problem(code="port_in_use", cause="port 80 is taken", fix="Choose another")
    face.know(Phase.FAILED, problem=problem)
    assert Problem.model_validate(get(face, ONE).json()["problem"]) == problem


@pytest.mark.parametrize("path", ["", "/events", "/logs", "/events/stream", "/logs/stream", "/build/stream"])
def test_an_unknown_project_is_a_404_in_words(face: Face, path: str) -> None:
    answer = get(face, ONE + path)
    assert answer.status_code == 404
    assert "7/42 was never started" in error_of(answer).cause


@pytest.mark.parametrize("ids", [".hidden/42", "7%00/42", "7/" + "a" * 65, "7/%D9%A7", "7/%2e%2e", "7/a%20b"])
def test_a_bad_id_in_a_path_is_refused(face: Face, ids: str) -> None:
    for method, tail in (("GET", ""), ("POST", "/start"), ("POST", "/stop"), ("GET", "/logs")):
        request = requests.Request(method, "http://x").prepare()
        request.url = f"{face.url}/api/v1/deployments/{ids}{tail}"  # As it is: requests would tidy the dots away.
        with requests.Session() as session:
            answer = session.send(request, timeout=10)
        assert answer.status_code in (400, 404)
        assert error_of(answer).code in ("bad_request", "no_such_path")
    assert face.deployments.calls == []


def test_a_slash_in_an_id_names_nothing(face: Face) -> None:
    assert get(face, "/api/v1/deployments/7%2f..%2f8/42").status_code == 404


def test_start_and_stop_are_accepted_with_any_or_no_body(face: Face) -> None:
    answer = requests.post(face.url + ONE + "/start", timeout=10)
    assert (answer.status_code, answer.json()["phase"]) == (202, "started")
    answer = requests.post(face.url + ONE + "/stop", data="not json", headers={"Content-Type": "a/b"}, timeout=10)
    assert (answer.status_code, answer.json()["phase"], answer.json()["want"]) == (202, "stopping", "absent")
    assert face.deployments.calls == [("start", PROJECT), ("stop", PROJECT)]


def test_a_foreign_page_cannot_start_anything(face: Face) -> None:
    for action in ("start", "stop"):
        answer = requests.post(f"{face.url}{ONE}/{action}", headers={"Sec-Fetch-Site": "cross-site"}, timeout=10)
        assert (answer.status_code, error_of(answer).code) == (403, "cross_site")
    assert face.deployments.calls == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(face: Face, chunked: bool) -> None:
    """Declared or not: else one client could fill the memory."""
    body: Any = iter([b"x" * 40_000] * 3) if chunked else b"x" * 70_000
    answer = requests.post(face.url + ONE + "/start", data=body, timeout=10)
    assert (answer.status_code, error_of(answer).code) == (413, "body_too_large")
    assert face.deployments.calls == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidSpec("a.yaml:1:1: wrong", "Correct it"), 422),
        (Unavailable("db", "wait"), 503),
        (LostOwnership("a", "b"), 409),
    ],
)
def test_each_error_has_its_status_code(face: Face, error: Any, status: int) -> None:
    face.deployments.error = error
    answer = requests.post(face.url + ONE + "/start", timeout=10)
    assert (answer.status_code, error_of(answer)) == (status, error.problem)


def test_a_mistake_of_ours_shows_nothing_of_the_inside(face: Face) -> None:
    face.deployments.error = RuntimeError("secret of the inside")
    answer = requests.post(face.url + ONE + "/start", timeout=10)
    assert (answer.status_code, error_of(answer).cause) == (500, "internal error")
    assert "secret" not in answer.text


def test_what_is_not_there_is_said_in_the_same_shape(face: Face) -> None:
    assert error_of(get(face, "/api/v1/nothing")).code == "no_such_path"
    answer = requests.delete(face.url + ONE, timeout=10)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert error_of(answer).code == "method_not_allowed"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "phase=flying", "after=nonsense", "limit=99999999999999999999999"]
)
def test_a_bad_parameter_is_named_in_plain_words(face: Face, query: str) -> None:
    answer = get(face, f"/api/v1/deployments?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in error_of(answer).cause


def test_pages_lead_through_all_projects_once(face: Face) -> None:
    """Else an operator with many projects sees some twice, or never."""
    for number in range(7):
        face.know(Phase.FAILED if number % 3 else Phase.RUNNING, Key("7", str(number)))
    assert [row["project_id"] for row in pages(face, "limit=3")] == list("0123456")
    assert [row["project_id"] for row in pages(face, "limit=2&phase=running")] == list("036")
    assert pages(face, "phase=building") == []


def pages(face: Face, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = get(face, f"/api/v1/deployments?{query}", params={"after": after}).json()
        found += page["items"]
        after = page["next"]
    return found


def test_history_is_read_in_pages(face: Face) -> None:
    for _ in range(3):
        face.know(Phase.RUNNING)
    first = get(face, ONE + "/events?limit=2").json()
    assert [event["kind"] for event in first["items"]] == ["start", "start"]
    rest = get(face, ONE + f"/events?limit=2&after={first['next']}").json()
    assert (len(rest["items"]), rest["next"]) == (1, None)


def test_logs_are_plain_text(face: Face) -> None:
    face.know(Phase.RUNNING)
    answer = get(face, ONE + "/logs?tail=1")
    assert (answer.text, answer.headers["content-type"]) == ("GET / 200\n", "text/plain; charset=utf-8")
    assert get(face, ONE + "/logs").text == "listening on 8080\nGET / 200\n"
    assert get(face, ONE + "/logs?tail=-1").status_code == 400


def test_targets_and_schema(face: Face) -> None:
    assert get(face, "/api/v1/targets").json() == {"targets": ["local"], "ignores": {"local": ["deploy.region"]}}
    schema = get(face, "/api/v1/schema").json()
    assert {"build", "deploy"} <= set(schema["properties"])


def test_alive_and_ready(face: Face) -> None:
    assert get(face, "/healthz").json() == {"status": "ok"}
    assert (get(face, "/readyz").status_code, get(face, "/readyz").json()["ready"]) == (200, True)


def test_not_ready_says_why(face: Face) -> None:
    face.store.failing = Unavailable("the database at x does not answer", "start it")
    face.builder.error = Unavailable("the image builder at y does not answer", "start it")
    answer = get(face, "/readyz")
    assert answer.status_code == 503
    assert ["database" in answer.text, "image builder" in answer.text] == [True, True]
    assert get(face, "/healthz").status_code == 200
    face.store.failing = None
