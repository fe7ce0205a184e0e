"""Builds by Cloud Build in a process of its own, which knows of the twin by its environment alone.

`python -m tests.image_builder.cloud_build_client FOLDER STORY…` prints, for each story, a line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import httpx
from google.cloud import storage  # type: ignore[attr-defined]

from image_builder.engines import cloud_build_spec as spec
from image_builder.engines.apt import system_packages
from image_builder.engines.choose import choose, engines_of
from image_builder.engines.cloud_build import CloudBuild
from image_builder.engines.context import Context
from image_builder.engines.engine import Built
from image_builder.errors import BuildError
from image_builder.file_hashes import FileHashes
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage, find_base
from image_builder.oci.compression import open_tar
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.source_tree import read_tree
from image_builder.workshop import Workshop
from tests.image_builder.wheels import Notes, make_project, make_request, plan_of

BUCKET = "twin-sources"
_FROM = b"FROM scratch\nCOPY root /\n"
APT = b"""#!/bin/sh
echo "apt-get $*, $DEBIAN_FRONTEND"
for word in "$@"; do last=$word; done
case "$*" in
    *nope*) echo "E: Unable to locate package nope"; exit 100;;
    *install*) echo "$last" > "/installed-$last";;
esac
"""


class Bench:
    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = {**os.environ, "CLOUD_BUILD_BUCKET": BUCKET, **environ}
        self.layout = Layout(folder / "images")
        folder.mkdir(parents=True, exist_ok=True)
        self.layout.prepare()
        self.engines = engines_of(folder, self.environ, "host")(self.layout)
        self.lines: list[str] = []
        self.begun = asyncio.Event()

    @property
    def engine(self) -> CloudBuild:
        (found,) = (engine for engine in self.engines if isinstance(engine, CloudBuild))
        return found

    @property
    def endless(self) -> bytes:
        """A Dockerfile that is never done."""
        return _FROM + f'RUN ["/bin/sh", "-c", "echo it runs; sleep {seconds(self.folder.parent)}"]\n'.encode()

    def log(self, line: str) -> None:
        self.lines.append(line)
        if "it runs" in line:
            self.begun.set()

    def context(self, dockerfile: bytes, more: Mapping[str, bytes] | None = None) -> Context:
        project = self.folder / "project"
        for name, data in {"Dockerfile": dockerfile, **shell(), **(more or {})}.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755)
        return Context(project, read_tree(project.resolve(), FileHashes(self.folder / "hashes.sqlite")), "linux/amd64")

    async def build(self, dockerfile: bytes, more: Mapping[str, bytes] | None = None) -> Built:
        return await self.engine.build_dockerfile(self.context(dockerfile, more), self.log)

    async def refusal(self, dockerfile: bytes = _FROM) -> dict[str, Any]:
        return await refused(self.build(dockerfile))

    async def base(self) -> BaseImage:
        """One with an apt-get that only says what it was asked."""
        files = {"root/usr/bin/apt-get": APT, "root/usr/bin/find": b"#!/bin/sh\n", "root/usr/sbin/there": b""}
        image = await self.build(_FROM + b"ENV PATH=/usr/bin:/bin\n", files)
        assert image.layers
        place = spec.place_of(self.environ)
        assert isinstance(place, spec.Place)
        (tag,) = re.findall(r"digest: (sha256:[0-9a-f]+)", "\n".join(self.lines))
        async with self.engine._registries() as registries:
            return await find_base(f"{place.images}@{tag}", "linux/amd64", registries)

    async def install(self, base: BaseImage, *packages: str) -> Layer:
        async def bring() -> None:
            raise AssertionError("Cloud Build reads the base itself")

        return await self.engine.with_packages(base, bring, system_packages(packages), self.log)

    def runs(self) -> list[str]:
        return [path.name for path in (self.folder / "engines" / "cloud-build").iterdir()]

    async def states(self) -> list[str]:
        async with self.engine._clients() as (_, builds):
            pages = await builds._client.list_builds(project_id=os.environ["GOOGLE_CLOUD_PROJECT"], filter="")
            return [build.status.name async for build in pages]


async def dockerfile(bench: Bench) -> dict[str, Any]:
    built = await bench.build(_FROM + b'CMD ["hello"]\nRUN ["/bin/sh", "-c", "echo it runs"]\n')
    first = list(bench.lines)
    again = await bench.build(_FROM + b'CMD ["hello"]\nRUN ["/bin/sh", "-c", "echo it runs"]\n')
    return {
        "command": json.loads(built.config)["config"]["Cmd"],
        "whole": [bench.layout.has(layer.digest) for layer in (*built.layers, *again.layers)],
        "first": first,
        "second": bench.lines[len(first) :],
        "left": bench.runs(),
    }


async def published(bench: Bench) -> dict[str, Any]:
    """The whole way of a project with a Dockerfile of its own, into a registry."""
    root = bench.folder / "shared"
    make_project(root, {"Dockerfile": "FROM scratch\nCOPY app.py /srv/\nWORKDIR /srv\n", "app.py": "print(1)\n"})
    target = f"us-central1-docker.pkg.dev/{os.environ['GOOGLE_CLOUD_PROJECT']}/cloud-deploy/app:1"
    request = make_request(engine="cloud-build", base_image=None, push=target)
    engines = engines_of(bench.folder, bench.environ, "host")
    workshop = Workshop.open(bench.folder / "state", bench.environ, engines=engines)
    notes = Notes()
    with contextlib.closing(workshop):
        image = await build(plan_of(request, root, workshop), workshop, notes)
    return {"pushed": image.pushed, "states": notes.states}


async def broken(bench: Bench) -> dict[str, Any]:
    return await bench.refusal(_FROM + b'RUN ["/bin/sh", "-c", "echo no weights here; exit 7"]\n')


async def packages(bench: Bench) -> dict[str, Any]:
    base = await bench.base()
    layer = await bench.install(base, "hello")
    with open_tar(bench.layout.path(layer.digest)) as tar, tarfile.open(fileobj=tar, mode="r:") as members:
        names = members.getnames()
    return {"names": names, "problem": await refused(bench.install(base, "nope")), "lines": bench.lines}


async def cancelled(bench: Bench) -> dict[str, Any]:
    task = asyncio.create_task(bench.build(bench.endless))
    async with asyncio.timeout(60):
        await bench.begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return {"cancelled": task.cancelled(), "states": await bench.states()}


async def left(bench: Bench) -> dict[str, Any]:
    """A builder that is killed while it builds."""
    task = asyncio.create_task(bench.build(bench.endless))
    async with asyncio.timeout(60):
        await bench.begun.wait()
    assert not task.done()
    os._exit(9)


async def swept(bench: Bench) -> dict[str, Any]:
    """The next one on its folder."""
    again = Bench(bench.folder.parent / "left")
    before = await again.states()
    await again.engine.sweep()
    return {"before": before, "after": await again.states(), "left": again.runs()}


async def faulty(bench: Bench) -> dict[str, Any]:
    """What the user is told of each of Google's refusals."""
    call = "google.devtools.cloudbuild.v1.CloudBuild.CreateBuild"
    disabled = "Cloud Build API has not been used in project 1 before or it is disabled."
    rules: dict[str, dict[str, Any]] = {
        "denied": {"call": call, "code": "PERMISSION_DENIED"},
        "disabled": {"call": call, "code": "PERMISSION_DENIED", "message": disabled},
        "quota": {"call": call, "code": "RESOURCE_EXHAUSTED"},
        "gone": {"call": call, "code": "UNAVAILABLE", "times": 0},
        "internal": {"call": "build", "code": "INTERNAL"},
    }
    told = {}
    for name, rule in rules.items():
        faults([rule])
        told[name] = await bench.refusal()
    faults([{"call": call, "code": "UNAVAILABLE", "when": "after"}])
    before = await bench.states()
    await bench.build(_FROM)
    told["lost answer"] = {"builds": len(await bench.states()) - len(before)}
    other = Bench(bench.folder / "other", CLOUD_BUILD_BUCKET="not-there")
    told["bucket"] = await other.refusal()
    unset = Bench(bench.folder / "unset", CLOUD_BUILD_BUCKET="", PATH="/nowhere", DOCKER_HOST="unix:///nowhere")
    told["unset"] = {"said": await unset.engine.available()}
    local = BaseImage("localhost:5000/x@sha256:" + "a" * 64, "", {"os": "linux", "architecture": "amd64"}, ())
    told["local base"] = await refused(bench.install(local, "hello"))
    told["other machine"] = await refused(
        bench.engine.build_dockerfile(Context(bench.folder, (), "linux/arm64"), bench.log)
    )
    alone = Bench(bench.folder / "alone", PATH="/nowhere", DOCKER_HOST="unix:///nowhere")
    told["chosen"] = {"name": (await choose(alone.engines, None)).name}
    return told


async def refused(work: Awaitable[Any]) -> dict[str, Any]:
    try:
        await work
    except BuildError as error:
        return error.problem.model_dump(mode="json")
    raise AssertionError("nothing was refused")


def seconds(folder: Path) -> int:
    """Of a sleep that is this folder's alone, so that it is known among the processes of this machine."""
    return 10_000 + zlib.crc32(bytes(folder)) % 1_000_000


def faults(rules: list[dict[str, Any]]) -> None:
    control = os.environ["GCP_EMULATOR_CONTROL"]
    httpx.put(f"{control}/faults", json=rules, trust_env=False).raise_for_status()


def shell() -> dict[str, bytes]:
    """Files below `root/` that make a shell run in an image of nothing else."""
    said = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    paths = {"/bin/sh", "/bin/sleep", "/bin/chmod", *re.findall(r"(/\S+) \(", said)}
    return {f"root{path}": Path(path).read_bytes() for path in paths}


async def main(folder: Path, stories: list[str]) -> None:
    with contextlib.closing(storage.Client()) as client:
        if client.lookup_bucket(BUCKET) is None:
            client.create_bucket(BUCKET)
    for story in stories:
        told = await globals()[story](Bench(folder / story))
        sys.stdout.write(json.dumps({story: told}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
