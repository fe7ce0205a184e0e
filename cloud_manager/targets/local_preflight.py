"""`local`, asked before anything is built: whether it is allowed, the python, the disk, the secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from cloud_manager.deployment_spec import DeploymentSpec, python_version
from cloud_manager.preflight import Found, Question, failed, passed
from cloud_manager.settings import Settings
from cloud_manager.targets.host_preflight import disk, secrets_question
from cloud_manager.targets.local_python import OWN, interpreter, pythons
from cloud_manager.targets.local_spec import choose_python


class LocalPreflight:
    """Implements `Preflight`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def questions(self, spec: DeploymentSpec | None) -> Sequence[Question]:
        home = self._settings.state_dir / "local"
        return [
            Question("allowed", self._allowed),
            Question("python", partial(_python, spec)),
            Question("disk", lambda: asyncio.to_thread(disk, home, "this machine")),
            *secrets_question(self._settings.secrets_dir, spec),
        ]

    async def aclose(self) -> None:
        pass

    async def _allowed(self) -> Found:
        if self._settings.local_target:
            return passed("programs run as the manager's user, unconfined")
        return failed("deploy.type local is off: its programs run unconfined", "allow it with LOCAL_TARGET=1, or", _UP)


async def _python(spec: DeploymentSpec | None) -> Found:
    """Raises TargetError: this machine lacks it."""
    try:
        wish = python_version(spec) if spec is not None else None
    except ValueError as error:
        return failed(f"build.components.libs: {error}", "write e.g. python==3.11")
    version = choose_python(wish, OWN, pythons())
    return passed(f"python {version}, {await interpreter(version)}")


_UP = "cloud-deploy up --local"
