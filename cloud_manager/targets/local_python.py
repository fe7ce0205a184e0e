"""The pythons of this machine."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

from cloud_manager.errors import TargetError
from cloud_manager.targets.local_spec import VENV

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The minor version that runs this manager."""


def pythons() -> set[str]:
    """Minor versions found on PATH."""
    return {f"3.{minor}" for minor in range(8, 20) if shutil.which(f"python3.{minor}")}


def python_of(root: Path) -> str | None:
    """The python that the image's packages were chosen for."""
    found = [re.fullmatch(r"python(3\.\d+)", path.name) for path in Path(f"{root}{VENV}/lib").glob("python3.*")]
    return next((match[1] for match in found if match), None)


async def interpreter(version: str) -> Path:
    """The real program behind `python3.X`: not a virtual environment's, not a version manager's shim."""
    found = sys.executable if version == OWN else shutil.which(f"python{version}")
    if not found:
        raise TargetError(
            f"the image needs python {version}, which this machine lacks",
            f"install python{version}",
            code="python_missing",
        )
    ask = "import os, sys; print(os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable))"
    process = await asyncio.create_subprocess_exec(found, "-I", "-c", ask, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Path(output.decode().strip())
