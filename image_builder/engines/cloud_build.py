"""Google Cloud Build as a build engine: the source goes to a bucket, the image comes back from Artifact Registry.

The image stays there, under a tag of its own: what is published in the same registry is not sent again.
"""

from __future__ import annotations

import asyncio
import codecs
import importlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_builder.engines import apt
from image_builder.engines import cloud_build_spec as spec
from image_builder.engines.apt import SystemPackage
from image_builder.engines.cloud_build_source import chunks_of, pack
from image_builder.engines.cloud_build_spec import Place
from image_builder.engines.context import Context
from image_builder.engines.diff import apt_layer, carried_layer, empty_layer
from image_builder.engines.engine import Bring, Built, Log, engine_failed
from image_builder.engines.runs import Run, Runs
from image_builder.errors import BuildError
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage, BaseLayer, fetch_layer, fetch_layers, find_base
from image_builder.oci.compression import open_tar
from image_builder.oci.image import LAYER_TYPE, canonical
from image_builder.oci.layout import Layout
from image_builder.oci.reference import parse
from image_builder.oci.registries import Registries
from image_builder.work import StopFlag, in_thread, to_the_end

if TYPE_CHECKING:
    from image_builder.engines.cloud_build_google import Builds, Sources

_FIRST_LOOK, _SLOWER, _LAST_LOOK = 0.3, 1.4, 2.0
"""Seconds between two looks at a build: what is short is noticed soon, what is long asks for little of the quota."""
_PATIENCE = 60
"""Looks at a build that was cancelled, until it is over."""
_PACKAGES = ("google.auth", "google.cloud.storage", "google.cloud.devtools.cloudbuild_v1")

_log = logging.getLogger(__name__)


class CloudBuild:
    """Implements `Engine`. folder: for its runs, below the builder's own. registries: one use of Artifact Registry."""

    name = spec.NAME

    def __init__(
        self,
        layout: Layout,
        folder: Path,
        environ: Mapping[str, str],
        registries: Callable[[], Registries],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._layout = layout
        self._runs = Runs(folder)
        self._place = spec.place_of(environ)
        self._registries = registries
        self._sleep = sleep
        self._credentials: Any = None

    async def available(self) -> str | None:
        if isinstance(self._place, str):
            return f"cloud-build: {self._place} must be set"
        if not _installed():
            return "cloud-build: Google's clients are not installed (pip install 'tango-cloud-deploy[gcp]')"
        try:
            await self._known()
        except BuildError as error:
            return f"cloud-build: {error.problem.cause}"
        return None

    async def with_packages(self, base: BaseImage, bring: Bring, packages: Sequence[SystemPackage], log: Log) -> Layer:
        """`bring` is not awaited: Cloud Build reads the base from its registry."""
        _check_platform(f"{base.config['os']}/{base.config['architecture']}")
        _check_base(base.reference)
        text = spec.packages_dockerfile(base.reference, packages)
        try:
            made = await self._built(text, spec.text_key(text), log)
        except _StepFailed as failed:
            raise apt.failure("\n".join(spec.tail_of(failed.log)), packages) from failed
        if [layer.diff_id for layer in made.layers[: len(base.layers)]] != [layer.diff_id for layer in base.layers]:
            raise engine_failed(self.name, f"what it made does not stand on {base.reference}")
        if len(made.layers) == len(base.layers):
            return await in_thread(lambda _: empty_layer(self._layout))
        top = made.layers[-1]
        async with self._registries() as registries:
            await fetch_layer(made, top, self._layout, registries, lambda _layer, _done: None)
        return await in_thread(lambda flag: self._layer(top, flag, of_apt=True))

    async def build_dockerfile(self, context: Context, log: Log) -> Built:
        _check_platform(context.platform)
        try:
            made = await self._built(context, spec.source_key(context), log)
        except _StepFailed as failed:
            raise failed.error from failed
        async with self._registries() as registries:
            await fetch_layers(made, self._layout, registries)
        layers = [await in_thread(lambda flag, row=row: self._layer(row, flag)) for row in made.layers]  # type: ignore[misc]
        return Built(canonical(made.config), tuple(layers), made.reference)

    async def sweep(self) -> None:
        for run in await in_thread(lambda _: self._runs.dead()):
            if await self.available() is not None:
                return
            try:
                async with self._clients() as (_, builds):
                    await self._clear(run, builds)
            except BuildError as error:
                _log.warning("run %s may still build in Google Cloud; the next start looks again: %s", run.id, error)

    # -- a run -------------------------------------------------------------------------------------------------

    async def _built(self, source: Context | str, key: str, log: Log) -> BaseImage:
        """The image that Cloud Build pushed. When this is left, however it is left, no build of ours runs."""
        async with self._clients() as (sources, builds):
            with self._runs.begin() as run:
                try:
                    generation = await self._uploaded(source, key, run, sources, log)
                    request = spec.request(self._where, spec.source_object(key), generation, run.id)
                    build = await to_the_end(builds.create(request, run.id))
                    log(f"{self.name}: build {build} in the project {self._where.project}")
                    digest = await self._followed(build, sources, builds, log)
                finally:
                    await to_the_end(self._clear(run, builds))
        async with self._registries() as registries:
            return await find_base(f"{self._where.images}@{digest}", "linux/amd64", registries)

    async def _uploaded(self, source: Context | str, key: str, run: Run, sources: Sources, log: Log) -> int:
        """The source's generation in the bucket, where it is sent once."""
        name = spec.source_object(key)
        generation = await sources.generation(name)
        if generation is not None:
            log(f"{self.name}: the source is in gs://{self._where.bucket}/{name}")
            return generation
        path = run.folder / "source.tar.gz"
        await in_thread(lambda flag: pack(chunks_of(source), path, flag))
        log(f"{self.name}: sending the source to gs://{self._where.bucket}/{name}")
        return await sources.upload(name, path)

    async def _followed(self, build: str, sources: Sources, builds: Builds, log: Log) -> str:
        """Digest of the image, once the build has ended well."""
        follower = _Follower(build, sources, lambda line: log(f"{self.name}: {line}"))
        for pause in _pauses():
            now = await builds.get(build)
            await follower.read()
            if _is_over(now):
                break
            await self._sleep(pause)
        follower.end()
        return self._digest(now, follower.text)

    def _digest(self, build: Any, log: str) -> str:
        if build.status.name == "SUCCESS" and build.results.images and build.results.images[0].digest:
            return str(build.results.images[0].digest)
        kind = build.failure_info.type_.name
        error = spec.failed(self._where, build.status.name, build.status_detail, kind, log)
        if error.problem.code == "dockerfile_failed":
            raise _StepFailed(error, log)
        raise error

    async def _clear(self, run: Run, builds: Builds) -> None:
        """Builds of a run that still go on are cancelled, and over."""
        try:
            for build in await builds.under_way(run.id):
                await builds.cancel(build)
                for pause in islice(_pauses(), _PATIENCE):
                    if _is_over(await builds.get(build)):
                        break
                    await self._sleep(pause)
        except BuildError as error:
            _log.warning("run %s may still build in Google Cloud; the next start looks again: %s", run.id, error)
            return
        await in_thread(lambda _: self._runs.forget(run))

    @property
    def _where(self) -> Place:
        """Raises BuildError: nobody asked `available` before."""
        if isinstance(self._place, str):
            raise engine_failed(self.name, f"{self._place} must be set")
        return self._place

    async def _known(self) -> Any:
        """The credentials; looked for once. Raises BuildError."""
        # Importing Google's clients takes seconds, in which nobody else would be served.
        await in_thread(lambda _: importlib.import_module("image_builder.engines.cloud_build_google"))
        from image_builder.engines.cloud_build_google import credentials
        from image_builder.engines.cloud_build_refusals import CAUGHT, translated

        try:
            if self._credentials is None:
                self._credentials = await in_thread(lambda _: credentials())
        except CAUGHT as error:
            raise translated(error, self._where, "log in") from error
        return self._credentials

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[Sources, Builds]]:
        from image_builder.engines.cloud_build_google import Builds, Sources

        known = await self._known()
        sources = await in_thread(lambda _: Sources(self._where, known))
        try:
            async with Builds(self._where, known) as builds:
                yield sources, builds
        finally:
            sources.close()

    def _layer(self, row: BaseLayer, flag: StopFlag, *, of_apt: bool = False) -> Layer:
        """A layer as it was pushed, if it may stay so."""
        if not of_apt and row.media_type == LAYER_TYPE:
            return Layer(row.digest, row.diff_id, row.size)
        with open_tar(self._layout.path(row.digest)) as tar:
            return (apt_layer if of_apt else carried_layer)(tar, self._layout, flag)


