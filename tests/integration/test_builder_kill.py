"""kill -9 of the image builder while ten builds run and publish: nothing corrupt comes out, nothing is left over."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_builder.disk import PARTIAL
from tests import needs
from tests.image_builder.service import Service, serving
from tests.image_builder.test_base_build import tags
from tests.image_builder.wheels import make_wheel
from tests.integration.stack import until
from tests.registry import serve

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BUILDS = 10


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Where the registry keeps its blobs."""
    return tmp_path / "registry" / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "registry").mkdir()
    yield from serve(needs.program("docker-registry"), tmp_path / "registry")


def write_projects(tmp_path: Path, dice: random.Random) -> None:
    """All share one large wheel; two by two they share their weights."""
    make_wheel(tmp_path / "links", "torchlike", files={"torchlike/lib.so": dice.randbytes(6_000_000)})
    make_wheel(tmp_path / "links", "smalllike", files={"smalllike.py": "x = 1\n"})
    for number in range(BUILDS):
        write_project(tmp_path, number, f"print({number})\n", random.Random(number // 2).randbytes(3_000_000))


def write_project(tmp_path: Path, number: int, program: str, weights: bytes) -> None:
    folder = tmp_path / "shared" / source(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(program)
    (folder / "w.pt").write_bytes(weights)


def source(number: int) -> str:
    return f"common/7/{number}/nn_model"


def asked(number: int, registry: str) -> dict[str, Any]:
    about = {"owner": f"7/{number}", "source": source(number), "base_image": "scratch", "python": PYTHON}
    libs = [{"text": "torchlike"}, {"text": "smalllike"}]
    return about | {"requirements": libs, "weights": ["w.pt"], "push": f"{registry}/model{number}:1"}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_killed_at_random_instants_no_blob_is_ever_wrong(
    tmp_path: Path, own_registry: str, storage: Path, kills: int
) -> None:
    """Otherwise a power cut publishes half a layer, which every machine that pulls it then has."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    dice = random.Random(seed)
    write_projects(tmp_path, dice)
    offline = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "links"), "PIP_CONFIG_FILE": os.devnull}
    with serving(tmp_path / "state", tmp_path / "shared", BUILD_WORKERS=str(BUILDS), **offline) as service:
        ids: list[str] = []
        for kill in range(kills):
            for number in dice.sample(range(BUILDS), 3):
                write_project(tmp_path, number, f"print('after {kill} kills')\n", dice.randbytes(3_000_000))
            ids = [service.ask(**asked(number, own_registry))["id"] for number in range(BUILDS)]
            threading.Event().wait(dice.uniform(0, 3.0))
            service.kill()
            check_storage(storage)
            service.start()
        for build_id in ids:
            shown = until("the image", lambda wanted=build_id: ended(service, wanted), 120)  # type: ignore[misc]
            assert shown["state"] == "succeeded", shown["problem"]
        check_storage(storage)
        for number in range(BUILDS):
            pulled_whole(own_registry, f"model{number}", tmp_path / f"pulled{number}")
        cleared = service.http.post("/gc", params={"verify": True}).raise_for_status().json()
        assert cleared["verified"] and cleared["gone"] == []
        left = [path for path in (tmp_path / "state").rglob("*") if path.name.startswith(PARTIAL)]
        assert left == [], "each start sweeps what the dead have left"
        for folder in ("scratch", "leases"):
            assert list((tmp_path / "state" / "builder" / folder).iterdir()) == []


def ended(service: Service, build_id: str) -> dict[str, Any]:
    shown = service.show(build_id)
    return shown if shown["finished"] else {}


def check_storage(storage: Path) -> None:
    """Every blob that the registry has taken, manifests too, is what its name says."""
    for data in storage.glob("*/*/data"):
        assert hashlib.sha256(data.read_bytes()).hexdigest() == data.parent.name


def pulled_whole(registry: str, name: str, folder: Path) -> None:
    """As another program pulls it."""
    assert tags(registry, name) == ["1"]
    copy = [needs.program("skopeo"), "copy", "--insecure-policy", "--src-tls-verify=false"]
    subprocess.run([*copy, f"docker://{registry}/{name}:1", f"dir:{folder}"], check=True, capture_output=True)
    described = json.loads((folder / "manifest.json").read_bytes())
    for row in (described["config"], *described["layers"]):
        data = (folder / row["digest"].removeprefix("sha256:")).read_bytes()
        assert (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") == (row["size"], row["digest"])
