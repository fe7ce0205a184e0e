"""Wheels made to harm: refused with a cause and a fix, in bounded time and memory, and nothing leaves its folder."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_builder.errors import ResolveFailed
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.tar import write_tar
from image_builder.layers.wheel import Wheel
from image_builder.layers.wheels import wheel_entries
from image_builder.lock import PinnedWheel
from image_builder.work import StopFlag
from tests.image_builder.wheels import make_wheel

SITE = "opt/venv/lib/python3.11/site-packages"
INFO = "hello-1.0.dist-info"


def installed(path: Path) -> tarfile.TarFile:
    """The layer of a wheel, unpacked."""
    sink = io.BytesIO()
    wheel = Wheel(path, path.name, "3.11")
    try:
        with GzipChain(lambda data: (sink.write(data), None)[1]) as chain:
            write_tar(wheel.entries(), chain, StopFlag())
            chain.close()
    finally:
        wheel.close()
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(sink.getvalue())))


def refused(path: Path) -> str:
    with pytest.raises(ResolveFailed) as caught:
        installed(path)
    problem = caught.value.problem
    assert problem.code == "bad_wheel" and problem.fix and path.name in problem.cause and "\n" not in problem.cause
    return problem.cause


def rewritten(path: Path, change: dict[bytes, bytes]) -> Path:
    data = path.read_bytes()
    for old, new in change.items():
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name",
    [
        "hello-1.0.data",  # installer 1.0 looks for ever for the folder that this is in
        "./hello-1.0.data/scripts/x",
        "hello-1.0.data/scripts",
        "hello-1.0.data/nowhere/x",
        "hello-1.0.data/data/../../../etc/passwd",
        "hello-1.0.data/purelib//etc/passwd",
        "hello-1.0.data/scripts/../../../../bin/sh",
        ".wh.numpy",
        "numpy/.wh..wh..opq",
        ".wh.folder/file",
        "hello-1.0.data/data/.wh.bin",
        "hello\\..\\..\\evil.py",
        "n" * 256,
        "한" * 100,
        "d/" * 1530 + "f",
    ],
)
def test_names_that_no_image_may_hold(tmp_path: Path, name: str) -> None:
    """`.wh.x` would delete x of lower layers; names too long make an image that nobody can pull."""
    refused(make_wheel(tmp_path, files={name: "x"}))


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\n../../bin/sh = hello:main\n",
        "[console_scripts]\n/bin/sh = hello:main\n",
        "[console_scripts]\n.wh.python = hello:main\n",
        "[console_scripts]\na = hello:main\na = hello:other\n",
        "[console_scripts]\na = %(b)s:main\n",
        "[console_scripts]\na = os; import evil:main\n",
        "a = hello:main\n",
        "[console_scripts\n",
    ],
)
def test_entry_points_that_are_none(tmp_path: Path, text: str) -> None:
    refused(make_wheel(tmp_path, entry_points=text))


def test_strange_but_harmless_names_are_kept_and_recorded(tmp_path: Path) -> None:
    names = ["new\nline.py", "quote\",'.py", "tab\t.py", "back`tick$(x).py", "한글.py", "n" * 255, "~", "-rf", "wh.x"]
    tar = installed(make_wheel(tmp_path, files={name: name for name in names}))
    assert {f"{SITE}/{name}" for name in names} <= set(tar.getnames())


def test_a_link_in_a_wheel_becomes_a_file(tmp_path: Path) -> None:
    """As with pip: a link to /etc could be written through by the next member."""
    path = make_wheel(tmp_path, files={"hello": "/etc"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert installed(path).getmember(f"{SITE}/link").isreg()


def test_a_file_below_a_link_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lies below"):
        installed(make_wheel(tmp_path, files={"a": "x", "a/b": "y"}))


def test_a_record_that_lies_is_taken_as_pip_takes_it(tmp_path: Path) -> None:
    """The wheel's own hash is what the lock promises; its RECORD is passed on."""
    path = make_wheel(tmp_path, files={"m.py": "x"})
    tar = installed(rewritten(path, {}))
    assert tar.getmember(f"{SITE}/m.py").size == 1
    other = tmp_path / "b" / path.name
    other.parent.mkdir()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            lies = f"m.py,sha256={'A' * 43},77\n../../etc/passwd,,\n" if name.endswith("RECORD") else old.read(name)
            new.writestr(name, lies)
    tar = installed(other)
    record = tar.extractfile(f"{SITE}/{INFO}/RECORD")
    assert record is not None
    rows = record.read().decode().splitlines()
    assert f"m.py,sha256={'A' * 43},1" in rows and not [row for row in rows if "passwd" in row]


