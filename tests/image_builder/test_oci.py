"""The layout on disk: what is visible is whole, whoever died while writing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from image_builder.disk import PARTIAL, PartialFile
from image_builder.layers.index import Layer, LayerIndex
from image_builder.oci.layout import REF_NAME, Layout
from tests.image_builder.wheels import sha256


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "images")
    layout.prepare()
    return layout


def partials(layout: Layout) -> list[str]:
    return [path.name for path in layout.folder.rglob(f"{PARTIAL}*")]


def test_a_blob_appears_whole_or_not_at_all(layout: Layout) -> None:
    with layout.writer() as writer:
        writer.write(b"abc")
        assert not layout.has(sha256(b"abc"))
        assert writer.commit() == sha256(b"abc")
    with layout.open_blob(sha256(b"abc")) as file:
        assert file.read() == b"abc"
    with pytest.raises(RuntimeError), layout.writer() as writer:
        writer.write(b"half")
        raise RuntimeError
    assert not partials(layout)


def test_only_digests_name_blobs(layout: Layout) -> None:
    for name in ("sha256:../../index.json", "sha256:" + "A" * 64, "md5:x", "", "sha256:" + "0" * 64 + "\n"):
        with pytest.raises(ValueError, match="digest"):
            layout.path(name)
    with pytest.raises(FileNotFoundError):
        layout.open_blob("sha256:" + "0" * 64)


def test_what_a_killed_writer_left_is_swept_and_a_living_writers_is_not(layout: Layout) -> None:
    code = (
        "import sys, time; from pathlib import Path; from image_builder.oci.layout import Layout\n"
        "w = Layout(Path(sys.argv[1])).writer(); w.write(b'x' * 100000); print('writing', flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", code, str(layout.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as child:
        assert child.stdout is not None and child.stdout.readline() == b"writing\n"
        layout.prepare()
        assert len(partials(layout)) == 1
        child.send_signal(signal.SIGKILL)
    layout.prepare()
    assert not partials(layout)


def test_images_are_named_by_many_at_once_and_none_is_lost(layout: Layout) -> None:
    def name(count: int) -> None:
        digest = layout.add(str(count).encode())
        layout.name_image(f"image-{count}", {"digest": digest, "size": 1, "mediaType": "m"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(name, range(40)))
    assert all(layout.image(f"image-{count}") == sha256(str(count).encode()) for count in range(40))
    layout.name_image("image-1", {"digest": sha256(b"2"), "size": 1, "mediaType": "m"})
    assert layout.image("image-1") == sha256(b"2") and layout.image("other") is None
    rows = json.loads((layout.folder / "index.json").read_bytes())["manifests"]
    assert len({row["annotations"][REF_NAME] for row in rows}) == len(rows) == 40


def test_a_layout_survives_being_opened_again(layout: Layout) -> None:
    digest = layout.add(b"x")
    layout.name_image("a", {"digest": digest, "size": 1, "mediaType": "m"})
    layout.prepare()
    assert layout.image("a") == digest and layout.add(b"x") == digest


def test_an_index_that_cannot_be_read_costs_work_but_no_build(layout: Layout, tmp_path: Path) -> None:
    index = LayerIndex(tmp_path / "layers", layout)
    index.prepare()
    layer = Layer(layout.add(b"x"), sha256(b"y"), 1)
    index.remember("key", layer)
    assert index.layer("key") == layer
    for text in (b"", b"{", b'{"digest": "sha256:zz", "diff_id": "", "size": 1}', b'{"other": 1}', b"[]"):
        (tmp_path / "layers" / "key.json").write_bytes(text)
        assert index.layer("key") is None
    layout.path(layer.digest).write_bytes(b"truncated")
    index.remember("key", layer)
    assert index.layer("key") is None


def test_a_partial_file_replaces_at_once(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with PartialFile(tmp_path) as file:
        file.write(b"new")
        assert (tmp_path / "x").read_text() == "old"
        file.move_to("x")
    assert (tmp_path / "x").read_text() == "new" and len(list(tmp_path.iterdir())) == 1
