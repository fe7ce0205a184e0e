"""The same inputs give the same image on any machine, and what a registry has is not written to it again."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.base_image import tiny_base
from tests.image_builder.service import Service, serving
from tests.image_builder.wheels import SCRIPT, make_project, make_wheel
from tests.integration.stack import until
from tests.registry import serve

FILES = {"app.py": "print('hi')\n", "한글.py": "x = 1\n", "b/c.txt": "c", "w.pt": random.Random(5).randbytes(300_000)}
ONE: dict[str, Any] = {"umask": 0o022, "TZ": "Asia/Seoul", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
OTHER: dict[str, Any] = {
    "umask": 0o077,
    "TZ": "America/Lima",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONHASHSEED": "2",
}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry of one's own, and the folder in which it keeps everything."""
    (tmp_path / "registry").mkdir()
    for address in serve(needs.program("docker-registry"), tmp_path / "registry"):
        yield address, tmp_path / "registry" / "data"


@pytest.fixture
def links(tmp_path: Path) -> Path:
    noise = random.Random(4).randbytes(200_000)
    make_wheel(tmp_path / "links", entry_points=SCRIPT, requires=("dep>=1",))
    make_wheel(tmp_path / "links", "dep", files={"dep.py": "x = 1\n", "dep_data.bin": noise})
    make_wheel(tmp_path / "links", "third", files={"third.py": "x = 3\n"})
    return tmp_path / "links"


def built(service: Service, order: int, **asked: Any) -> dict[str, Any]:
    """The status of a build whose requirements are named in this order (1 or -1)."""
    rows = [{"text": name} for name in ("hello", "third")][::order]
    build_id = service.ask(requirements=rows, weights=["w.pt"], entrypoint=["python", "app.py"], **asked)["id"]
    status = until("the build", lambda: shown if (shown := service.show(build_id))["finished"] else {})
    assert status["state"] == "succeeded", status["problem"]
    return status


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a registry."""
    files = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_two_machines_make_one_image_and_the_second_sends_nothing(
    shelf: tuple[str, Path], links: Path, tmp_path: Path
) -> None:
    """Otherwise each machine of a team deploys anew what runs already, and sends it all again."""
    registry, data = shelf
    asked = {"base_image": tiny_base(registry, "base"), "push": f"{registry}/{secrets.token_hex(4)}:1"}
    offline = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(links), "PIP_CONFIG_FILE": os.devnull}
    images, before = [], {}
    for order, how, place in ((1, ONE, "one"), (-1, OTHER, "another/place, deeper")):
        home = tmp_path / place
        folder = make_project(home / "shared", dict([*FILES.items()][::order]))
        for name in FILES:
            (folder / name).chmod(0o666 & ~how["umask"])
        before = written(data)
        with serving(home / "state", home / "shared", **offline, **how) as service:
            images.append(built(service, order, **asked))
            after = written(data)
            assert built(service, -order, **asked)["image"] == images[-1]["image"]
            assert written(data) == after, "asked again, nothing is done"
    assert images[0]["image"] == images[1]["image"]
    assert images[0]["summary"]["uploaded"] > 500_000 and images[1]["summary"]["uploaded"] == 0
    assert written(data) == before