def test_members_twice_or_encrypted_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "twice")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("hello/__init__.py", "evil = 1\n")
    assert "twice" in pairs(path)
    locked = make_wheel(tmp_path / "locked", files={"m.py": "x" * 9})
    data = bytearray(locked.read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    assert "encrypted" in refused(locked)


def pairs(path: Path) -> str:
    """Two members of one name are found when wheels are laid side by side."""
    wheel = PinnedWheel("hello", "1.0", path.name, "", "0" * 64, None)
    with contextlib.ExitStack() as opened, pytest.raises(ResolveFailed) as caught:
        wheel_entries([wheel], {"0" * 64: path}, "3.11", opened)
    assert caught.value.problem.code == "bad_wheel"
    return caught.value.problem.cause


def test_a_zip64_wheel_is_as_good_as_any(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, archive.open("big.py", "w", force_zip64=True) as file:
        file.write(b"x" * 70_000)
    assert installed(path).getmember(f"{SITE}/big.py").size == 70_000


def test_directory_and_header_that_disagree_are_refused(tmp_path: Path) -> None:
    """What one tool checks is then not what another unpacks."""
    name = make_wheel(tmp_path / "name", files={"good.py": "x" * 5000})
    data = name.read_bytes()
    name.write_bytes(data.replace(b"good.py", b"evil.py", 1))
    assert "name" in refused(name)
    for field in (20, 24):  # compressed and real size, in the directory only
        path = make_wheel(tmp_path / str(field), files={"m.py": bytes(range(256)) * 40})
        changed = bytearray(path.read_bytes())
        at = changed.find(b"PK\x01\x02") + field
        changed[at : at + 4] = struct.pack("<I", struct.unpack("<I", changed[at : at + 4])[0] - 1)
        path.write_bytes(changed)
        refused(path)


@pytest.mark.timeout(30)
def test_bombs_are_refused_by_what_they_declare(tmp_path: Path) -> None:
    declared = make_wheel(tmp_path / "declared", files={"m.py": "x" * 5000})
    data = bytearray(declared.read_bytes())
    with zipfile.ZipFile(declared) as opened:
        count = len(opened.namelist())
    at = -1
    for _ in range(count):
        at = data.find(b"PK\x01\x02", at + 1)
        data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    declared.write_bytes(data)
    with zipfile.ZipFile(make_wheel(tmp_path / "more")) as opened:
        assert len(opened.namelist()) == count
    assert "bytes" in refused(declared)  # its METADATA alone would fill the memory


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The "better zip bomb": 10 MB that unpack to terabytes, without any member that is large by itself."""
    path = make_wheel(tmp_path, files={"m.py": bytes(3_000_000)})
    data = path.read_bytes()
    start = data.find(b"PK\x01\x02")
    row = data[start : data.find(b"PK\x01\x02", start + 4)]
    end = data.rfind(b"PK\x05\x06")
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 2004, 2004)
    tail[12:16] = struct.pack("<I", end - start + 2000 * len(row))
    path.write_bytes(data[:start] + row * 2000 + data[start:end] + tail)
    assert "overlap" in refused(path)


@pytest.mark.timeout(30)
def test_a_directory_of_millions_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """300,000 members take half a gigabyte as objects; a directory that is declared to be large is not read at all."""
    path = make_wheel(tmp_path / "many")
    data = path.read_bytes()
    start, end = data.find(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    row = data[start : data.find(b"PK\x01\x02", start + 4)]
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", end - start + 300_000 * len(row))
    path.write_bytes(data[:start] + row * 300_000 + data[start:end] + tail)
    assert "members" in refused(path)
    tail[12:16] = struct.pack("<I", 470_000_000)
    with path.open("wb") as file:
        file.truncate(500_000_000)
        file.seek(500_000_000)
        file.write(tail)
    assert "directory" in refused(path)
    small = make_wheel(tmp_path / "claims")
    claims = bytearray(small.read_bytes())
    at = claims.rfind(b"PK\x05\x06")
    claims[at + 8 : at + 12] = struct.pack("<HH", 0xFFFF, 0xFFFF)
    small.write_bytes(claims)
    assert f"{SITE}/hello/__init__.py" in installed(small).getnames()


@pytest.mark.parametrize("name", ["entry_points.txt", "WHEEL"])
def test_lists_of_megabytes_are_not_parsed(tmp_path: Path, name: str) -> None:
    text = "[console_scripts]\n" + "".join(f"s{n} = hello:main\n" for n in range(70_000))
    path = make_wheel(tmp_path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        archive.writestr(f"{INFO}/{name}", text)
    assert name in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_old_compressions_do_not_fill_the_memory(tmp_path: Path, method: int) -> None:
    """Their members pass through the memory: together no more than one of them may have."""
    files = {f"f{n}": bytes(9 << 20) for n in range(8)}
    assert "out of use" in refused(make_wheel(tmp_path, files=files, compression=method))


SOUND = {"hello/__init__.py": "x = 1\n", "hello-1.0.data/scripts/tool": "#!python\n", "b.bin": bytes(range(256)) * 9}


def test_a_member_that_lies_outside_of_the_file_is_named(tmp_path: Path) -> None:
    """One wrong bit at the end of a wheel moves all its members: also before its beginning, where no file can seek."""
    path = make_wheel(tmp_path)
    whole = path.read_bytes()
    for at, value in [(whole.rfind(b"PK\x05\x06") + 16, len(whole)), (whole.find(b"PK\x01\x02") + 42, 0xFFFFFFF0)]:
        path.write_bytes(whole[:at] + struct.pack("<I", value) + whole[at + 4 :])
        assert "outside" in refused(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]),
    st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_whatever_bytes_are_wrong_the_wheel_is_named(
    tmp_path: Path, method: int, changes: list[tuple[float, int]], directory: bool
) -> None:
    """A traceback names our code, not the package that must be pinned to another version."""
    path = make_wheel(tmp_path, files=SOUND, entry_points="[console_scripts]\na = b:c\n", compression=method)
    data = bytearray(path.read_bytes())
    first = data.find(b"PK\x01\x02") if directory else 0
    for where, value in changes:
        data[first + int(where * (len(data) - first))] = value
    path.write_bytes(data)
    try:
        names = installed(path).getnames()
    except ResolveFailed as error:
        assert error.problem.code == "bad_wheel"
    except ValueError as error:
        assert "below" in str(error) or "twice" in str(error)
    else:
        assert all(name.startswith("opt") and ".." not in name.split("/") for name in names)
