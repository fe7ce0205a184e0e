"""`deploy.type: local`: the image's layers on this machine's python, without any engine. For development.

The target prepares files and tells a supervisor, one per project, what to run; the supervisor does the rest by itself
and outlives this process (`local_supervisor.py`).
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

from cloud_manager.builder import Builder
from cloud_manager.clock import Clock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec, python_version
from cloud_manager.errors import InvalidSpec, TargetError, Unavailable
from cloud_manager.settings import Settings
from cloud_manager.targets.local_files import LocalFiles, in_thread, make_environment
from cloud_manager.targets.local_folder import Folder
from cloud_manager.targets.local_log import read_log
from cloud_manager.targets.local_problems import entrypoint_missing
from cloud_manager.targets.local_program import carriers, kill_all
from cloud_manager.targets.local_python import OWN, interpreter, python_of, pythons
from cloud_manager.targets.local_run import Run, Timing
from cloud_manager.targets.local_spec import (
    ImageConfig,
    choose_python,
    machine_platform,
    observation,
    problems_of,
    run_of,
)
from cloud_manager.targets.local_unpack import discard, remove_tree
from cloud_manager.targets.secret_files import mark_of, read_secrets
from cloud_manager.targets.target import BuildPlatform, Observation, Wanted
from image_builder.contract import SCRATCH, ImageReference, Problem

SUPERVISOR_MARK = "CLOUD_DEPLOY_SUPERVISOR"
_PATIENCE = 30.0
"""Seconds that a supervisor gets to start, and to stop beyond its program's grace."""


