"""What targets on a machine of one's own are asked: room on a disk, files of secrets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Found, Question, failed, passed, skipped
from cloud_manager.targets.secret_files import read_secrets

LEAST = 2 << 30
"""Bytes: a python with torch for the CPU, unpacked once."""


def disk(folder: Path, whose: str) -> Found:
    """Blocking. A folder that is not there yet is made on the disk of the one that will hold it."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), None)
    if there is None:
        return skipped(f"{folder} is not to be seen from here")
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return skipped(f"{folder} cannot be looked at: {error.strerror}")
    if free < LEAST:
        cause = f"{whose} has {_gib(free)} left in {folder}; an image needs up to {_gib(LEAST)}"
        return failed(cause, "free space there, e.g. with", "cloud-deploy gc")
    return passed(f"{_gib(free)} free in {folder}")


def secrets_question(folder: Path | None, spec: DeploymentSpec | None) -> Sequence[Question]:
    if spec is None or not spec.deploy.secrets:
        return ()

    async def ask() -> Found:
        """Raises TargetError, which names the file."""
        if folder is None:
            return failed("no folder of secrets is set", "set SECRETS_DIR to a folder with one file per secret")
        await asyncio.to_thread(read_secrets, folder, spec)
        return passed(f"{len(spec.deploy.secrets)} in {folder}")

    return [Question("secrets", ask)]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
