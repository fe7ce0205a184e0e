"""The command line speaks the language of its terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_manager.cli.main import main
from cloud_manager.deployment import Phase
from tests.cloud_manager.face import served


@pytest.fixture
def korean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(str(caught.value.code or 0))


@pytest.mark.usefixtures("korean")
def test_findings_are_korean_and_keep_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An editor jumps to file:line:column, in whatever language the rest is."""
    file = tmp_path / "deployment.yaml"
    file.write_text("deploy:\n  type: local\n  entrpoint: x.py\n")
    assert ended("validate", str(file)) == 1
    assert f"{file}:3:3: deploy.entrpoint: 알 수 없는 키입니다. 혹시 `entrypoint` 키입니까?" in capsys.readouterr().out


@pytest.mark.usefixtures("korean")
def test_errors_of_here_and_of_the_manager_are_korean(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("status", "--url", "http://127.0.0.1:1") == 3
    assert "클라우드 매니저(http://127.0.0.1:1)가 응답하지 않습니다" in capsys.readouterr().err
    with served() as face:
        face.know(Phase.RUNNING)
        assert ended("logs", "7", "none", "--url", face.url) == 1
    assert "프로젝트 7/none은(는) 시작된 적이 없습니다" in capsys.readouterr().err


def test_another_locale_is_answered_in_english(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    assert ended("status", "--url", "http://127.0.0.1:1") == 3
    assert "does not answer" in capsys.readouterr().err
