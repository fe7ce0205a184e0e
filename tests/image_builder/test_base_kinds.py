"""Bases as they are found: in zstd, plain, in Docker's older words, for other machines."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_builder.contract import ImageReference
from image_builder.errors import BuildError
from image_builder.pipeline import build
from image_builder.workshop import Network, Workshop
from tests import needs
from tests.base_image import LAYER, PYTHON_TREE, layer_of
from tests.image_builder.odd_bases import push_base, push_index
from tests.image_builder.test_base_build import Wire
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of

OCI, DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"


@pytest.fixture
def somewhere() -> str:
    return secrets.token_hex(4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared", {"app.py": "print('hi')\n"})
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    make_wheel(tmp_path / "links")
    opened = Workshop.open(tmp_path / "state", offline(tmp_path / "links"))
    yield opened
    opened.close()


async def made(workshop: Workshop, root: Path, base: str, **more: Any) -> tuple[ImageReference, Notes]:
    notes = Notes()
    request = make_request("hello", base_image=base, **more)
    return await build(plan_of(request, root, workshop), workshop, notes), notes


@pytest.mark.parametrize(
    ("kind", "docker"), [(f"{OCI}+zstd", False), (OCI, False), (f"{DOCKER}.gzip", True), (DOCKER, True)]
)
async def test_a_base_is_carried_as_it_is_compressed(
    workshop: Workshop, root: Path, registry: str, somewhere: str, tmp_path: Path, kind: str, docker: bool
) -> None:
    """Otherwise the newest bases cannot be used, or the image says gzip of what is none, and no engine unpacks it."""
    base = push_base(registry, somewhere, [(PYTHON_TREE, kind), ({"etc/x": b"1"}, LAYER)], docker=docker)
    target = f"{registry}/{somewhere}/made:1"
    image, _ = await made(workshop, root, base, push=target)
    manifest = json.loads(workshop.layout.path(image.digest).read_bytes())
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    kinds = [row["mediaType"] for row in manifest["layers"]]
    assert kinds[0] == {DOCKER: OCI, f"{DOCKER}.gzip": LAYER}.get(kind, kind) and set(kinds[1:]) == {LAYER}
    out = tmp_path / "out"
    copy = [needs.program("skopeo"), "copy", "--insecure-policy", "--src-tls-verify=false"]
    # Into a folder of plain tars: everything is read, and compared with what the configuration says of it.
    subprocess.run([*copy, "--dest-decompress", f"docker://{target}", f"dir:{out}"], check=True, capture_output=True)
    plain = json.loads((out / "manifest.json").read_bytes())["layers"]
    config = json.loads((out / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    assert [row["digest"] for row in plain] == config["rootfs"]["diff_ids"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (f"{DOCKER.replace('rootfs.diff', 'rootfs.foreign.diff')}.gzip", "only its maker may hand out"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "only its maker may hand out"),
        (f"{OCI}+lz4", "of the type application/vnd.oci.image.layer.v1.tar+lz4"),
    ],
)
async def test_a_layer_that_cannot_be_carried_is_refused_with_its_reason(
    workshop: Workshop, root: Path, registry: str, somewhere: str, kind: str, words: str
) -> None:
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, push_base(registry, somewhere, [(PYTHON_TREE, kind)]))
    assert caught.value.problem.code == "bad_base_image" and words in caught.value.problem.cause


async def test_a_damaged_layer_in_zstd_is_named(workshop: Workshop, root: Path, registry: str, somewhere: str) -> None:
    """Its digest is right: it was damaged when it was made."""
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, push_base(registry, somewhere, [(PYTHON_TREE, f"{OCI}+zstd")], kept=60))
    assert caught.value.problem.code == "bad_base_image" and "cannot be read" in caught.value.problem.cause


async def test_a_tag_is_asked_for_by_each_build_and_a_digest_once(
    root: Path, registry: str, somewhere: str, tmp_path: Path
) -> None:
    """A security update of the base must come with the next program; a pinned one needs no registry at all."""
    wire = Wire()
    make_wheel(tmp_path / "links")
    workshop = Workshop.open(tmp_path / "state", offline(tmp_path / "links"), Network(connect=wire.connect))
    tag = push_base(registry, somewhere, [(PYTHON_TREE, LAYER)])
    _, notes = await made(workshop, root, tag)
    await made(workshop, root, notes.bases[0])
    push_base(registry, somewhere, [({**PYTHON_TREE, "etc/new": b""}, LAYER)])
    _, newer = await made(workshop, root, tag)
    assert newer.bases != notes.bases
    wire.asked.clear()
    _, again = await made(workshop, root, notes.bases[0])
    assert again.bases == notes.bases and wire.asked == []
    workshop.close()


async def test_a_base_used_before_serves_while_its_registry_is_away(
    root: Path, registry: str, somewhere: str, tmp_path: Path
) -> None:
    """Otherwise no one can mend a program while the registry of the base is down, or counts too many pulls."""
    wire = Wire()
    make_wheel(tmp_path / "links")
    workshop = Workshop.open(tmp_path / "state", offline(tmp_path / "links"), Network(connect=wire.connect))
    tag = push_base(registry, somewhere, [(PYTHON_TREE, LAYER)])
    image, notes = await made(workshop, root, tag)
    wire.fault = lambda _: httpx.Response(429, headers={"retry-after": "0"})
    again, later = await made(workshop, root, tag)
    assert again == image and later.bases == notes.bases
    assert any(line.startswith("warning: ") and f"{tag} is taken as it was on" in line for line in later.logs)
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, f"{registry}/{somewhere}:2")
    assert caught.value.problem.code == "registry_unreachable"
    wire.fault = lambda _: httpx.Response(404)
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, tag)
    assert caught.value.problem.code == "image_not_found", "what is gone is not used in silence"
    workshop.close()


@pytest.mark.long
async def test_an_image_for_arm64_is_made_without_emulation(
    root: Path, registry: str, somewhere: str, tmp_path: Path
) -> None:
    """A real Debian with real wheels: with one file for another machine the service would never start there."""
    tar = tmp_path / "arm64.tar"
    argv = ["--variant=extract", "--architectures=arm64", "--include=python3,libc6,base-files", "bookworm", str(tar)]
    needs.root_on_linux("mmdebstrap with real owners")
    done = subprocess.run([needs.program("mmdebstrap"), *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        needs.missing(f"mmdebstrap cannot make an arm64 base: {done.stderr[-300:]}")
    layers = [gzip.compress(tar.read_bytes(), 1, mtime=0)]
    base = push_index(registry, somewhere, {"arm64": layers, "amd64": [gzip.compress(layer_of(PYTHON_TREE))]})
    workshop = Workshop.open(tmp_path / "state", os.environ)
    target = f"{registry}/{somewhere}/made:1"
    request = make_request("numpy", "flask", base_image=base, platform="linux/arm64", push=target)
    image = await build(plan_of(request, root, workshop), workshop, Notes())
    workshop.close()
    found = workshop.contents.facts(image.digest)
    assert found.platform == "linux/arm64"
    assert found.system is not None and (found.system.libc, found.system.distribution) == ("glibc 2.36", "debian")
    copy = [needs.program("skopeo"), "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{target}"]
    subprocess.run([*copy, f"oci:{tmp_path}/oci:it"], check=True, capture_output=True)
    unpack = [needs.program("umoci"), "unpack", "--image", f"{tmp_path}/oci:it", str(tmp_path / "unpacked")]
    subprocess.run(unpack, check=True, capture_output=True)
    rootfs = tmp_path / "unpacked" / "rootfs"
    machines: dict[str, int] = {}
    for path in rootfs.rglob("*"):
        if path.is_file() and not path.is_symlink() and (head := _head(path))[:4] == b"\x7fELF":
            machines[str(path)] = int.from_bytes(head[18:20], "little")
    assert set(machines.values()) == {183}, "EM_AARCH64 of elf.h"
    ours = [path for path in machines if path.startswith(str(rootfs / "opt/venv"))]
    assert any("numpy" in path for path in ours) and len(machines) > len(ours)
    assert (rootfs / "opt/venv/bin/python").readlink() == Path("/usr/bin/python3.11")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(20)
