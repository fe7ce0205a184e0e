"""The service as a process: killed, stopped, started again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.image_builder.service import ROOT, Service, serving
from tests.integration.stack import until


def test_kill_in_mid_build_then_it_goes_on_and_ends_once(tmp_path: Path) -> None:
    """Otherwise a crash of the builder loses a deployment, or its history."""
    with serving(tmp_path / "state") as service:
        build_id = service.ask()["id"]
        service.ask(owner="7/43")
        until("it to begin", lambda: service.runs() == ["begin"])
        service.kill()
        service.start()
        until("it to begin again", lambda: service.runs() == ["begin", "begin"])
        assert service.show(build_id)["owners"] == ["7/42", "7/43"]
        service.go()
        service.wait(build_id, "succeeded")
        assert service.runs() == ["begin", "begin", "end"]
        events = service.events(build_id)
        assert [event["kind"] for event in events].count("done") == 1
        assert [event["message"] for event in events].count("continued after a restart") == 1
        assert service.ask()["state"] == "succeeded"


@pytest.mark.slow
def test_killed_at_random_instants(tmp_path: Path) -> None:
    """Otherwise there is an instant at which a crash leaves half a record."""
    dice = random.Random(7)
    state_dir = tmp_path / "state"
    with serving(state_dir) as service:
        service.go()
        promised: list[str] = []
        for round_ in range(5):
            answered: list[str] = []
            asking = threading.Thread(target=burst, args=(service.url, round_, answered), daemon=True)
            asking.start()
            enough = dice.randrange(1, 20)
            until("some answers", lambda: len(answered) >= enough or not asking.is_alive())  # noqa: B023
            threading.Event().wait(dice.uniform(0.0, 0.02))
            service.kill()
            asking.join()
            promised += answered
            service.start()
        builds = until("all builds to be done", lambda: settled(service))
        assert {build["state"] for build in builds} == {"succeeded"}
        assert set(promised) <= {build["id"] for build in builds}, "a build that was promised is lost"
        for build in builds:
            events = service.events(build["id"])
            assert [event["kind"] for event in events][-1] == "done"
            numbers = [event["sequence"] for event in events]
            assert numbers == sorted(set(numbers))
            assert service.http.get(f"/v2/{build['image']['repository']}/manifests/latest").status_code == 200


def burst(url: str, round_: int, answered: list[str]) -> None:
    """Ask for builds one after the other; the service dies under it."""
    for number in range(40):
        body = {"owner": "7/42", "source": f"s{round_}-{number}", "entrypoint": ["python"]}
        try:
            answer = httpx.post(f"{url}/builds", json=body, timeout=20, trust_env=False)
        except httpx.TransportError:
            return
        answered.append(answer.json()["id"])


def settled(service: Service) -> list[dict[str, Any]]:
    builds = service.http.get("/builds", params={"limit": 1000}).json()
    done = all(build["state"] not in ("queued", "running") for build in builds)
    return list(builds) if done else []


def test_a_torn_record_and_history_do_not_keep_it_from_starting(tmp_path: Path) -> None:
    """Otherwise one power cut means that an operator must repair files by hand."""
    state_dir = tmp_path / "state"
    with serving(state_dir) as service:
        torn, cut = service.ask(source="a")["id"], service.ask(source="b")["id"]
        service.kill()
        builds = state_dir / "builder" / "builds"
        (builds / torn / "status.json").write_bytes(b'{"id": "')
        history = (builds / cut / "events.jsonl").read_bytes()
        (builds / cut / "events.jsonl").write_bytes(history + b'{"sequence": 77, "ti')
        service.go()
        service.start()
        service.wait(cut, "succeeded")
        assert 77 not in [event["sequence"] for event in service.events(cut)]
        assert service.http.get(f"/builds/{torn}").status_code == 404
        assert service.ask(source="a")["id"] == torn
        service.wait(torn, "succeeded")


def test_a_build_killed_between_its_record_and_its_last_event_still_ends(tmp_path: Path) -> None:
    """Otherwise whoever listens to its events never learns that it is done."""
    with serving(tmp_path / "state") as service:
        service.go()
        build_id = service.ask()["id"]
        service.wait(build_id, "succeeded")
        service.kill()
        path = tmp_path / "state" / "builder" / "builds" / build_id / "events.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        service.start()
        for _ in range(2):
            assert [event["kind"] for event in service.events(build_id)].count("done") == 1


def test_stopping_is_quick_though_people_listen_and_the_build_goes_on_later(tmp_path: Path) -> None:
    """Otherwise a restart hangs for as long as somebody watches a build, or cancels it."""
    with serving(tmp_path / "state") as service:
        build_id = service.ask()["id"]
        until("it to run", lambda: service.runs() == ["begin"])
        heard: list[dict[str, Any]] = []
        listener = threading.Thread(target=lambda: heard.extend(service.events(build_id)), daemon=True)
        listener.start()
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        listener.join(10)
        assert service.ended() in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 10
        assert "done" not in [event["kind"] for event in heard]
        assert service.runs() == ["begin", "dead"]
        assert "Traceback" not in service.log
        service.go()
        service.start()
        service.wait(build_id, "succeeded")


def test_a_second_builder_on_the_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    """Otherwise two builders write the same records."""
    with serving(tmp_path / "state"):
        env = {
            "STATE_DIR": str(tmp_path / "state"),
            "IMAGE_BUILDER_PORT": "0",
            "WEB_PORT": "0",
            "PATH": "/usr/bin:/bin",
        }
        second = subprocess.run(  # noqa: PLW1510 - that it fails is the point
            [sys.executable, "-m", "image_builder"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 1
        assert "another image builder (process" in second.stderr
        assert len(second.stderr.splitlines()) == 1
