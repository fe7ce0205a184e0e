"""What goes from a cache that is too large: tables, no disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from image_builder.cache_plan import CachedFile, Contents, KeptImage, evictions, newest_of_owners
from image_builder.contract import BuildState, BuildStatus, CacheKind, ImageReference
from image_builder.settings import Settings
from tests.fakes.pipeline import request


def file(name: str, size: int, used: float, kind: CacheKind = "blob") -> CachedFile:
    return CachedFile(name, kind, size, used)


def image(name: str, used: float, *parts: str) -> KeptImage:
    """Its manifest is a file of its own name."""
    return KeptImage(name, f"digest of {name}", name, frozenset({name, *parts}), used)


def gone(contents: Contents, bound: int, *newest: str) -> list[str]:
    """Names in the order in which they go; an image as `name[freed files]`."""
    rows = evictions(contents, frozenset(f"digest of {name}" for name in newest), bound)
    return [
        f"{row.image.name}[{' '.join(file.name for file in row.files)}]" if row.image else row.files[0].name
        for row in rows
    ]


FILES = (
    file("old", 10, 1.0),
    file("new", 10, 9.0),
    file("torch", 500, 2.0),
    file("weights", 100, 2.0),
    file("wheel", 50, 5.0, "wheel"),
    file("note", 1, 0.5, "index"),
    file("record", 1, 0.1, "record"),
)
OLD, NEW = image("old", 1.0, "torch", "weights"), image("new", 9.0, "torch")
ALL = Contents(FILES, (OLD, NEW))


@pytest.mark.parametrize(
    ("bound", "order"),
    [
        (0, []),  # no bound
        (672, []),  # it fits
        (671, ["old[old weights]"]),  # torch is of the other image, too
        (562, ["old[old weights]"]),
        (561, ["old[old weights]", "wheel"]),
        (511, ["old[old weights]", "wheel", "new[new torch]"]),
        (1, ["old[old weights]", "wheel", "new[new torch]", "note"]),
    ],
)
def test_the_least_recently_used_goes_first_until_it_fits(bound: int, order: list[str]) -> None:
    """Otherwise what is needed daily is made again daily."""
    assert gone(ALL, bound) == order


def test_the_newest_image_of_each_owner_goes_last() -> None:
    """Otherwise a project that runs loses its image to one that was tried once."""
    assert gone(ALL, 1, "old") == ["wheel", "new[new]", "note", "old[old torch weights]"]


def test_what_a_running_build_uses_stays() -> None:
    """Otherwise a build publishes an image without its layers."""
    held = Contents(FILES, (OLD, NEW), frozenset({"wheel", "torch", "new"}))
    assert gone(held, 1) == ["old[old weights]", "note"]


def test_what_is_pinned_stays_though_nothing_else_is_left() -> None:
    """Else a service could not be put back, nor rolled back, after the disk was full."""
    pinned = Contents(FILES, (OLD, NEW), pinned=frozenset({OLD.digest}))
    assert gone(pinned, 1) == ["wheel", "new[new]", "note"]


def test_a_loose_blob_goes_by_its_own_use() -> None:
    files = (file("a", 10, 3.0), file("b", 10, 1.0), file("c", 10, 2.0))
    assert gone(Contents(files, ()), 10) == ["b", "c"]


_SIZES = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), min_size=1, max_size=12)


@given(_SIZES, st.lists(st.sets(st.integers(0, 11)), max_size=5), st.sets(st.integers(0, 11)), st.integers(1, 400))
def test_it_fits_or_the_rest_is_in_use(
    sizes: list[tuple[int, float]], images: list[set[int]], held: set[int], bound: int
) -> None:
    """And nothing in use, or of an image that stays, ever goes."""
    files = [file(str(number), size, used) for number, (size, used) in enumerate(sizes)]
    files += [file(f"image {number}", 1, 0.0) for number in range(len(images))]
    kept = [
        image(f"image {number}", float(number), *(str(part) for part in parts if part < len(sizes)))
        for number, parts in enumerate(images)
    ]
    in_use = frozenset(str(number) for number in held)
    rows = evictions(Contents(tuple(files), tuple(kept), in_use), frozenset(), bound)
    removed = [one.name for row in rows for one in row.files]
    left = [one for one in files if one.name not in removed]
    assert len(removed) == len(set(removed))
    assert not in_use & set(removed)
    dropped = [row.image for row in rows if row.image]
    for stays in (one for one in kept if one not in dropped):
        assert not stays.parts & set(removed)
    assert sum(one.size for one in left) <= bound or {one.name for one in left} <= in_use


def test_the_newest_image_of_an_owner_is_the_one_that_was_finished_last() -> None:
    def build(number: int, finished: float, *owners: str) -> BuildStatus:
        made = ImageReference(repository="builds/x", digest=f"sha256:{number:064}", size=1)
        return BuildStatus(
            id=f"{number:032}",
            state=BuildState.SUCCEEDED,
            owners=owners,
            request=request(),
            image=made,
            created=0,
            finished=finished,
        )

    builds = [build(1, 5.0, "a", "b"), build(2, 9.0, "a"), build(3, 7.0), build(4, 1.0, "c")]
    assert newest_of_owners(builds) == {f"sha256:{number:064}" for number in (1, 2, 4)}


@pytest.mark.parametrize(
    ("text", "size"),
    [("20Gi", 20 * 2**30), ("500M", 500_000_000), ("1.5 GiB", 3 * 2**29), ("0", 0), ("1024", 1024), ("2kb", 2000)],
)
def test_sizes_are_written_as_people_write_them(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_MAX_BYTES", text)
    assert Settings().cache_max_bytes == size


@pytest.mark.parametrize("text", ["much", "-1", "20 apples", ""])
def test_what_is_no_size_is_refused_at_the_start(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_MAX_BYTES", text)
    with pytest.raises(ValidationError, match="cache_max_bytes"):
        Settings()
