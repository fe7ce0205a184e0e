"""Which targets there are, and what is said of those that are not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_manager.clock import SystemClock
from cloud_manager.errors import DeployError
from cloud_manager.settings import Settings
from cloud_manager.targets.catalog import Catalog
from tests.fakes.image_shelf import ImageShelf


def catalog(folder: Path, *, local: bool) -> Catalog:
    return Catalog(Settings(state_dir=folder, local_target=local), ImageShelf(), SystemClock())


async def test_docker_is_there_without_an_engine_being_asked(tmp_path: Path) -> None:
    """Else a manager without an Engine could not start, and a check of a file would wait for one."""
    targets = Catalog(Settings(state_dir=tmp_path, docker_host="tcp://127.0.0.1:1"), ImageShelf(), SystemClock())
    assert targets.get("docker").name == "docker"
    await targets.aclose()


async def test_google_is_there_without_being_asked_or_imported(tmp_path: Path) -> None:
    """Google's packages take seconds: nobody who does not use them waits for them."""
    script = (
        "import sys; from cloud_manager.settings import Settings; from cloud_manager.targets.catalog import Catalog\n"
        "target = Catalog(Settings(), None, None).get('gcp-cloudrun')\n"
        "assert target.name == 'gcp-cloudrun' and target.check.__self__ is target\n"
        "print([name for name in sys.modules if name.startswith(('grpc', 'google.api_core', 'google.cloud.run'))])"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


async def test_a_target_is_built_once(tmp_path: Path) -> None:
    targets = catalog(tmp_path, local=True)
    assert targets.available() == ("docker", "gcp-cloudrun", "local")
    assert targets.get("local") is targets.get("local")
    assert targets.get("local").name == "local"
    await targets.aclose()


def test_local_is_off_unless_allowed(tmp_path: Path) -> None:
    """Else whoever writes a YAML file would run programs as the manager's user."""
    targets = catalog(tmp_path, local=False)
    assert targets.available() == ("docker", "gcp-cloudrun")
    with pytest.raises(DeployError, match=r"LOCAL_TARGET=1.*unconfined") as caught:
        targets.get("local")
    assert caught.value.problem.code == "target_unavailable"


@pytest.mark.parametrize("name", ["aws-ecs", "k8s", "native", "pcserver", "ondevice", "what"])
def test_other_types_are_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeployError, match=f"deploy.type {name} is not available here.*local") as caught:
        catalog(tmp_path, local=True).get(name)
    assert not caught.value.problem.retryable
