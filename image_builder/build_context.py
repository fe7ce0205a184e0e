"""A Dockerfile with all that it needs, as one tar: the same image gives the same bytes. Blocking.

Program and weights are taken from the image's own layers: the project's folder may have changed since.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from image_builder.contents import Package
from image_builder.contents_store import ContentsStore
from image_builder.contract import BuildStatus
from image_builder.dockerfile import LAUNCH, PROGRAM, REQUIREMENTS, WEIGHTS, Recipe, dockerfile, requirements
from image_builder.errors import NoDockerfile
from image_builder.layers.files import LAUNCHER
from image_builder.oci.layout import Layout

_FOLDERS = {"weights": WEIGHTS, "program": PROGRAM}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Context:
    """texts: file name -> content. folders: (name, blob of the layer, path of its files within)."""

    texts: dict[str, str]
    folders: Sequence[tuple[str, Path, str]]

    @property
    def dockerfile(self) -> str:
        return self.texts["Dockerfile"]


def context_of(status: BuildStatus, layout: Layout, contents: ContentsStore) -> Context:
    """Raises NoDockerfile: there is no image, it is not known what is in it, or a Dockerfile cannot say it."""
    if status.image is None:
        raise NoDockerfile(
            f"the build has no image yet, it is {status.state}", "Ask again once it has succeeded.", retryable=True
        )
    image = contents.facts(status.image.digest)
    packages = _packages(status, image.packages)
    manifest = json.loads(layout.path(image.digest).read_bytes())
    run = json.loads(layout.path(manifest["config"]["digest"]).read_bytes())["config"]
    within = {PROGRAM: image.workdir, WEIGHTS: image.workdir, LAUNCH: LAUNCHER}
    names = {**_FOLDERS, "config": LAUNCH} if status.request.pre_exec else _FOLDERS
    rows = [(names[layer.kind or ""], layer.digest) for layer in image.layers if layer.kind in names]
    folders = [(name, layout.path(digest), within[name].strip("/")) for name, digest in rows]
    recipe = Recipe(image.digest, status.request, image.base, run, packages, [name for name, _, _ in folders])
    return Context({"Dockerfile": dockerfile(recipe), REQUIREMENTS: requirements(packages, status.request)}, folders)


def _packages(status: BuildStatus, known: Sequence[Package] | None) -> Sequence[Package]:
    if known is None:
        raise NoDockerfile(
            "it was not written down what is in this image: an older builder made it, or a Dockerfile did",
            "Build the project again, or take its own Dockerfile.",
        )
    if not status.request.platform.startswith("linux/"):
        raise NoDockerfile(
            f"the image is for {status.request.platform}, which no container engine runs",
            "Build the project for linux/amd64 or linux/arm64.",
        )
    return known


def context_tar(context: Context) -> Iterator[bytes]:
    """The bytes of the tar, piece by piece. FileNotFoundError: a layer was cleared meanwhile."""
    for name, text in context.texts.items():
        data = text.encode()
        yield from _entry(_info(name, size=len(data)), iter((data,)))
    for name, blob, within in context.folders:
        yield from _entry(_info(name, kind=tarfile.DIRTYPE, mode=0o755), iter(()))
        yield from _layer(name, blob, within)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _layer(name: str, blob: Path, within: str) -> Iterator[bytes]:
    """What a layer has below `within`, as the folder `name`."""
    with gzip.open(blob) as opened, tarfile.open(fileobj=opened, mode="r|") as tar:
        for member in tar:
            path = member.name.strip("/")
            if not path.startswith(f"{within}/"):
                continue
            file = tar.extractfile(member) if member.isreg() else None
            member.name = f"{name}/{path.removeprefix(f'{within}/')}"
            member.pax_headers = {}
            yield from _entry(member, iter(partial(file.read, _CHUNK), b"") if file else iter(()))


def _entry(info: tarfile.TarInfo, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _info(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, mode
    return info
