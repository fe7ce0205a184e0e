"""The builder's folders, looked over and cleared. Blocking: call it in a thread.

Whatever is removed, and wherever that is broken off, what is left is sound: an image loses its name before its files,
an entry whose blob is gone means that the layer is made anew, and an image that misses a blob is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from image_builder.cache_plan import CachedFile, Contents, Eviction, KeptImage, evictions
from image_builder.contract import CacheCleared, CacheKind, CacheRow, CacheThing, CacheView, WhyGone
from image_builder.disk import PARTIAL
from image_builder.errors import BuildError
from image_builder.file_hashes import FileHashes
from image_builder.kept_image import blobs_of, is_whole
from image_builder.leases import Leases
from image_builder.oci.layout import Layout
from image_builder.pins import Pins
from image_builder.work import StopFlag

BLOBS = "images/blobs/sha256/"
_HASHES = "hashes.sqlite"
_PUSHED = "pushed/"
_OWN = re.compile(rf"builds/|engines/|scratch/|lock$|{re.escape(_HASHES)}")
"""What lies in STATE_DIR/builder, whoever shares the cache."""
_SMALL = 1 << 20
_KINDS: dict[str, CacheKind] = {
    BLOBS: "blob",
    "wheels/": "wheel",
    "locks/": "lock",
    "indexes/": "index",
    "layers/": "index",
    "contents/": "index",
    "bases/": "index",
    "sources/": "index",
    _PUSHED: "index",
    "builds/": "record",
    _HASHES: "hashes",
}


class Cache:
    """What is kept, bounded to `bound` bytes (0: not at all); several processes may share it."""

    def __init__(self, folder: Path, leases: Leases, bound: int, own: Path | None = None) -> None:
        """own: STATE_DIR/builder; the same folder unless several builders share this one."""
        self._folder = folder
        self._own = own or folder
        self._leases = leases
        self._layout = Layout(folder / "images")  # looks are no use: this one tells nobody
        self._pins = Pins(folder)
        self._parts: dict[str, frozenset[str]] = {}
        self.bound = bound

    def view(self, newest: frozenset[str], published: frozenset[str] = frozenset()) -> CacheView:
        """newest: digests of images that go last. published: of images whose base may lie in a registry only."""
        found = self._contents()
        rows = [_row(kind, found.files) for kind in dict.fromkeys(file.kind for file in found.files)]
        return CacheView(
            bound=self.bound,
            size=found.size,
            in_use=len(found.in_use),
            kinds=tuple(rows),
            images=sum(is_whole(self._layout, image.digest) for image in found.images),
            would_go=tuple(thing for _, thing in self._goners(found, newest, published)),
        )

    def clear(
        self,
        newest: frozenset[str],
        flag: StopFlag,
        *,
        published: frozenset[str] = frozenset(),
        dry_run: bool = False,
    ) -> CacheCleared:
        """Remove leftovers, and what is over the bound; digests as for `view`. `flag` may break it off between files.

        Raises:
            OSError: a file cannot be removed; what went before is gone.
        """
        found = self._contents()
        gone = []
        for eviction, thing in self._goners(found, newest, published):
            flag.check()
            if dry_run or self._evict(eviction):
                gone.append(thing)
        freed = sum(thing.size for thing in gone)
        after = found.size - freed if dry_run else self.size()
        return CacheCleared(
            dry_run=dry_run, verified=0, bound=self.bound, before=found.size, after=after, gone=tuple(gone)
        )

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.size for file in self.files())

    def pin(self, owner: str, digests: Sequence[str]) -> None:
        """Keep these images for an owner, instead of those before. Raises OSError."""
        self._pins.put(owner, digests)
        for digest in digests:
            with contextlib.suppress(OSError):  # used just now: whoever is about to remove it leaves it alone
                os.utime(self._layout.path(digest))

    def keeps(self, digest: str) -> bool:
        """Whether all of an image is there; asking is no use of it."""
        return is_whole(self._layout, digest)

    def remove(self, file: CachedFile) -> bool:
        """One file, unless it is in use, of a kept image, or was used since it was looked at."""
        path = self._folder / file.name
        # The leases are read before the images: a build names its image before it ends.
        with self._leases.clearing() as in_use, contextlib.suppress(FileNotFoundError):
            if file.name in in_use or file.name in self._named_parts() or path.stat().st_mtime != file.used:
                return False
            path.unlink()
            return True
        return False

    def remove_corrupt(self, file: CachedFile, inode: int) -> bool:
        """One file whose bytes are wrong, though an image names it; unless it is in use, or was made anew since."""
        path = self._folder / file.name
        with self._leases.clearing() as in_use, contextlib.suppress(FileNotFoundError):
            if file.name in in_use or path.stat().st_ino != inode:
                return False
            path.unlink()
            return True
        return False

    def mend_index(self) -> bool:
        """True if the index of the images was damaged; it is empty now."""
        return (self._layout.folder / "index.json").exists() and self._layout.mend()

    def files(self, *kinds: CacheKind) -> Iterator[CachedFile]:
        """What lies in the folders, of these kinds or of all; unfinished files count, but have no kind."""
        for path, name in self._paths():
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    file = _cached_file(path, name)
                    if not kinds or file.kind in kinds:
                        yield file

    def _paths(self) -> Iterator[tuple[Path, str]]:
        """What is another builder's own is no business of this one."""
        for root in dict.fromkeys((self._folder, self._own)):
            # Path.rglob would fail where a folder goes meanwhile.
            for path in sorted(Path(where, name) for where, _, names in os.walk(root) for name in names):
                name = path.relative_to(root).as_posix()
                if self._own == self._folder or bool(_OWN.match(name)) is (root == self._own):
                    yield path, name

    def _contents(self) -> Contents:
        in_use = self._leases.in_use()
        return Contents(tuple(self.files()), tuple(self._images()), in_use, self._pins.digests())

    def _images(self) -> Iterator[KeptImage]:
        for name, digest in self._named().items():
            path = self._layout.path(digest)
            used = path.stat().st_mtime if path.exists() else 0.0
            yield KeptImage(name, digest, _blob_name(digest), self._parts_of(digest), used)

    def _named(self) -> dict[str, str]:
        try:
            return self._layout.images()
        except FileNotFoundError:
            return {}  # nothing was ever built here
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BuildError(
                f"the index of the images, {self._layout.folder / 'index.json'}, is damaged",
                "Run: cloud-deploy gc --verify",
                code="index_damaged",
            ) from error

    def _parts_of(self, digest: str) -> frozenset[str]:
        if digest not in self._parts:
            parts = frozenset(_blob_name(part) for part in blobs_of(self._layout, digest))
            if not parts:
                return frozenset()
            self._parts[digest] = parts | {f"contents/{digest.removeprefix('sha256:')}.json"}
        return self._parts[digest]

    def _named_parts(self) -> set[str]:
        return {part for digest in self._named().values() for part in self._parts_of(digest)}

    def _goners(
        self, found: Contents, newest: frozenset[str], published: frozenset[str]
    ) -> list[tuple[Eviction, CacheThing]]:
        """What is worth nothing goes whatever the bound; then, if there is still too much, the least used."""
        names = {file.name for file in found.files}
        lost = [image for image in found.images if not self._is_sound(image, names, published)]
        stale = tuple(file for file in found.files if file.kind == "index" and self._is_stale(file, names))
        rest = Contents(
            tuple(file for file in found.files if file not in stale),
            tuple(image for image in found.images if image not in lost),
            found.in_use,
            found.pinned,
        )
        return [
            *_told((Eviction(image, (), image.used) for image in lost), "incomplete"),
            *_told((Eviction(None, (file,), file.used) for file in stale), "leftover"),
            *_told(self._too_many_hashes(found), "too large"),
            *_told(evictions(rest, newest, self.bound), "least recently used"),
        ]

    def _is_sound(self, image: KeptImage, names: set[str], published: frozenset[str]) -> bool:
        """A published image may miss what lies in a registry; another builder's is known by what was sent of it."""
        if is_whole(self._layout, image.digest) or not image.parts:
            return bool(image.parts)
        sent = {name.rpartition("/")[2] for name in names if name.startswith(_PUSHED)}
        missing = {part.removeprefix(BLOBS) for part in image.parts - names if part.startswith(BLOBS)}
        return image.digest in published or missing <= sent

    def _too_many_hashes(self, found: Contents) -> list[Eviction]:
        """Without them the projects' files are read once more, so they may take a tenth of the room, no more."""
        files = tuple(file for file in found.files if file.kind == "hashes")
        size = sum(file.size for file in files)
        return [Eviction(None, files, 0.0)] if self.bound and size > max(self.bound // 10, _SMALL) else []

    def _is_stale(self, file: CachedFile, names: set[str]) -> bool:
        """An entry whose blob is gone, or that nobody can read."""
        if not (file.name.startswith("layers/") and file.name.endswith(".json")):
            return False
        try:
            return _blob_name(json.loads((self._folder / file.name).read_bytes())["digest"]) not in names
        except FileNotFoundError:
            return False
        except (ValueError, LookupError, TypeError, AttributeError):
            return True

    def _evict(self, eviction: Eviction) -> bool:
        if eviction.image is not None and not self._forget(eviction.image):
            return False
        if any(file.kind == "hashes" for file in eviction.files):
            with closing(FileHashes(self._own / _HASHES)) as hashes:
                hashes.clear()
            return True
        removed = [self.remove(file) for file in eviction.files]
        return eviction.image is not None or any(removed)

    def _forget(self, image: KeptImage) -> bool:
        """Take the name from an image, unless it was asked for since it was looked at."""
        with self._leases.clearing() as in_use:
            path = self._folder / image.manifest
            if image.manifest in in_use or (path.exists() and path.stat().st_mtime != image.used):
                return False
            self._layout.forget_image(image.name, image.digest)
        return True


def _cached_file(path: Path, name: str) -> CachedFile:
    found = path.stat()
    kind: CacheKind = "other"
    if not path.name.startswith(PARTIAL):
        kind = next((kind for start, kind in _KINDS.items() if name.startswith(start)), "other")
    # What it takes on the disk, but for filesystems that compress or tell late.
    return CachedFile(name, kind, max(found.st_size, found.st_blocks * 512), found.st_mtime)


def _blob_name(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")


def _row(kind: CacheKind, files: Iterable[CachedFile]) -> CacheRow:
    sizes = [file.size for file in files if file.kind == kind]
    return CacheRow(kind=kind, count=len(sizes), size=sum(sizes))


def _told(evictions: Iterable[Eviction], why: WhyGone) -> Iterator[tuple[Eviction, CacheThing]]:
    for one in evictions:
        kind: CacheKind = "image" if one.image else one.files[0].kind
        name = f"builds/{one.image.name}" if one.image else shown(one.files[0].name)
        yield one, CacheThing(kind=kind, name=name, size=one.size, used=one.used, why=why)


def shown(name: str) -> str:
    """A blob by its digest, anything else by its file's name."""
    return f"sha256:{name.removeprefix(BLOBS)}" if name.startswith(BLOBS) else name
