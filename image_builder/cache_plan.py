"""What goes from a cache that is too large, and in which order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from image_builder.contract import BuildState, BuildStatus, CacheKind

EVICTABLE: frozenset[CacheKind] = frozenset({"blob", "wheel", "lock", "index"})
"""What may go file by file. Images go as a whole; the rest is bounded by itself, or is not a cache."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """name: relative to the builder's folder. size: bytes on the disk. used: Unix seconds of its last use."""

    name: str
    kind: CacheKind
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class KeptImage:
    """name: a plan's id. parts: names of the manifest's, the configuration's and the layers' files."""

    name: str
    digest: str
    manifest: str
    parts: frozenset[str]
    used: float


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a cache holds. in_use: names of files that running builds have been promised. pinned: digests."""

    files: tuple[CachedFile, ...]
    images: tuple[KeptImage, ...]
    in_use: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Eviction:
    """One thing that goes: an image with the files that no other image has, or a single file."""

    image: KeptImage | None
    files: tuple[CachedFile, ...]
    used: float

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def evictions(contents: Contents, newest: frozenset[str], bound: int) -> list[Eviction]:
    """What goes, in order, until what is left fits into `bound` bytes (0: nothing goes).

    Least recently used first; then the small notes on what is here, whose use is not noted; the images of `newest`
    (digests) only when nothing else is left. What a running build uses stays, and what is pinned: there may still be
    too much.
    """
    size, gone = contents.size, []
    owners = Counter(part for image in contents.images for part in image.parts)
    by_name = {file.name: file for file in contents.files}
    for candidate in _in_order(contents, newest, owners):
        if not bound or size <= bound:
            break
        if isinstance(candidate, CachedFile):
            eviction = Eviction(None, (candidate,), candidate.used)
        else:
            owners.subtract(candidate.parts)
            orphans = (by_name[part] for part in sorted(candidate.parts) if not owners[part] and part in by_name)
            freed = tuple(file for file in orphans if file.name not in contents.in_use)
            eviction = Eviction(candidate, freed, candidate.used)
        size -= eviction.size
        gone.append(eviction)
    return gone


def _in_order(contents: Contents, newest: frozenset[str], owners: Counter[str]) -> list[CachedFile | KeptImage]:
    loose = [
        file
        for file in contents.files
        if file.kind in EVICTABLE and file.name not in owners and file.name not in contents.in_use
    ]
    held = contents.pinned
    images = [image for image in contents.images if image.manifest not in contents.in_use and image.digest not in held]
    last = [image for image in images if image.digest in newest]
    first = [image for image in images if image.digest not in newest]
    notes = [file for file in loose if file.kind == "index"]
    return [*_by_use([*(file for file in loose if file not in notes), *first]), *_by_use(notes), *_by_use(last)]


def _by_use(things: Sequence[CachedFile | KeptImage]) -> list[CachedFile | KeptImage]:
    return sorted(things, key=lambda thing: (thing.used, thing.name))


def newest_of_owners(builds: Iterable[BuildStatus]) -> frozenset[str]:
    """Digests of the image that each owner was given last."""
    found: dict[str, str] = {}
    for build in sorted(builds, key=lambda build: build.finished or build.created):
        if build.state is BuildState.SUCCEEDED and build.image:
            found.update(dict.fromkeys(build.owners, build.image.digest))
    return frozenset(found.values())


def published(builds: Iterable[BuildStatus]) -> frozenset[str]:
    """Digests of the images that are in a registry; the layers of their base may never have been here."""
    return frozenset(build.image.digest for build in builds if build.image and build.image.pushed)
