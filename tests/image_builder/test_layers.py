"""Layers: every byte as the wheel or the project has it, in an order and a form that never vary."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder.errors import ResolveFailed, SourceChanged
from image_builder.layers.files import file_entries, launcher_entries
from image_builder.layers.gzip_chain import BadDeflate, GzipChain
from image_builder.layers.tar import Bytes, Entry, PathConflict, header, write_tar
from image_builder.layers.wheel import Wheel
from image_builder.source_tree import SourceFile
from image_builder.work import StopFlag
from tests.image_builder.wheels import HELLO, SCRIPT, make_wheel, sha256
from tests.tars import extract

SITE = "opt/venv/lib/python3.11/site-packages"


def layer_of(entries: list[Entry]) -> tuple[bytes, str]:
    """(gzip, diff id)"""
    sink = io.BytesIO()
    with GzipChain(lambda data: (sink.write(data), None)[1]) as chain:
        write_tar(entries, chain, StopFlag())
        diff_id = chain.close()
    return sink.getvalue(), diff_id


def unpack(entries: list[Entry]) -> tarfile.TarFile:
    blob, diff_id = layer_of(entries)
    tar = gzip.decompress(blob)
    assert sha256(tar) == diff_id
    return tarfile.open(fileobj=io.BytesIO(tar))


def read(tar: tarfile.TarFile, path: str) -> bytes:
    file = tar.extractfile(path)
    assert file is not None
    return file.read()


def installed(path: Path) -> tarfile.TarFile:
    wheel = Wheel(path, path.name, "3.11")
    try:
        return unpack(wheel.entries())
    finally:
        wheel.close()


def refused(path: Path) -> str:
    with pytest.raises(ResolveFailed) as caught:
        installed(path)
    assert caught.value.problem.code == "bad_wheel"
    assert path.name in caught.value.problem.cause
    return caught.value.problem.cause


@given(st.lists(st.tuples(st.sampled_from("adsc"), st.binary(max_size=3000), st.integers(1, 900)), max_size=8))
def test_any_chain_of_members_is_one_gzip_file(parts: list[tuple[str, bytes, int]]) -> None:
    sink, whole = io.BytesIO(), b""
    with GzipChain(lambda data: (sink.write(data), None)[1]) as chain:
        for how, piece, times in parts:
            data = piece * times
            whole += data
            if how == "a":
                chain.add(data)
            elif how == "s":
                chain.add_stored([data[:70_000], data[70_000:]])
            elif how == "c":
                chain.add_compressed([data])
            else:
                packer = zlib.compressobj(9, zlib.DEFLATED, -15)
                packed = packer.compress(data) + packer.flush()
                chain.add_deflated(partial(iter, [packed[:50], packed[50:]]), crc=zlib.crc32(data), size=len(data))
        diff_id = chain.close()
    assert gzip.decompress(sink.getvalue()) == whole
    assert diff_id == sha256(whole)


@pytest.mark.parametrize(("size", "crc"), [(10, None), (5_000_001, None), (4_999_999, None), (5_000_000, 7)])
def test_a_member_that_lies_about_itself_is_refused(size: int, crc: int | None) -> None:
    """A zip bomb says that it is small; it is stopped at what it says."""
    data = bytes(5_000_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    with GzipChain(lambda _: None) as chain, pytest.raises(BadDeflate):
        chain.add_deflated(lambda: [packed], crc=zlib.crc32(data) if crc is None else crc, size=size)
        chain.close()


@pytest.mark.parametrize("size", [0, 511, 1024, 1025, 4096, 4097, 70_000, 1 << 20])
def test_small_data_of_any_size_come_back(size: int) -> None:
    """A smaller window of the compressor is only for data that fit it."""
    data = random.Random(size).randbytes(size // 2) * 2
    sink = io.BytesIO()
    with GzipChain(lambda piece: (sink.write(piece), None)[1]) as chain:
        chain.add(data)
        chain.close()
    assert gzip.decompress(sink.getvalue()) == data


@pytest.mark.parametrize("path", ["a", "a/b.py", *("x" * size for size in (98, 99, 100, 101, 980, 9_990)), "ü"])
@pytest.mark.parametrize(("mode", "size"), [(0o644, 0), (0o755, 8**11 - 1), (0o644, 8**11)])
def test_a_header_is_as_pythons_tarfile_makes_it(path: str, mode: int, size: int) -> None:
    info = tarfile.TarInfo(path)
    info.mode, info.size, info.mtime = mode, size, 1

    class Sized:
        def __init__(self) -> None:
            self.size = size

        def write_to(self, chain: GzipChain, flag: StopFlag) -> None: ...

    assert header(Entry(path, mode=mode, content=Sized()), None) == info.tobuf(tarfile.PAX_FORMAT)
    info.type, info.size = tarfile.DIRTYPE, 0
    assert header(Entry(path, "folder", mode), None) == info.tobuf(tarfile.PAX_FORMAT)


def test_no_thread_is_left_when_a_layer_fails() -> None:
    with pytest.raises(RuntimeError), GzipChain(lambda _: None) as chain:
        chain.add(bytes(3_000_000))
        raise RuntimeError
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("side-hash")]


def test_every_folder_is_there_once_and_nothing_tells_of_this_machine() -> None:
    """Docker refuses a layer that names a path twice."""
    entries = [Entry("a/b/y", content=Bytes(b"1")), Entry("a/b", "folder", 0o755), Entry("a/x", "link", target="b/y")]
    tar = unpack(entries)
    assert tar.getnames() == ["a", "a/b", "a/b/y", "a/x"]
    for row in tar:
        assert (row.uid, row.gid, row.uname, row.gname, row.mtime) == (0, 0, "", "", 1)


def test_order_of_entries_does_not_matter() -> None:
    entries = [Entry(f"d{n % 7}/f{n}", content=Bytes(bytes([n]) * n)) for n in range(100)]
    shuffled = random.Random(1).sample(entries, len(entries))
    assert layer_of(entries) == layer_of(shuffled)


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b")])
def test_two_claims_to_one_path_are_an_error(paths: tuple[str, str]) -> None:
    with pytest.raises(PathConflict):
        unpack([Entry(path, content=Bytes(path.encode())) for path in paths])


@pytest.mark.parametrize(
    "name", ["x" * 90 + "/" + "y" * 200, "d/" * 80 + "f", "한글/파일.txt", os.fsdecode(b"\xff\xe9")]
)
def test_long_and_strange_names_survive(name: str) -> None:
    tar = unpack([Entry(name, content=Bytes(b"x"))])
    assert name in tar.getnames()


def test_a_wheel_is_installed_as_pip_would(tmp_path: Path) -> None:
    files = {
        "hello/__init__.py": HELLO,
        "hello/big.bin": random.Random(2).randbytes(50_000),
        "hello/empty.py": "",
        "hello/run.so": "x" * 5000,
        "hello/__pycache__/stale.pyc": b"x",
        "hello-1.0.data/scripts/tool": "#!python -E\nprint('tool')\n",
        "hello-1.0.data/scripts/native": b"\x7fELF",
        "hello-1.0.data/data/share/doc.txt": "doc",
        "hello-1.0.data/headers/hello.h": "int x;",
        "hello-1.0.data/platlib/plat.py": "",
    }
    modes = {"hello/run.so": 0o755, "hello/empty.py": 0o600, "hello/big.bin": 0o664}
    tar = installed(make_wheel(tmp_path, files=files, entry_points=SCRIPT, modes=modes))
    found = {row.name: row for row in tar if not row.isdir()}
    assert read(tar, f"{SITE}/hello/big.bin") == files["hello/big.bin"]
    assert {path: found[f"{SITE}/{path}"].mode for path in modes} == {
        "hello/run.so": 0o755,
        "hello/empty.py": 0o644,
        "hello/big.bin": 0o644,
    }
    assert found["opt/venv/bin/native"].mode == 0o755
    assert "opt/venv/share/doc.txt" in found and f"{SITE}/plat.py" in found
    assert "opt/venv/include/site/python3.11/hello/hello.h" in found
    assert not [path for path in found if "__pycache__" in path]
    assert read(tar, f"{SITE}/hello-1.0.dist-info/INSTALLER") == b"cloud-deploy\n"
    record = read(tar, f"{SITE}/hello-1.0.dist-info/RECORD").decode()
    for line in ("../../../bin/hello-script,sha256=", "../../../bin/tool,sha256=", "hello/empty.py,sha256=47DEQpj8"):
        assert line in record
    assert len(record.splitlines()) == len(found)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_zip_compression_gives_the_same_files(tmp_path: Path, method: int) -> None:
    data = b"text " * 40_000
    tar = installed(make_wheel(tmp_path, files={"m.py": data}, compression=method))
    assert read(tar, f"{SITE}/m.py") == data


def test_scripts_run_wherever_the_environment_lies(tmp_path: Path) -> None:
    """The layers are unpacked below a folder that nobody knows when the image is made, blanks included."""
    home = tmp_path / "a place"
    files = {"hello/__init__.py": HELLO, "hello-1.0.data/scripts/tool": "#!python\nprint('tool ran')\n"}
    extract(installed(make_wheel(tmp_path, files=files, entry_points=SCRIPT)), home)
    venv = home / "opt" / "venv"
    (venv / "bin" / "python").symlink_to(sys.executable)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(home / SITE)}
    link = tmp_path / "link"
    link.symlink_to(venv / "bin" / "hello-script")
    for script, said in ((link, "hello from a wheel"), (venv / "bin" / "tool", "tool ran")):
        assert said in subprocess.run([script], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", ["../evil.py", "/abs.py", "a/../../b.py", "a//b.py", "hello-1.0.data/scripts/../x"])
def test_a_wheel_cannot_write_outside_its_folders(tmp_path: Path, path: str) -> None:
    refused(make_wheel(tmp_path, files={path: "x"}))


def test_an_entry_point_cannot_leave_the_bin_folder(tmp_path: Path) -> None:
    refused(make_wheel(tmp_path, entry_points="[console_scripts]\n../../evil = hello:main\n"))


def test_unsound_wheels_are_named(tmp_path: Path) -> None:
    torn = make_wheel(tmp_path, files={"m.py": "x" * 100_000})
    torn.write_bytes(torn.read_bytes()[:-30])
    refused(torn)
    text = tmp_path / "text-1.0-py3-none-any.whl"
    text.write_text("<html>not a wheel</html>")
    refused(text)


def test_a_bit_that_flipped_is_found(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, files={"m.py": random.Random(3).randbytes(20_000)})
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)
    refused(path)


def test_a_project_file_that_changed_since_the_plan_is_found(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"new content")
    for size in (11, 3, 20):
        file = SourceFile("w.bin", "file", 0o644, size, "0" * 64)
        with pytest.raises(SourceChanged, match=r"w\.bin"):
            layer_of(file_entries(tmp_path, [file], "/workspace"))
    with pytest.raises(SourceChanged):
        layer_of(file_entries(tmp_path, [SourceFile("gone", "file", size=1, sha256="0" * 64)], "/workspace"))


@pytest.mark.parametrize("compressible", [True, False])
def test_large_files_are_compressed_only_if_that_helps(tmp_path: Path, compressible: bool) -> None:
    data = b"weights!" * 50_000 if compressible else random.Random(4).randbytes(400_000)
    (tmp_path / "w").write_bytes(data)
    entries = file_entries(tmp_path, [SourceFile("w", "file", 0o644, len(data), sha256(data)[7:])], "/workspace")
    blob, _ = layer_of(entries)
    assert read(unpack(entries), "workspace/w") == data
    assert len(blob) < 20_000 if compressible else 400_000 < len(blob) < 402_000


def launch(tmp_path: Path, pre_exec: list[list[str]], entrypoint: list[str]) -> subprocess.CompletedProcess[str]:
    extract(unpack(launcher_entries(pre_exec, entrypoint)), tmp_path)
    argv = [sys.executable, str(tmp_path / "opt/cloud-deploy/launch.py")]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_what_comes_before_the_program_runs_in_order_and_no_shell_reads_it(tmp_path: Path) -> None:
    say = [sys.executable, "-c", "import sys; print(sys.argv[1], flush=True)"]
    done = launch(tmp_path, [[*say, "one; echo $HOME"], [*say, "two"]], [*say, "program"])
    assert done.stdout.splitlines() == ["one; echo $HOME", "two", "program"]


def test_a_failing_command_stops_the_start_and_says_which(tmp_path: Path) -> None:
    bad = [sys.executable, "-c", "raise SystemExit(7)"]
    done = launch(tmp_path, [bad], [sys.executable, "-c", "print('never')"])
    assert (done.returncode, done.stdout) == (7, "")
    assert "pre_exec" in done.stderr and "exit code 7" in done.stderr
    missing = launch(tmp_path, [["/no/such"]], ["x"])
    assert missing.returncode == 127 and "/no/such" in missing.stderr
    assert launch(tmp_path, [], ["/no/such"]).returncode == 127
