"""Which layers a registry has by their content keys: what one machine made, another need not fetch, make or send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

import httpx

from image_builder.errors import BuildError
from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer
from image_builder.oci.image import MANIFEST_TYPE, digest_of
from image_builder.oci.note_document import note_of, read_note
from image_builder.oci.reference import DOCKER_HUB, Reference
from image_builder.oci.registries import Registries
from image_builder.oci.registry import Tags
from image_builder.work import each

_NAME = "cloud-deploy-layers"
_AT_A_TIME = 16
_LOOK_UP_SECONDS = 5.0
_NOTE_SECONDS = 20.0


def worth_noting(layers: Iterable[LayerPlan]) -> list[str]:
    """Keys of the layers that other machines come to as well: those that follow from packages alone.

    Not the program and the weights, which are the project's own, and no package that was built from source here: who
    asks for its layer must have built it before.
    """
    return [
        layer.key
        for layer in layers
        if layer.kind in ("wheel", "wheels", "bytecode")
        and not any(wheel.url.startswith("built:") for wheel in layer.wheels)
    ]


class LayerNotes:
    """The notes beside one target: in `<folder of its repository>/cloud-deploy-layers`, for all repositories there.

    They only ever save work: whatever goes wrong with them is told to `log` in one line, once, and fails no build.

    What is trusted: a layer is taken for what its note says without being read, so who may write that repository
    decides what packages the images beside it get. Where every project's rights are its own, give the right to write
    it to none but those who may write all of them. What can be known without reading the layer is checked: that the
    note is the one we would write for this key and layer, and that the blob is there with the size it says.

    What is shown: who may read that repository can read the packages' layers, private packages too.

    Docker Hub is left alone: it makes new repositories public, and counts each note that is read as a pull.

    Args:
        target: where the image is, or will be, published. Only its registry is asked.
        seconds: how long `look_up` may take in all.
    """

    def __init__(
        self,
        registries: Registries,
        target: Reference,
        log: Callable[[str], None],
        *,
        seconds: float = _LOOK_UP_SECONDS,
    ) -> None:
        folder = target.repository.rpartition("/")[0]
        self.repository = f"{folder}/{_NAME}" if folder else _NAME
        """Where the layers lie, to be mounted from."""
        self.home = f"{target.registry}/{self.repository}"
        self._registries = registries
        self._target = target
        self._log = log
        self._seconds = seconds
        self._tags: Tags | None = None
        self._unsound: set[str] = set()
        self._told: set[str] = set()
        self._refused = False

    async def look_up(self, keys: Collection[str]) -> dict[str, Layer]:
        """The layers with these keys (`LayerPlan.key`) that `repository` has; the others are left out.

        One call where there are no notes; else two for each note that is there.
        """
        found: dict[str, Layer] = {}
        if keys and not self._left_alone:
            await self._bounded(self._seconds, self._find(keys, found))
        return found

    async def note(self, layers: Mapping[str, Layer]) -> bool:
        """Write down, by their keys, layers whose blobs the target has; those that are noted stay as they are.

        One call where all are noted; else four for each that is not. Once it was refused, it is not tried again.
        No layer is sent: where the registry does not mount them from the target's repository, there are no notes.

        Returns:
            True if all are noted.
        """
        if self._left_alone or self._refused:
            return False
        noted = not layers or await self._bounded(_NOTE_SECONDS, self._write_all(layers))
        self._refused = not noted
        return noted

    @property
    def _left_alone(self) -> bool:
        return self._target.registry == DOCKER_HUB

    def _at(self, key: str | None = None) -> Reference:
        return Reference(self._target.registry, self.repository, key)

    # -- reading -----------------------------------------------------------------------------------------------

    async def _find(self, keys: Collection[str], found: dict[str, Layer]) -> None:
        tags = await self._list()
        slots = asyncio.Semaphore(_AT_A_TIME)
        await each(self._read(key, found, slots) for key in keys if key in tags.names or not tags.complete)

    async def _list(self) -> Tags:
        if self._tags is None:
            try:
                self._tags = await self._registries.of(self._target).tags(self._at())
            except BuildError as error:
                if error.problem.code != "registry_auth":
                    raise
                # Some registries say "forbidden" of what is not there yet. Who may not write either hears of it then.
                return Tags(frozenset(), complete=True)
        return self._tags

    async def _read(self, key: str, found: dict[str, Layer], slots: asyncio.Semaphore) -> None:
        async with slots:
            layer = await self._sound(key)
        if layer is not None:
            found[key] = layer
        else:
            self._unsound.add(key)

    async def _sound(self, key: str) -> Layer | None:
        """What the note says, if it is ours and its layer is there. A tag may outlive what it names."""
        registry = self._registries.of(self._target)
        try:
            manifest = await registry.manifest(self._at(key))
        except BuildError as error:
            if error.problem.code != "image_not_found":
                raise
            return None
        layer = read_note(key, manifest.data)
        if layer is None or await registry.blob_size(self._at(), layer.digest) != layer.size:
            self._tell(f"{self._at()} has notes that are not ours, or whose layers are gone: they count for nothing")
            return None
        return layer

    # -- writing -----------------------------------------------------------------------------------------------

    async def _write_all(self, layers: Mapping[str, Layer]) -> None:
        tags = await self._list()
        new = [key for key in layers if key not in tags.names or key in self._unsound]
        slots = asyncio.Semaphore(_AT_A_TIME)
        # The first alone: it may make the repository, or be refused for all.
        for some in (new[:1], new[1:]):
            await each(self._write(key, layers[key], slots) for key in some)

    async def _write(self, key: str, layer: Layer, slots: asyncio.Semaphore) -> None:
        registry, note = self._registries.of(self._target), note_of(key, layer)
        async with slots:
            if await self._is_there(key, digest_of(note.manifest)):
                return
            if not await registry.mount(self._at(), layer.digest, self._target.repository):
                raise self._no_mounts()
            await registry.push_bytes(self._at(), note.config)
            await registry.push_manifest(self._at(key), note.manifest, MANIFEST_TYPE)

    async def _is_there(self, key: str, digest: str) -> bool:
        """Asked only where the list of notes was cut short."""
        if key in self._unsound or self._tags is None or self._tags.complete:
            return False
        return await self._registries.of(self._target).manifest_digest(self._at(key)) == digest

    def _no_mounts(self) -> BuildError:
        return BuildError(
            f"the registry {self._target.registry} does not mount layers of {self._target.repository} there",
            "Nothing needs to be done: each machine makes and sends its layers itself.",
            code="registry_refused",
        )

    # -- trouble -----------------------------------------------------------------------------------------------

    async def _bounded(self, seconds: float, work: Coroutine[Any, Any, None]) -> bool:
        """True if it was done."""
        try:
            async with asyncio.timeout(seconds):
                await work
            return True
        except TimeoutError:
            self._tell(f"{self._at()} takes longer than {seconds:g} s to say which layers it has, or to note them")
        except (BuildError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            self._tell(f"{self._at()} does not help with layers of other machines: {error}")
        return False

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._log(line)
