"""Programs that know of the twin by its environment file alone move bytes to its Cloud Storage and back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.gcp_emulator.emulated import Emulator

_PYTHON = """
import io, os
from google.cloud import storage
client = storage.Client()
bucket = client.create_bucket("stock-bucket", location="us-central1")
data = os.urandom(600_000)
blob = bucket.blob("a/b", chunk_size=256 * 1024)
blob.upload_from_file(io.BytesIO(data), if_generation_match=0, checksum="md5")
assert bucket.get_blob("a/b").download_as_bytes() == data
assert blob.media_link.startswith("https://storage.googleapis.com/"), blob.media_link
print([found.name for found in client.list_blobs(bucket, prefix="a/")], client.get_service_account_email())
"""
_LARGE = 50 << 20


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path_factory.mktemp("twin"))
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "below").mkdir()
    (tree / "large").write_bytes(os.urandom(_LARGE))
    (tree / "below" / "small").write_text("small")
    return tree


def test_the_python_client_needs_nothing_but_the_environment(emulator: Emulator) -> None:
    said = emulator.python(_PYTHON)
    assert said.startswith("['a/b'] service-")


@pytest.mark.long
@pytest.mark.parametrize("tool", [("gsutil",), ("gcloud", "storage")])
def test_googles_own_tools_copy_compare_and_remove(
    emulator: Emulator, tree: Path, tmp_path: Path, tool: tuple[str, ...]
) -> None:
    """50 MB both ways with their checksums, a folder compared, a bucket removed with what is in it."""
    needs.program(tool[0])
    bucket = f"gs://tool-{tool[0]}"
    make = ("mb", "-l", "us-central1", bucket) if tool == ("gsutil",) else ("buckets", "create", bucket)

    def said(*command: str) -> str:
        done = emulator.run(*tool, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said(*make)
    said("cp", str(tree / "large"), f"{bucket}/large")
    said("cp", f"{bucket}/large", str(tmp_path / "large"))
    assert (tmp_path / "large").read_bytes() == (tree / "large").read_bytes()
    said("rsync", "-r", str(tree), f"{bucket}/tree")
    (tmp_path / "back").mkdir()
    said("rsync", "-r", f"{bucket}/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "below" / "small").read_text() == "small"
    assert said("ls", bucket).split() == [f"{bucket}/large", f"{bucket}/tree/"]
    said("rm", f"{bucket}/large")
    said("rm", "-r", bucket)
    assert emulator.run(*tool, "ls", bucket).returncode != 0
