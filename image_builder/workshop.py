"""The builder's folders and caches, and how it reaches the world: what all builds of a process share.

Several builders may share the cache: `CACHE_DIR`. What only one uses lies in its own `STATE_DIR/builder`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from image_builder.contents_store import ContentsStore
from image_builder.disk import full_disk_named, sweep_all
from image_builder.engines.engine import Engine
from image_builder.errors import BuildError
from image_builder.fetch import WheelStore
from image_builder.file_hashes import FileHashes
from image_builder.index_credentials import forget_open_locks
from image_builder.interpreters import Interpreters
from image_builder.layers.index import LayerIndex
from image_builder.leases import Leases
from image_builder.making import Making
from image_builder.network import registry_client
from image_builder.oci.credentials import DockerConfig
from image_builder.oci.google import GoogleCredentials
from image_builder.oci.layout import Layout
from image_builder.oci.pushed import Pushed
from image_builder.oci.registries import Registries
from image_builder.oci.registry_calls import Sleep
from image_builder.pip_settings import PipSettings
from image_builder.scratch import Scratch
from image_builder.source_wheels import SourceWheels


@dataclass(frozen=True)
class Network:
    """How registries are reached. insecure: those that are spoken to without TLS, besides those on loopback.

    sleep: waits between two tries. shares_layers: layers of packages are noted where images are published to, and
    looked for there.
    """

    insecure: Sequence[str] = ()
    connect: Callable[[Mapping[str, str]], httpx.AsyncClient] = registry_client
    sleep: Sleep = asyncio.sleep
    shares_layers: bool = True


class Workshop:
    """The builder's folders and caches, shared by all builds of a process. Use it in one event loop.

    folder: the cache, which other builders may share. own: STATE_DIR/builder. environ: where the host's index, proxy,
    CA and docker settings are looked up.
    """

    def __init__(
        self,
        folder: Path,
        own: Path,
        environ: Mapping[str, str],
        network: Network,
        engines: Callable[[Layout], Sequence[Engine]],
    ) -> None:
        self.folder = folder
        self.making = Making(folder / "making.lock")
        self.leases = Leases(folder)
        self.layout = Layout(folder / "images", self.leases.use)
        self.contents = ContentsStore(self.layout)
        self.index = LayerIndex(folder / "layers", self.layout)
        self.hashes = FileHashes(own / "hashes.sqlite")  # by inode, which mean nothing on another machine
        self.wheels = WheelStore(folder / "wheels", self.hashes, self.leases.use, self.making)
        self.locks = folder / "locks"
        self.scratch = Scratch(own / "scratch")
        self.interpreters = Interpreters(environ)
        self.sources = SourceWheels(folder / "sources", self.wheels, self.scratch)
        self.slots = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self.pushed = Pushed(folder / "pushed")
        self.engines = tuple(engines(self.layout))
        self.shares_layers = network.shares_layers
        self._network = network
        self._credentials = GoogleCredentials(DockerConfig(environ), environ)
        self._environ = environ
        self._pip = PipSettings(environ)

    @classmethod
    def open(
        cls,
        state_dir: Path,
        environ: Mapping[str, str],
        network: Network | None = None,
        engines: Callable[[Layout], Sequence[Engine]] = lambda _: (),
        *,
        cache_dir: Path | None = None,
    ) -> Workshop:
        """Make the folders ready; leftovers of dead builders are swept. Blocking.

        Args:
            engines: those that may be used, the first that is there first; they put their layers into the layout.
            cache_dir: what several builders share; None: STATE_DIR/builder, for one builder alone.

        Raises:
            BuildError: a folder cannot be used. DiskFull
        """
        own = state_dir / "builder"
        folder = cache_dir or own
        with _usable(own, "STATE_DIR"):
            _make(own)
        with _usable(folder, "CACHE_DIR" if cache_dir else "STATE_DIR"), ExitStack() as half_open:
            _make(folder)
            workshop = cls(folder, own, environ, network or Network(), engines)
            half_open.callback(workshop.close)
            workshop._prepare()
            half_open.pop_all()
        return workshop

    def _prepare(self) -> None:
        self.layout.prepare()
        self.index.prepare()
        self.wheels.prepare()
        self.contents.prepare()
        sweep_all(self.folder)
        self.locks.mkdir(exist_ok=True)
        forget_open_locks(self.locks)
        self.scratch.prepare()

    async def resolver_environ(self) -> dict[str, str]:
        """The environment for uv and downloads."""
        return await self._pip.environment()

    async def registries(self) -> Registries:
        """For one build; use it as a context manager."""
        environ = await self.resolver_environ()
        return Registries(
            lambda: self._network.connect(environ),
            self._credentials,
            insecure=self._network.insecure,
            sleep=self._network.sleep,
        )

    def close(self) -> None:
        self.hashes.close()
        self.making.close()


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():  # else its owner has decided who may use it
        folder.chmod(0o700)  # projects' files and settings are no business of other users


@contextmanager
def _usable(folder: Path, setting: str) -> Iterator[None]:
    try:
        with full_disk_named(folder, 0):
            yield
    except OSError as error:
        raise BuildError(
            f"cannot use the folder {folder}: {error.strerror}", f"Set {setting} to a folder that can be written."
        ) from error
