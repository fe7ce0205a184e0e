"""A host whose packages lie in folders alone: the same lock as ever, without torch being read for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from image_builder.errors import ResolveFailed
from image_builder.file_hashes import FileHashes
from image_builder.local_index import Hashed, folders_alone, write_index
from image_builder.resolve import Wishes, resolve
from image_builder.work import StopFlag
from tests.image_builder.wheels import make_request, make_wheel, offline


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "find links"
    make_wheel(folder, requires=("Odd.Name>=1",))
    make_wheel(folder, "Odd_Name", files={"odd.py": "x = 1\n"})
    (folder / "notes.txt").write_text("no package")
    (folder / "broken.whl").write_text("no name of a wheel")
    return folder


def hashed(tmp_path: Path) -> Hashed:
    return Hashed(FileHashes(), tmp_path / "indexes")


async def test_the_lock_is_the_one_that_uv_makes_of_the_folder(links: Path, tmp_path: Path) -> None:
    """Otherwise what is installed depends on a detail of ours."""
    locks = [tmp_path / "one", tmp_path / "two"]
    wishes = [Wishes(make_request("hello")), Wishes(make_request("hello"), hashed=hashed(tmp_path))]
    found = [await resolve(*pair, offline(links), print) for pair in zip(wishes, locks, strict=True)]
    assert found[0].wheels == found[1].wheels and len(found[0].wheels) == 2


async def test_what_is_not_there_is_named_as_ever(links: Path, tmp_path: Path) -> None:
    told = []
    for number, wishes in enumerate(
        [Wishes(make_request("nope")), Wishes(make_request("nope"), hashed=hashed(tmp_path))]
    ):
        with pytest.raises(ResolveFailed) as caught:
            await resolve(wishes, tmp_path / f"{number}", offline(links), print)
        told.append(caught.value.problem)
    assert told[0].code == told[1].code and "nope" in told[1].cause


async def test_a_new_wheel_in_the_folder_is_seen(links: Path, tmp_path: Path) -> None:
    """The index is no snapshot of the day on which the builder was started."""
    wishes = Wishes(make_request("hello"), hashed=hashed(tmp_path))
    await resolve(wishes, tmp_path / "one", offline(links), print)
    make_wheel(links, version="2.0", requires=())
    lock = await resolve(wishes, tmp_path / "two", offline(links), print)
    assert [(wheel.name, wheel.version) for wheel in lock.wheels] == [("hello", "2.0")]


def test_pages_that_the_cache_lost_come_back(links: Path, tmp_path: Path) -> None:
    made = write_index([links], hashed(tmp_path), StopFlag())
    assert made is not None and sorted(path.name for path in made.iterdir()) == ["hello", "odd-name"]
    (made / "hello" / "index.html").unlink()
    assert write_index([links], hashed(tmp_path), StopFlag()) == made
    used: list[Path] = []
    write_index([links], replace(hashed(tmp_path), use=used.append), StopFlag())
    assert set(used) == set(made.rglob("*.html")), "another builder may clear away what nobody says to use"
    assert "#sha256=" in (made / "hello" / "index.html").read_text()


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({"UV_FIND_LINKS": "/links"}, ()),
        ({"UV_FIND_LINKS": "/links", "UV_NO_INDEX": "0"}, ()),
        ({"UV_FIND_LINKS": "https://mirror.test/links", "UV_NO_INDEX": "1"}, ()),
        ({"UV_FIND_LINKS": "/links", "UV_NO_INDEX": "1"}, ("--torch-backend", "cpu")),
        ({"UV_NO_INDEX": "1"}, ()),
    ],
)
def test_where_an_index_has_a_say_folders_stay_folders(environ: dict[str, str], options: tuple[str, ...]) -> None:
    """uv takes the newest of folders and indexes together, but asks indexes in their order."""
    assert folders_alone(environ, options) == []