class _StepFailed(Exception):
    """What the Dockerfile said did not work; the log says why."""

    def __init__(self, error: BuildError, log: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.log = log


class _Follower:
    """Tells the lines of a log that grows in a bucket."""

    def __init__(self, build: str, sources: Sources, log: Log) -> None:
        self._build = build
        self._sources = sources
        self._log = log
        self._read = 0
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._line = ""
        self.text = ""

    async def read(self) -> None:
        data = await self._sources.log_from(self._build, self._read)
        self._read += len(data)
        more = self._decode(data)
        self.text += more
        *lines, self._line = (self._line + more).split("\n")
        for line in filter(str.strip, lines):
            self._log(line)

    def end(self) -> None:
        if self._line.strip():
            self._log(self._line)


def _pauses() -> Iterator[float]:
    """Without end."""
    pause = _FIRST_LOOK
    while True:
        yield pause
        pause = min(pause * _SLOWER, _LAST_LOOK)


def _is_over(build: Any) -> bool:
    from image_builder.engines.cloud_build_google import ENDED

    return build.status in ENDED


def _installed() -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in _PACKAGES)
    except ModuleNotFoundError:  # of a parent
        return False


def _check_platform(platform: str) -> None:
    if platform != spec.PLATFORM:
        raise BuildError(
            f"Cloud Build's machines are {spec.PLATFORM}, and the image is to be for {platform}",
            "Set build.architecture: amd64, or name another build.engine.",
            code="engine_platform",
        )


def _check_base(reference: str) -> None:
    if parse(reference).loopback:
        raise BuildError(
            f"Cloud Build cannot read the base image {reference}: its registry is on this machine",
            "Name a base image of a public registry or of Artifact Registry in build.base_image.",
            code="engine_base",
        )
