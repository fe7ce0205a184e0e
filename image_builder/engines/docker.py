"""Docker as a build engine, by its HTTP API."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from image_builder.contract import Platform
from image_builder.disk import full_disk_named
from image_builder.engines import apt, docker_archive
from image_builder.engines.apt import SystemPackage
from image_builder.engines.context import Context
from image_builder.engines.diff import apt_layer, carried_layer, empty_layer
from image_builder.engines.docker_api import Connection, DockerApi, NoDocker, send_whole
from image_builder.engines.docker_base import is_known, is_made_here, kept_image, unpacked
from image_builder.engines.docker_build import build, remove_container
from image_builder.engines.engine import RUN_LABEL, Bring, Built, Log, Surroundings, engine_failed, network_failed
from image_builder.engines.runs import Run, Runs
from image_builder.errors import BuildError
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage
from image_builder.oci.image import canonical
from image_builder.oci.layout import Layout
from image_builder.work import StopFlag, in_thread, to_the_end

_REPOSITORY = "cloud-deploy-run"
"""Tags of this repository are images for as long as a run needs them."""

_WAITING = ("sleep", "infinity")
_TAIL = 400
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


class Docker:
    """Implements `Engine`. folder: for its runs, below the builder's own."""

    name = "docker"

    def __init__(self, api: DockerApi, layout: Layout, folder: Path, around: Surroundings) -> None:
        self._api = api
        self._layout = layout
        self._runs = Runs(folder)
        self._around = around

    async def available(self) -> str | None:
        try:
            async with self._api.connect() as engine:
                about = await engine.json("GET", "/info")
        except (NoDocker, BuildError) as error:
            return f"docker: {error}"
        return None if about.get("OSType") == "linux" else "docker: it runs no Linux containers"

    async def with_packages(self, base: BaseImage, bring: Bring, packages: Sequence[SystemPackage], log: Log) -> Layer:
        async with self._run() as (engine, run):
            await self._provide(engine, run, base, bring, log)
            container = await self._container(engine, run)
            ca = await in_thread(lambda _: self._around.ca.read_bytes() if self._around.ca else b"")
            await self._lend(engine, container, ca)
            await self._start(engine, container, packages)
            for argv in apt.commands(packages, ca=bool(ca)):
                code, said = await self._exec(engine, container, argv, log, ca=bool(ca))
                if code != 0:
                    raise apt.failure(said, packages)
            commit = {"container": container, "repo": _REPOSITORY, "tag": run.id}
            await to_the_end(engine.json("POST", "/commit", params=commit, json={}))
            return await self._newest_layer(engine, run, len(base.layers))

    async def build_dockerfile(self, context: Context, log: Log) -> Built:
        async with self._run() as (engine, run):
            image = await build(engine, context, self._around, log)
            tag = {"repo": _REPOSITORY, "tag": run.id}
            await to_the_end(engine.call("POST", f"/images/{image}/tag", params=tag))
            archive = await _save(engine, _tag(run), run)
            saved = await in_thread(lambda _: docker_archive.contents(archive))
            layers = [await self._layer(archive, path, carried_layer) for path in saved.paths]
            return Built(saved.config, tuple(layers))

    async def base(
        self, named: str, platform: Platform, known: BaseImage | None, *, made_here: bool
    ) -> BaseImage | None:
        if await self.available() is not None:
            return None
        async with self._run() as (engine, run):
            found = await kept_image(engine, named, platform)
            if found is None or (made_here and not is_made_here(found)):
                return None
            if await in_thread(lambda _: is_known(found, known, self._layout)):
                return known
            archive = await _save(engine, str(found["Id"]), run)
            return await in_thread(lambda flag: unpacked(archive, named, found, self._layout, flag))

    async def sweep(self) -> None:
        for run in await in_thread(lambda _: self._runs.dead()):
            await self._clear(run)

    # -- a run -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[tuple[Connection, Run]]:
        """When this is left, however it is left, nothing of the run is in the engine."""
        with self._runs.begin() as run:
            try:
                async with self._api.connect() as engine:
                    yield engine, run
            except NoDocker as error:
                raise engine_failed(self.name, f"it cannot be reached: {error}") from error
            finally:
                await to_the_end(self._clear(run))

    async def _clear(self, run: Run) -> None:
        """Containers first: images that they use stay."""
        try:
            async with self._api.connect() as engine:
                for container in await _containers(engine, run):
                    await remove_container(engine, container)
                for tag in (_tag(run), _base_tag(run)):
                    # noprune: what the Dockerfile's steps made is the engine's own cache.
                    await engine.call("DELETE", f"/images/{tag}", 404, 409, params={"noprune": "1"})
        except (NoDocker, BuildError) as error:
            _log.warning("run %s may have left something in docker; the next start looks again: %s", run.id, error)
            return
        await in_thread(lambda _: self._runs.forget(run))

    # -- a base with packages ----------------------------------------------------------------------------------

    async def _provide(self, engine: Connection, run: Run, base: BaseImage, bring: Bring, log: Log) -> None:
        """The base is in the engine, under this run's tag."""
        here = await _image_with(engine, [layer.diff_id for layer in base.layers])
        if here is not None:
            tag = {"repo": _REPOSITORY, "tag": f"base-{run.id}"}
            await to_the_end(engine.call("POST", f"/images/{here}/tag", params=tag))
            return
        await bring()
        log("docker: loading the base image")
        archive = docker_archive.archive(canonical(base.config), base.layers, self._layout, _base_tag(run))
        answer = await send_whole(engine, "/images/load", archive, params={"quiet": "1"})
        if '"error"' in answer.text:
            raise engine_failed(self.name, answer.text)

    async def _container(self, engine: Connection, run: Run) -> str:
        body = {
            "Image": _base_tag(run),
            "Entrypoint": list(_WAITING),
            "Cmd": [],
            "User": "0",
            "WorkingDir": "/",
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {RUN_LABEL: run.id},
            "HostConfig": {"NetworkMode": self._around.network},
        }
        made = await to_the_end(engine.json("POST", "/containers/create", json=body))
        return str(made["Id"])

    async def _lend(self, engine: Connection, container: str, ca: bytes) -> None:
        """What is there for the run only; `diff` leaves it out."""
        files = [(apt.POLICY_FILE, apt.POLICY, 0o755)]
        if ca:
            files += [(f"{Path(apt.CA_FILE).parent}/", b"", 0o755), (apt.CA_FILE, ca, 0o644)]
        put = {"path": "/"}
        body = docker_archive.small_tar(files)
        await engine.call("PUT", f"/containers/{container}/archive", params=put, content=body)

    async def _start(self, engine: Connection, container: str, packages: Sequence[SystemPackage]) -> None:
        """A base without any program, or an engine without a bridge, shows here."""
        try:
            await to_the_end(engine.call("POST", f"/containers/{container}/start"))
        except BuildError as error:
            reason = error.problem.cause
            if "executable file not found" in reason:
                raise apt.failure(reason, packages) from error
            raise network_failed(self.name, reason, self._around.network) or error from error

    async def _exec(
        self, engine: Connection, container: str, argv: Sequence[str], log: Log, *, ca: bool
    ) -> tuple[int, str]:
        """Exit code, and the end of what it wrote."""
        environ = apt.environment(self._around.environ, ca=ca)
        body = {
            "Cmd": list(argv),
            "Env": [f"{name}={value}" for name, value in environ.items()],
            "User": "0",
            "AttachStdout": True,
            "AttachStderr": True,
        }
        made = await engine.json("POST", f"/containers/{container}/exec", json=body)
        tail: deque[str] = deque(maxlen=_TAIL)
        async for line in engine.output(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False}):
            tail.append(line)
            log(f"{argv[0]}: {line}")
        ended = await engine.json("GET", f"/exec/{made['Id']}/json")
        return int(ended["ExitCode"]), "\n".join(tail)

    async def _newest_layer(self, engine: Connection, run: Run, below: int) -> Layer:
        archive = await _save(engine, _tag(run), run)
        saved = await in_thread(lambda _: docker_archive.contents(archive))
        if len(saved.paths) <= below:
            return await in_thread(lambda _: empty_layer(self._layout))
        return await self._layer(archive, saved.paths[-1], apt_layer)

    async def _layer(self, archive: Path, member: str, make: Callable[[BinaryIO, Layout, StopFlag], Layer]) -> Layer:
        return await in_thread(
            lambda flag: docker_archive.layer_from(archive, member, lambda file: make(file, self._layout, flag))
        )


