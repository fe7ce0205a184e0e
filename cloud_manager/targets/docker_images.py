"""How an image reaches a Docker Engine: from the builder's own store, or by the engine's own pull."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from cloud_manager.builder import Builder
from cloud_manager.clock import Clock
from cloud_manager.deployment import Key
from cloud_manager.errors import DeployError, TargetError
from cloud_manager.targets.docker_credentials import DockerLogin
from cloud_manager.targets.docker_engine import Engine, EngineRefused
from cloud_manager.targets.docker_load import ZSTD_ENGINE, KeptImage, major, to_send
from cloud_manager.targets.docker_progress import SILENCE, Log, megabytes, transfer
from cloud_manager.targets.docker_reference import OwnNames, Reference, parse
from cloud_manager.targets.docker_send import Parcel, Stream, describe
from cloud_manager.targets.docker_shelf import Found, Shelf, layers_of, named_at, names_of
from cloud_manager.targets.target import Wanted
from image_builder.contract import ImageReference

_LONGEST = 2 * 3600.0
"""Seconds that an image may take to arrive. The largest have some ten gigabytes."""
_GRACE = 3600.0
"""Seconds for which an image that was asked for stays, though nobody uses it yet."""


class EngineImages:
    """What we put into an engine has a name of ours besides its own (`docker_reference.OwnNames`): by it, it is found
    without asking the builder anything, and by it alone something may be cleared away.
    """

    silence = SILENCE
    """Seconds after which a transfer in which nothing moves is given up."""
    python_image = "python:3.11-slim"
    """Docker's own image, as small as python comes."""

    def __init__(self, engine: Engine, builder: Builder, login: DockerLogin, clock: Clock, owner: str) -> None:
        """owner: this installation's name on the engine, as `Settings.docker_owner`."""
        self._names = OwnNames(owner)
        self._builder = builder
        self._login = login
        self._clock = clock
        self._shelf = Shelf(engine)
        self._loading: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def ensure(self, wanted: Wanted, log: Log) -> str:
        """Have the engine have the image; the id by which containers are made of it.

        What is there is neither fetched nor asked for. May be cancelled at any await: half an image is never left,
        and what a pull has brought already the next one need not bring.

        Raises:
            TargetError: the engine cannot get it. BuilderUnavailable: nor can the builder tell.
            Unavailable: there is no engine.
            DeployError: the builder's words, e.g. `blob_unknown` for an image that it has cleared away.
        """
        try:
            async with asyncio.timeout(_LONGEST):
                if wanted.image is None:
                    return _id(await self._prebuilt(wanted, log))
                found = await self._there(wanted.image)
                return _id(found or await self._brought(wanted.image, log))
        except TimeoutError as error:
            raise TargetError(
                f"the image has not reached the Docker Engine within {_LONGEST / 3600:.0f} hours",
                "make the image smaller, or the way to it faster; it is tried again",
                code="image_too_slow",
                retryable=True,
            ) from error

    # -- images that the builder built ---------------------------------------------------------------------------------

    async def _there(self, image: ImageReference) -> Found | None:
        name = self._names.built(image)
        if (found := await self._shelf.find(str(name))) and await self._shelf.call(str(name), name):
            return found
        return await self._shelf.find(image.pushed) if image.pushed else None

    async def _brought(self, image: ImageReference, log: Log) -> Found:
        if image.pushed is None:
            return await self._loaded(image, log)
        reference = parse(image.pushed)
        try:
            await self._pull(reference, log)
        except TargetError as refused:
            if refused.problem.code == "engine_disk_full":
                raise
            log(f"{refused.problem.cause}; it is loaded from the image builder instead")
            return await self._instead(image, refused, log)
        await self._shelf.call(str(reference), self._names.built(image))
        return await self._must_find(reference)

    async def _instead(self, image: ImageReference, refused: TargetError, log: Log) -> Found:
        """The builder may have the layers of an image that the engine cannot pull, also those of its base."""
        try:
            return await self._loaded(image, log)
        except DeployError as error:
            first, second = refused.problem, error.problem
            gone = first.code == "image_not_found" and not second.retryable  # then it may be built again
            raise TargetError(
                f"{first.cause.rstrip('.')}; and from the image builder: {second.cause}",
                first.fix,
                code=second.code if gone else first.code,
                retryable=first.retryable or second.retryable,
            ) from error

    async def _loaded(self, image: ImageReference, log: Log) -> Found:
        kept, name = await describe(self._builder, image), self._names.built(image)
        if not await self._shelf.call(kept.id, name):
            async with self._alone(kept) as known:
                await self._load(image, kept, known, log)
            await self._shelf.call(str(name), name)  # a load notes no time
        found = await self._must_find(name)
        if layers_of(found) != kept.diff_ids:
            raise TargetError(
                f"the Docker Engine has something else under the name {name}",
                f"remove it with docker rmi {name}; the image is loaded again",
                code="engine_image_differs",
                retryable=True,
            )
        return found

    @asynccontextmanager
    async def _alone(self, kept: KeptImage) -> AsyncIterator[int]:
        """Two images that lack the same layer come one after the other: the second finds it there.

        Yields how many of the lowest layers the engine has.
        """
        known = await self._shelf.known_layers(kept)
        lock = self._loading.setdefault(kept.diff_ids[: known + 1], asyncio.Lock())
        waits = lock.locked()
        async with lock:
            yield await self._shelf.known_layers(kept) if waits else known

    async def _load(self, image: ImageReference, kept: KeptImage, known: int, log: Log) -> None:
        try:
            await self._send(image, kept, known, log)
        except EngineRefused as error:
            if known == 0 or error.problem.code == "engine_disk_full":
                raise
            log(f"{error.problem.cause}; the image is loaded whole")  # e.g. a layer has gone since it was looked for
            await self._send(image, kept, 0, log)

    async def _send(self, image: ImageReference, kept: KeptImage, known: int, log: Log) -> None:
        layers = to_send(kept, known)
        old = 0 < major(await self._shelf.version()) < ZSTD_ENGINE
        plain = frozenset(layer for layer in layers if layer.is_zstd and old)
        parcel = Parcel(image, kept, str(self._names.built(image)), layers, plain)
        what = "loading the image into the Docker Engine"
        log(f"{what}: {len(layers)} of {len(kept.layers)} layers, {megabytes(parcel.size)} of {megabytes(image.size)}")
        async with transfer(what, log, self._clock, self.silence) as progress:
            progress.total = parcel.size
            await self._shelf.load(Stream(self._builder, parcel, progress), progress)
        log(f"the Docker Engine has the image; {megabytes(progress.done)} were loaded in {progress.seconds:.1f} s")

    # -- images of others ----------------------------------------------------------------------------------------------

    async def _prebuilt(self, wanted: Wanted, log: Log) -> Found:
        """A digest is pulled once. A tag may mean another image tomorrow: it is asked once in a generation."""
        reference = parse(str(wanted.image_uri))
        if reference.is_digest:
            return await self._shelf.find(str(reference)) or await self._pulled(reference, log)
        pin = self._names.pin(wanted.key, wanted.generation, wanted.revision)
        if wanted.generation and (found := await self._shelf.find(str(pin))):
            return found
        found = await self._meant(reference, log)
        if wanted.generation:
            await self.forget(wanted.key)
            await self._shelf.call(_id(found), pin)
        return found

    async def _meant(self, reference: Reference, log: Log) -> Found:
        """What a tag means now: by its registry, or, where that is of no use, by the engine."""
        here = await self._shelf.find(str(reference))
        if here and not here.get("RepoDigests"):
            log(f"{reference} was made in this Docker Engine and is used as it is: {_id(here)}")
            return here
        try:
            found = await self._pulled(reference, log)
        except TargetError as error:
            if here is None:
                raise
            log(f"{error.problem.cause}; the image is used that the Docker Engine has by this name")
            found = here
        log(f"{reference} is {_digest_of(found, reference) or _id(found)}")
        return found

    async def meaning(self, image: str, image_uri: str) -> str | None:
        """What `image_uri` was when a container was made of `image` (an id): the same by its registry's digest."""
        found = await self._shelf.find(image)
        return _digest_of(found, parse(image_uri)) if found else None

    async def _pulled(self, reference: Reference, log: Log) -> Found:
        await self._pull(reference, log)
        return await self._must_find(reference)

    async def _pull(self, reference: Reference, log: Log) -> None:
        login = await self._login.header(reference.registry)
        log(f"the Docker Engine pulls {reference}")
        async with transfer(f"pulling {reference}", log, self._clock, self.silence) as progress:
            await self._shelf.pull(reference, login, progress)
        log(f"pulled {reference}: {megabytes(progress.total)} in {progress.seconds:.1f} s")

    async def _must_find(self, reference: Reference) -> Found:
        found = await self._shelf.find(str(reference))
        if found is None:
            raise TargetError(
                f"the Docker Engine has taken {reference} and does not have it",
                "somebody may have removed it; it is tried again",
                code="engine_image_lost",
                retryable=True,
            )
        return found

    async def python(self, log: Log) -> str:
        """Id of an image with python3, whatever else is in it. What the Engine has by its name is good enough.

        Raises:
            TargetError: it has none and cannot pull one.
        """
        reference = parse(self.python_image)
        return _id(await self._shelf.find(str(reference)) or await self._pulled(reference, log))

    # -- clearing away -------------------------------------------------------------------------------------------------

    async def forget(self, key: Key) -> None:
        """A project is gone: what its `image_uri` meant is asked anew if it comes back."""
        for row in await self._shelf.rows():
            for name in names_of(row):
                if name.startswith(f"{self._names.pins_of(key)}:"):
                    await self._shelf.uncall(name)

    async def sweep(self, in_use: Collection[str]) -> tuple[str, ...]:
        """Remove what we put into the engine and nobody uses: no container, whoever's, and nobody in the last hour.

        Args:
            in_use: what `ensure` gave for projects that there are.

        Returns:
            The names that are gone. An image that somebody else has given a name stays, without ours.
        """
        keep = {*in_use, *await self._shelf.used()}
        gone = []
        for row in await self._shelf.rows():
            if row["Id"] not in keep and any(name.startswith(self._names.home) for name in names_of(row)):
                gone += [name for name in await self._unused_names(str(row["Id"])) if await self._shelf.uncall(name)]
        return tuple(gone)

    async def _unused_names(self, image: str) -> list[str]:
        """Those to be taken from an image: ours, and the digest by which it was pulled if nobody has tagged it."""
        found = await self._shelf.find(image)
        if found is None or self._clock.now() - named_at(found) < _GRACE:
            return []
        tags = found.get("RepoTags") or []
        ours = [name for name in tags if name.startswith(self._names.home)]
        built = [name for name in ours if not name.startswith(self._names.pins)]
        return [*(found.get("RepoDigests") or [] if built and len(ours) == len(tags) else []), *ours]


def _digest_of(found: Found, reference: Reference) -> str | None:
    """None for an image that never was in a registry."""
    names: list[str] = found.get("RepoDigests") or []
    return next((name for name in names if name.partition("@")[0] == reference.name), None)


def _id(found: Found) -> str:
    return str(found["Id"])