class LocalTarget:
    name = "local"
    ignores: tuple[str, ...] = (
        "build.base_image",
        "build.image_uri",
        "build.os",
        "deploy.service_name",
        "deploy.resources.cpu",
        "deploy.resources.memory",
        "deploy.resources.gpu_type",
        "deploy.scaling",
        "deploy.public",
        "deploy.region",
        "deploy.timeout_seconds",
        "deploy.service_account",
        "deploy.k8s",
    )

    def __init__(self, settings: Settings, builder: Builder, clock: Clock, *, timing: Timing | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._timing = timing or Timing()
        self._home = settings.state_dir.resolve() / "local"
        self._files = LocalFiles(self._home, builder)
        self._children: set[int] = set()

    def check(self, spec: DeploymentSpec) -> list[Problem]:
        secrets = self._settings.secrets_dir is not None
        return problems_of(spec, addresses=_addresses(), secrets=secrets)

    def build_platform(self, spec: DeploymentSpec) -> BuildPlatform:
        try:
            wish = python_version(spec)
        except ValueError as error:
            raise InvalidSpec(f"build.components.libs: {error}", "write e.g. python==3.11") from error
        python = choose_python(wish, OWN, pythons())
        return BuildPlatform(machine_platform(sys.platform, platform.machine()), python, SCRATCH)

    async def observe(self, key: Key) -> Observation:
        folder = self._folder(key)
        if folder.owner() is None:
            return Observation("absent")
        _check_owner(folder, key)
        alive = folder.supervised()
        here = machine_platform(sys.platform, platform.machine())
        return observation(folder.report(), alive=alive, removing=folder.stop.exists(), platform=here)

    async def apply(self, wanted: Wanted) -> None:
        """As promised by the protocol; a revision that failed is tried anew."""
        folder = self._folder(wanted.key)
        if wanted.image is None:
            raise TargetError("local runs only what was built here", "add build.components", code="no_image")
        if folder.stop.exists():
            await self.remove(wanted.key)
        if folder.supervised() and _under_way(folder, wanted.revision):
            return
        folder.create(wanted.key.user_id, wanted.key.project_id)
        _check_owner(folder, wanted.key)
        await self._tidy(folder, wanted.revision)
        folder.save_run(await self._prepare(folder, wanted, wanted.image))
        await self._supervise(folder, folder.wish(wanted.revision))

    async def secrets_mark(self, spec: DeploymentSpec, salt: str) -> str:
        return await asyncio.to_thread(mark_of, self._settings.secrets_dir, spec, salt)

    async def remove(self, key: Key) -> None:
        folder = self._folder(key)
        if folder.owner() is None:
            return
        _check_owner(folder, key)
        folder.stop.touch()
        await self._end_supervisor(folder)
        await in_thread(lambda _: _delete(folder))
        _reap(self._children)
        await self._files.prune(self._home.glob("*/*/revisions/*"))

    async def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        folder = self._folder(key)
        async for line in read_log(folder.logs, tail=tail, follow=follow, sleep=self._clock.sleep):
            yield line

    async def aclose(self) -> None:
        self._files.close()

    def _folder(self, key: Key) -> Folder:
        return Folder(self._home / key.user_id / key.project_id)

    async def _tidy(self, folder: Folder, revision: str) -> None:
        """Delete the files of revisions that neither run nor are about to."""
        report = folder.report()
        keep = {revision} | ({one.revision for one in report.services} if report else set())
        await in_thread(lambda _: _remove_others(folder.revisions, keep))

    async def _prepare(self, folder: Folder, wanted: Wanted, reference: ImageReference) -> Run:
        root = folder.root(wanted.revision)
        image = await self._files.prepare(reference, root)
        version = python_of(root) or self.build_platform(wanted.spec).python
        python = await interpreter(version)
        await asyncio.to_thread(make_environment, root, python, version)
        run = run_of(
            wanted,
            image,
            root=root,
            exists=lambda path: os.path.lexists(f"{root}{path}"),
            environ=os.environ,
            secrets=read_secrets(self._settings.secrets_dir, wanted.spec),
            timing=self._timing,
        )
        _check_entrypoint(run, image)
        return run

    async def _supervise(self, folder: Folder, nonce: str) -> None:
        """Returns when a supervisor has heard the wish."""
        _reap(self._children)
        started = 0
        if not await asyncio.to_thread(folder.supervised):
            started = _start_supervisor(folder)
            self._children.add(started)

        def heard() -> bool:
            report = folder.report()
            return report is not None and report.nonce == nonce and folder.supervised()

        def over() -> bool:
            _reap(self._children)
            return heard() or (started != 0 and started not in self._children)

        if not await self._until(over, _PATIENCE) or not heard():
            raise Unavailable(
                f"the supervisor of {folder.path} does not start",
                f"look at {folder.logs / 'supervisor.log'}; it is tried again by itself",
                code="supervisor_silent",
            )

    async def _end_supervisor(self, folder: Folder) -> None:
        """What it started is dead when this returns; one that does not obey is killed by its mark."""
        patience = _PATIENCE + self._timing.grace
        ended = await self._until(lambda: not folder.supervised(), patience)
        if not ended:
            mark = folder.identity() or ""
            await in_thread(lambda _: kill_all(lambda: carriers(mark, SUPERVISOR_MARK)))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not condition():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True


def _remove_others(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in keep:
            discard(path)


def _under_way(folder: Folder, revision: str) -> bool:
    report, wished = folder.report(), folder.wished()
    newest = report.newest() if report else None
    if report is None or newest is None or wished is None or report.revision != revision:
        return False
    return wished[1] == revision and newest.state in ("starting", "ready", "restarting")


def _check_owner(folder: Folder, key: Key) -> None:
    owner = folder.owner() or {}
    if (owner.get("user_id"), owner.get("project_id")) != (key.user_id, key.project_id):
        raise TargetError(
            f"{folder.path} belongs to {owner.get('user_id')}/{owner.get('project_id')}, not to {key}",
            "move that folder away, or use another project_id",
            code="not_ours",
        )


def _check_entrypoint(run: Run, image: ImageConfig) -> None:
    """Told before anything is started: the commonest slip of all."""
    script = next((word for word in image.argv[1:2] if word.endswith((".py", ".sh"))), None)
    missing = shutil.which(run.argv[0], path=run.env["PATH"]) is None and not Path(run.cwd, run.argv[0]).exists()
    name = image.argv[0] if missing else script
    if missing or (script and not Path(run.cwd, run.argv[1]).exists()):
        raise TargetError.of(Problem.model_validate(entrypoint_missing(str(name), image.workdir)))


def _delete(folder: Folder) -> None:
    """All but the logs; the mark of ownership last, so that a deletion that was cut short is taken up again."""
    identity = folder.identity()
    with folder.holding_lock(seconds=5.0) as ours:
        if not ours:
            raise Unavailable(f"{folder.path} is still supervised", "it is tried again by itself", code="still_there")
        if identity:
            # We have the lock: a supervisor that is there still has nothing to do but to end.
            kill_all(lambda: [*carriers(identity), *carriers(identity, SUPERVISOR_MARK)])
        remove_tree(folder.revisions)
        for name in ("wanted.json", "state.json", "lock", "stop", "project.json"):
            (folder.path / name).unlink(missing_ok=True)


def _start_supervisor(folder: Folder) -> int:
    """Its pid. It makes a session of its own, so that neither Ctrl-C nor our end reaches it."""
    command = [sys.executable, "-P", "-m", "cloud_manager.targets.local_supervisor", str(folder.path)]
    package_home = str(Path(__file__).resolve().parents[2])
    env = {"PYTHONPATH": package_home, SUPERVISOR_MARK: folder.identity() or ""}
    log = str(folder.logs / "supervisor.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(sys.executable, command, env, file_actions=actions)


def _reap(pids: set[int]) -> None:
    """Collect the supervisors that were our children and have ended."""
    for pid in list(pids):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            pids.discard(pid)


def _addresses() -> set[str]:
    found = {"0.0.0.0", "::", "localhost"}  # noqa: S104 - what a person may write
    for rows in psutil.net_if_addrs().values():
        found |= {row.address.partition("%")[0] for row in rows if row.family.name in ("AF_INET", "AF_INET6")}
    return found