async def _containers(engine: Connection, run: Run) -> list[str]:
    asked = {"all": "1", "filters": json.dumps({"label": [f"{RUN_LABEL}={run.id}"]})}
    return [str(row["Id"]) for row in await engine.json("GET", "/containers/json", params=asked)]


async def _image_with(engine: Connection, diff_ids: Sequence[str]) -> str | None:
    """Id of a named image with exactly these layers. One without a name would be lost with our tag."""
    for row in await engine.json("GET", "/images/json"):
        if not row.get("RepoTags") and not row.get("RepoDigests"):
            continue
        answer = await engine.call("GET", f"/images/{row['Id']}/json", 404)
        if answer.is_success and answer.json()["RootFS"].get("Layers") == list(diff_ids):
            return str(row["Id"])
    return None


async def _save(engine: Connection, image: str, run: Run) -> Path:
    """The image as an archive in the run's folder."""
    path = run.folder / "image.tar"
    async with engine.stream("GET", f"/images/{image}/get") as answer:
        with path.open("wb") as file, full_disk_named(run.folder, 0):
            async for chunk in answer.aiter_raw(_CHUNK):
                await in_thread(partial(_write, file, chunk))
    return path


def _write(file: BinaryIO, chunk: bytes, _flag: StopFlag) -> None:
    file.write(chunk)


def _tag(run: Run) -> str:
    return f"{_REPOSITORY}:{run.id}"


def _base_tag(run: Run) -> str:
    return f"{_REPOSITORY}:base-{run.id}"
