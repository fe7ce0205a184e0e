"""Peers by way of a Docker Engine: its classic builder, BuildKit, and BuildKit by somebody strong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.images.dockerfiles import write_plain, write_tuned
from bench.images.engine import Engine, remove_group
from bench.images.meter import Watched
from bench.images.registry import Registry
from bench.images.workload import Project

CLASSIC, BUILDKIT, TUNED = "classic", "buildkit", "tuned"


class Docker:
    """`docker build` and `docker push` of the plain Dockerfile."""

    def __init__(self, name: str, engine: Engine, links: str) -> None:
        self.name = name
        self._engine, self._links = engine, links

    @property
    def version(self) -> str:
        return self._engine.version

    @contextmanager
    def ready(self, registry: Registry, shared: Path) -> Iterator[Watched]:
        """With the base pulled already."""
        del shared
        self._registry = registry
        caches = self._engine.caches()
        self._made = {registry.base}
        self._engine.run("pull", registry.base)
        # BuildKit's containers are children of the daemon, and so counted with it; the classic builder's are not.
        groups = (self._engine.group,) if self.name == CLASSIC else ()
        try:
            yield Watched(daemons=(self._engine.pid,), groups=groups, apart=(registry.pid,))
        finally:
            self._engine.forget(self._made, caches)
            remove_group(self._engine.group)

    def build(self, project: Project, scenario: str) -> None:
        image = f"{self._registry.address}/{project.name}:latest"
        self._write(project)
        self._build(project, image, ["--no-cache"] if scenario == "cold" else [])

    def _write(self, project: Project) -> None:
        write_plain(project, self._registry.base, self._links)

    def _build(self, project: Project, image: str, options: list[str]) -> None:
        noted = project.folder.with_suffix(".iid")
        common = ["--network=host", f"--cgroup-parent={self._engine.group}", "--iidfile", str(noted), "--tag", image]
        self._engine.run("build", *common, *options, str(project.folder), buildkit=self.name != CLASSIC)
        self._made |= {image, noted.read_text()}
        self._engine.run("push", image)


class Tuned(Docker):
    """The strong Dockerfile; where buildx is at hand, layers are compressed by zstd and pushed as they are made."""

    def __init__(self, engine: Engine, links: str) -> None:
        super().__init__(TUNED, engine, links)
        self._buildx = engine.buildx

    @property
    def version(self) -> str:
        how = (
            "COPY --link, zstd" if self._buildx else "too old for COPY --link and zstd; --docker-programs names others"
        )
        return f"{super().version}, uv, largest package apart, cache mounts; {how}"

    def _write(self, project: Project) -> None:
        cache = self._registry.address.rpartition(":")[2]
        write_tuned(project, self._registry.base, self._links, link=self._buildx, cache=cache)

    def _build(self, project: Project, image: str, options: list[str]) -> None:
        if not self._buildx:
            return super()._build(project, image, options)
        # Level 1: a registry this near takes 5 % more bytes sooner than a better level makes them.
        output = f"type=image,name={image},push=true,store=false,unpack=false,oci-mediatypes=true"
        output += ",compression=zstd,compression-level=1"
        words = ["--network=host", f"--cgroup-parent={self._engine.group}", "--provenance=false", "--output", output]
        self._engine.run("buildx", "build", *words, *options, str(project.folder))
        self._made.add(image)
        return None
