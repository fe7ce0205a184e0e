"""`buildah bud --isolation chroot` of the plain Dockerfile, with a store and a layer cache of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.images.dockerfiles import write_plain
from bench.images.engine import command
from bench.images.meter import Watched
from bench.images.registry import Registry
from bench.images.workload import Project

NAME = "buildah"


class Buildah:
    name = NAME

    def __init__(self, folder: Path, links: str) -> None:
        if not shutil.which("buildah"):
            raise RuntimeError("it is not installed")
        self._store, self._links = folder, links
        self._driver = "overlay"

    @property
    def version(self) -> str:
        return f"{command('buildah', '--version').strip()}, storage driver {self._driver}"

    @contextmanager
    def ready(self, registry: Registry, shared: Path) -> Iterator[Watched]:
        """With the base pulled already."""
        del shared
        self._registry = registry
        self._driver = self._first_that_works()
        try:
            self._run("pull", "--tls-verify=false", registry.base)
            yield Watched(apart=(registry.pid,))
        finally:
            self._clear()

    def build(self, project: Project, scenario: str) -> None:
        del scenario
        write_plain(project, self._registry.base, self._links)
        image = f"{self._registry.address}/{project.name}:latest"
        options = ["--isolation=chroot", "--network=host", "--pull=never", "--layers", "--tls-verify=false"]
        self._run("bud", *options, "--tag", image, str(project.folder))
        self._run("push", "--tls-verify=false", image)

    def _first_that_works(self) -> str:
        for self._driver in ("overlay", "vfs"):
            try:
                self._run("rm", self._run("from", "scratch").strip())
            except RuntimeError:
                self._clear()
            else:
                break
        return self._driver

    def _clear(self) -> None:
        mounted = self._store / "root" / "overlay"  # the driver's own folder, on itself
        if mounted.is_mount():
            command("umount", str(mounted))
        shutil.rmtree(self._store, ignore_errors=True)

    def _run(self, *words: str) -> str:
        store = ["--root", f"{self._store}/root", "--runroot", f"{self._store}/run", "--storage-driver", self._driver]
        return command("buildah", *store, *words)
