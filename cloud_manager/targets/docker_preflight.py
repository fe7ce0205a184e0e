"""`docker`, asked before anything is built: the Engine, its GPUs, its disk, the secrets. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Found, Question, failed, passed, skipped
from cloud_manager.settings import Settings
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_spec import gpus
from cloud_manager.targets.host_preflight import disk, secrets_question


class DockerPreflight:
    """Implements `Preflight`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = Engine.of(settings)

    def questions(self, spec: DeploymentSpec | None) -> Sequence[Question]:
        async def gpu() -> Found:
            wanted = gpus(spec) if spec is not None else 0
            return gpu_found(wanted, await self._engine.info()) if wanted else skipped("no GPU is asked for")

        rows = [Question("engine", self._answers), Question("gpu", gpu), Question("disk", self._disk)]
        return [*rows, *secrets_question(self._settings.secrets_dir, spec)]

    async def aclose(self) -> None:
        await self._engine.aclose()

    async def _answers(self) -> Found:
        info = await self._engine.info()
        version, machine = info.get("ServerVersion", "?"), f"{info.get('OSType', '?')}/{info.get('Architecture', '?')}"
        return passed(f"Docker Engine {version} for {machine} at {self._engine.host}")

    async def _disk(self) -> Found:
        root = Path(str((await self._engine.info()).get("DockerRootDir") or ""))
        if not self._engine.is_here or not root.is_absolute():
            return skipped("the Engine's disk is not this machine's")
        return await asyncio.to_thread(disk, root, "the Docker Engine")


def gpu_found(wanted: int, info: Mapping[str, Any]) -> Found:
    """By what `docker info` tells: a runtime of NVIDIA's, or devices of its kind (CDI)."""
    devices = [str(one.get("ID") or "") for one in info.get("DiscoveredDevices") or ()]
    nvidia = [name for name in devices if name.startswith("nvidia.com/gpu=")]
    if "nvidia" in (info.get("Runtimes") or {}) or nvidia:
        return passed(f"the Engine can give programs NVIDIA GPUs; {wanted} asked for")
    fix = "install the NVIDIA container toolkit on its machine, then, as root:"
    cause = "the Docker Engine has no runtime for GPUs"
    return failed(cause, fix, "nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker")
