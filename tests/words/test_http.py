"""Both services speak the language that is asked for, and the project manager's words stay what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from httpx_sse import connect_sse

from cloud_manager import story
from cloud_manager.deployment import Phase
from cloud_manager.errors import InvalidSpec
from cloud_manager.problem_words import speak
from image_builder.contract import Problem
from tests.cloud_manager.face import PROJECT, Face, served
from tests.image_builder.service import Service, serving

KO = {"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"}
API = "/api/v1/deployments/7/42"
EXITED = Problem(
    code="exited",
    cause="the program exited with code 3, without a word in its log",
    fix="mend the program; its whole output is in the service's logs",
)
EXITED_KO = "프로그램이 종료 코드 3(으)로 끝났습니다. 로그에는 아무 내용도 없습니다"


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as running:
        running.know(Phase.FAILED, problem=EXITED)
        event = story.coming_up("local", EXITED)
        running.do(running.store.add_events(PROJECT, 1, [event], now=101.0))
        yield running


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("words") / "state") as service:
        yield service


def get(face: Face, path: str, **headers: str) -> httpx.Response:
    return httpx.get(face.url + path, headers=headers, trust_env=False)


def test_a_refusal_is_told_in_korean(face: Face) -> None:
    answer = get(face, "/api/v1/deployments/7/none", **KO)
    error = answer.json()["error"]
    assert error["cause"] == "프로젝트 7/none은(는) 시작된 적이 없습니다"
    assert error["docs"] == "/docs/errors/not_found"
    assert answer.headers["Content-Language"] == "ko"
    assert "Accept-Language" in answer.headers["Vary"]


def test_without_a_wish_all_is_english(face: Face) -> None:
    answer = get(face, API)
    assert answer.json()["problem"]["cause"] == EXITED.cause
    assert answer.headers["Content-Language"] == "en"
    assert "Accept-Language" in answer.headers["Vary"]


def test_what_is_stored_is_told_in_the_language_of_the_reader(face: Face) -> None:
    """A row outlives the browser that was open when it was written: two readers read it in their own languages."""
    rows = get(face, "/api/v1/deployments", **KO).json()["items"]
    assert [row["problem"]["cause"] for row in rows] == [EXITED_KO]
    events = get(face, f"{API}/events", **KO).json()["items"]
    assert events[-1]["message"] == f"local의 서비스가 올라오는 중: {EXITED_KO}"
    assert events[-1]["problem"]["cause"] == EXITED_KO
    assert get(face, f"{API}/events").json()["items"][-1]["problem"]["cause"] == EXITED.cause


def test_events_come_in_the_language_too(face: Face) -> None:
    with (
        httpx.Client(trust_env=False, headers=KO) as client,
        connect_sse(client, "GET", f"{face.url}{API}/events/stream") as stream,
    ):
        for event in stream.iter_sse():
            if event.data and json.loads(event.data)["problem"]:
                assert json.loads(event.data)["problem"]["cause"] == EXITED_KO
                return


@pytest.mark.parametrize("path", ["/start?user_id=7", "/start", "/status_request?user_id=7&project_id=none"])
def test_the_project_managers_words_are_english_unless_it_asks(face: Face, path: str) -> None:
    """It sends no Accept-Language. In Korean too, an error is longer than any status: else it is taken for one."""
    assert get(face, path).text.startswith("error: ")
    korean = get(face, path, **KO).text
    assert korean.startswith("error: ") and re.search("[가-힣]", korean)
    assert len(korean.replace('"', "")) > 50


def test_a_word_is_no_sentence(face: Face) -> None:
    assert get(face, "/status_request?user_id=7&project_id=42", **KO).text == "failed"


def test_findings_keep_their_place(face: Face) -> None:
    face.deployments.error = InvalidSpec(
        "deployment.yaml:3:5: deploy.entrypoint: is missing; a list of words, e.g. [main.py, --fast] is expected",
        "Mend this line and start again.",
    )
    try:
        told = get(face, "/start?user_id=7&project_id=42", **KO).text
    finally:
        face.deployments.error = None
    assert told == (
        "error: deployment.yaml:3:5: deploy.entrypoint: 값이 없습니다. 필요한 값: 단어 목록(예: [main.py, --fast]). "
        "이 줄을 고치고 다시 시작하십시오."
    )


def test_the_builder_speaks_it_as_well(builder: Service) -> None:
    answer = builder.http.get("/builds/none", headers=KO)
    assert answer.json()["error"]["cause"] == "빌드 'none'이(가) 없습니다"
    assert builder.http.get("/builds/none").json()["error"]["cause"] == "there is no build 'none'"


def test_what_is_no_answer_for_people_goes_out_as_it_is(builder: Service, face: Face) -> None:
    """Documents for programs, and the figures within an answer, are the same in every language."""
    for path in ("/openapi.json", "/api/v1/schema"):
        assert get(face, path, **KO).json() == get(face, path).json()
    assert builder.http.get("/healthz", headers=KO).json() == builder.http.get("/healthz").json()
    assert httpx.head(f"{face.url}{API}", headers=KO, trust_env=False).status_code in (200, 405)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_code_has_its_page_on_the_service(face: Face, builder: Service, language: str) -> None:
    """The link in an error is of no use if it leads nowhere, or into the internet."""
    headers = {"Accept-Language": language}
    index = get(face, "/docs/errors", **headers)
    codes = set(re.findall(r"/docs/errors/([a-z_]+)\?", index.text))
    assert codes == speak(language).meanings.keys()
    for url in (face.url, builder.url):
        page = httpx.get(f"{url}/docs/errors/disk_full", headers=headers, trust_env=False)
        assert page.status_code == 200
        assert speak(language).meanings["disk_full"].fix in page.text
        assert f'<html lang="{language}">' in page.text
        assert "script" not in page.text and "//" not in page.text.replace("<!DOCTYPE", "")
    assert get(face, "/docs/errors/none_such<b>").status_code == 404
    assert "<b>" not in get(face, "/docs/errors/none_such<b>").text
