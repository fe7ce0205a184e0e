"""Two real builders that share one cache: what one makes the other uses, also when one is killed, or clears."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_builder.interpreters import here
from tests.image_builder.service import ROOT, Service
from tests.image_builder.test_sources import make_source
from tests.image_builder.wheels import make_wheel
from tests.integration.stack import until

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def links(tmp_path: Path) -> Path:
    for count, name in enumerate(("torchlike", "otherlike")):
        make_wheel(tmp_path / "links", name, files={f"{name}/lib.so": random.Random(count).randbytes(3_000_000)})
    return tmp_path / "links"


def builder(tmp_path: Path, name: str, **env: str) -> Service:
    offline = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "links"), "PIP_CONFIG_FILE": os.devnull}
    return Service(tmp_path / name, tmp_path / "shared", CACHE_DIR=str(tmp_path / "cache"), **offline, **env)


@contextmanager
def pair(tmp_path: Path, **env: str) -> Iterator[tuple[Service, Service]]:
    """env: of the second."""
    found = [builder(tmp_path, "one")]
    try:
        found.append(builder(tmp_path, "two", **env))
        yield found[0], found[1]
    finally:
        for service in found:
            service.kill()


def project(tmp_path: Path, name: str) -> dict[str, Any]:
    """What is asked of a builder for a project of its own."""
    folder = tmp_path / "shared" / "common" / "7" / name / "nn_model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(f"print('{name}')\n")
    (folder / "w.pt").write_bytes(random.Random(7).randbytes(2_000_000))
    about = {"base_image": "scratch", "python": PYTHON, "platform": here(), "weights": ["w.pt"]}
    return about | {"owner": f"7/{name}", "source": f"common/7/{name}/nn_model"}


def done(service: Service, build_id: str, state: str = "succeeded") -> dict[str, Any]:
    shown = until(state, lambda: found if (found := service.show(build_id))["finished"] else {}, 90)
    assert shown["state"] == state, shown["problem"]
    return shown


def both(one: Service, two: Service, first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """Asked for at the same instant."""
    start = threading.Barrier(2)

    def ask(service: Service, asked: dict[str, Any]) -> dict[str, Any]:
        start.wait()
        return done(service, service.ask(**asked)["id"])

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(ask, (one, two), (first, second)))


def origins(builds: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for layer in (layer for build in builds for layer in build["layers"]):
        found.setdefault(layer["name"], []).append(layer["origin"])
    return {name: sorted(rows) for name, rows in found.items()}


def test_what_both_need_is_made_once(tmp_path: Path, links: Path) -> None:
    """Otherwise each builder more makes torch once more, and two builders make two images of one project."""
    with pair(tmp_path) as (one, two):
        asked = project(tmp_path, "42") | {"requirements": [{"text": "torchlike"}]}
        builds = both(one, two, asked, asked)
        assert builds[0]["image"] == builds[1]["image"]
        assert len(builds[0]["layers"]) >= 3
        assert set(map(tuple, origins(builds).values())) == {("built", "reused")}

        more = {"requirements": [{"text": "torchlike"}, {"text": "otherlike"}]}
        builds = both(one, two, project(tmp_path, "43") | more, project(tmp_path, "44") | more)
        assert builds[0]["image"]["digest"] != builds[1]["image"]["digest"]
        how = origins(builds)
        assert how.pop("program") == ["built", "built"]
        assert sorted(how.values()) == [["built", "reused"], ["reused", "reused"], ["reused", "reused"]]
        for service in (one, two):
            service.http.post("/gc", params={"verify": True}).raise_for_status()
            assert service.show(service.ask(**asked)["id"])["state"] == "succeeded"


def test_a_cache_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    """Otherwise a mistake in a setting is a traceback."""
    (tmp_path / "cache").write_text("no folder")
    env = {"STATE_DIR": str(tmp_path / "state"), "CACHE_DIR": str(tmp_path / "cache"), "IMAGE_BUILDER_PORT": "0"}
    env["WEB_PORT"] = "0"
    command = [sys.executable, "-m", "image_builder"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"{tmp_path / 'cache'}" in line and "CACHE_DIR" in line


def test_who_waits_goes_on_when_the_maker_is_killed(tmp_path: Path, links: Path) -> None:
    """Otherwise the death of one builder stops the others on the volume."""
    noted, go = tmp_path / "noted", tmp_path / "go"
    noted.touch()
    gate = f"import pathlib, time\nopen({str(noted)!r}, 'a').write('x')\n"
    gate += f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    make_source(links, before=gate)
    with pair(tmp_path) as (one, two):
        asked = project(tmp_path, "42") | {"requirements": [{"text": "srconly"}, {"text": "torchlike"}]}
        build_id = one.ask(**asked)["id"]
        until("one to build the source", lambda: noted.read_text() == "x")
        assert two.ask(**asked)["id"] == build_id
        until("two to have the lock", lambda: "the lock made before" in history(tmp_path, "two", build_id))
        done(two, two.ask(**project(tmp_path, "43"))["id"])  # who waits keeps nothing else from going on
        assert noted.read_text() == "x" and "building srconly" not in history(tmp_path, "two", build_id)
        one.kill()
        until("two to build it", lambda: noted.read_text() == "xx", 10)
        go.touch()
        image = done(two, build_id)["image"]
        one.start()
        again = done(one, build_id)
        assert again["image"] == image
        assert {layer["origin"] for layer in again["layers"]} == {"reused"}
        assert history(tmp_path, "one", build_id).count("building srconly") == 1, "that was before it died"


def history(tmp_path: Path, name: str, build_id: str) -> str:
    path = tmp_path / name / "builder" / "builds" / build_id / "events.jsonl"
    return path.read_text() if path.exists() else ""


def test_clearing_takes_nothing_from_a_build_of_another(tmp_path: Path, links: Path, registry: str) -> None:
    """Otherwise an image is published without a layer, or builds fail whenever another builder is short of room."""
    with pair(tmp_path, CACHE_MAX_BYTES="1") as (one, two):
        stop, cleared = threading.Event(), list[str]()

        def clear() -> None:
            while not stop.is_set():
                answer = httpx.post(f"{two.url}/gc", timeout=60, trust_env=False).raise_for_status().json()
                cleared.extend(thing["kind"] for thing in answer["gone"])

        with ThreadPoolExecutor(1) as threads:
            clearing = threads.submit(clear)
            try:
                asked = [project(tmp_path, str(number)) for number in range(8)]
                libs = [{"text": "torchlike"}, {"text": "otherlike"}]
                name = f"{registry}/{tmp_path.name}"
                ids = [
                    one.ask(**row, requirements=libs, push=f"{name}/{count}:1")["id"] for count, row in enumerate(asked)
                ]
                builds = [done(one, build_id) for build_id in ids]
            finally:
                stop.set()
            clearing.result()
        assert "blob" in cleared
        for build in builds:
            assert "Trying again" not in history(tmp_path, "one", build["id"])
            check_published(build["image"]["pushed"])


def check_published(image: str) -> None:
    """All of it can be pulled, and is what the digests say."""
    address, _, rest = image.partition("/")
    name, _, digest = rest.partition("@")
    with httpx.Client(base_url=f"http://{address}/v2/{name}", timeout=20, trust_env=False) as http:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        manifest = http.get(f"/manifests/{digest}", headers=accept).raise_for_status().content
        described = json.loads(manifest)
        parts = [row["digest"] for row in (described["config"], *described["layers"])]
        found = {part: http.get(f"/blobs/{part}").raise_for_status().content for part in parts}
    assert {part: f"sha256:{hashlib.sha256(data).hexdigest()}" for part, data in found.items()} == {
        part: part for part in parts
    }
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == digest
