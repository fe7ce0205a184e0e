"""Notes in the registry: a machine that never saw a package neither fetches nor sends it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer
from image_builder.lock import PinnedWheel
from image_builder.oci.image import MANIFEST_TYPE, ImageLayer, canonical, digest_of, manifest_json
from image_builder.oci.layer_notes import LayerNotes, worth_noting
from image_builder.oci.note_document import DIFF_ID, Note, note_of, read_note
from image_builder.oci.reference import Reference, parse
from image_builder.oci.registries import Registries
from tests import needs
from tests.image_builder.test_registry import Anonymous, Faulty, Slept
from tests.registry import serve

Fault = Callable[[httpx.Request], httpx.Response | None]


class Net(Faulty):
    """Without TLS, whose setting up takes longer than most tests here."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.real = httpx.AsyncHTTPTransport(verify=False)


class Machine:
    """One builder: its own connections, and what it was told. `net.asked` holds its calls."""

    def __init__(self, target: Reference, fault: Fault = lambda _: None, *, seconds: float = 20) -> None:
        self.net, self.slept, self.lines = Net(fault), Slept(), list[str]()
        self.target = target
        self.registries = Registries(
            lambda: httpx.AsyncClient(transport=self.net, timeout=20), Anonymous(), sleep=self.slept
        )
        self.notes = LayerNotes(self.registries, target, self.lines.append, seconds=seconds)
        self.home = Reference(target.registry, self.notes.repository)

    async def publish(self, layer: Layer, data: bytes, folder: Path) -> None:
        """An image of one layer, as the publisher would."""
        registry = self.registries.of(self.target)
        path = folder / layer.digest
        path.write_bytes(data)
        await registry.push_blob(self.target, layer.digest, path)
        config = canonical({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [layer.diff_id]}})
        await registry.push_bytes(self.target, config)
        manifest = manifest_json(config, [ImageLayer(layer.digest, layer.diff_id, layer.size, "torch")])
        await registry.push_manifest(self.target, manifest, MANIFEST_TYPE)

    async def put(self, key: str, note: Note) -> None:
        """A note that somebody else wrote."""
        await self.registries.of(self.home).push_bytes(self.home, note.config)
        await self.registries.of(self.home).push_manifest(replace(self.home, tag=key), note.manifest, MANIFEST_TYPE)


@asynccontextmanager
async def machine(target: Reference, fault: Fault = lambda _: None, *, seconds: float = 20) -> AsyncIterator[Machine]:
    made = Machine(target, fault, seconds=seconds)
    async with made.registries:
        yield made


def over(answer: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]) -> Registries:
    """Registries that a function plays."""
    return Registries(lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)), Anonymous())


def a_layer() -> tuple[str, Layer, bytes]:
    """A content key, the layer that it names, and its bytes."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        row = tarfile.TarInfo("opt/torch.py")
        row.size = 64
        archive.addfile(row, io.BytesIO(secrets.token_hex(32).encode()))
    data = gzip.compress(tar.getvalue(), mtime=0)
    layer = Layer(digest_of(data), digest_of(tar.getvalue()), len(data))
    return hashlib.sha256(data).hexdigest()[::-1], layer, data


def somewhere(registry: str, name: str = "model") -> Reference:
    return parse(f"{registry}/team-{secrets.token_hex(4)}/{name}:1")


async def test_what_one_machine_published_another_finds_and_takes_over(registry: str, tmp_path: Path) -> None:
    """Otherwise every new machine fetches, makes and sends torch again."""
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        first.net.asked.clear()
        await first.notes.note({key: layer})
        assert not any(call.startswith("PATCH") for call in first.net.asked), "the layer was sent again"
        assert first.lines == []

    async def no_file() -> Path:
        raise AssertionError("the layer would be sent")

    async with machine(replace(target, repository=target.repository.replace("model", "other"))) as second:
        assert await second.notes.look_up([key, "f" * 64]) == {key: layer}
        pushed = await second.registries.of(target).push_blob(
            second.target, layer.digest, no_file, mount_from=second.notes.repository
        )
        assert pushed == "mounted"
        assert second.lines == []


async def test_where_there_are_no_notes_one_call_says_so(registry: str) -> None:
    """Otherwise every build pays for a service that nobody has set up."""
    async with machine(somewhere(registry)) as first:
        assert await first.notes.look_up([f"{number:064x}" for number in range(60)]) == {}
        assert first.net.asked == [f"GET /v2/{first.notes.repository}/tags/list"]
        assert first.lines == []


async def test_what_is_noted_is_not_noted_again(registry: str, tmp_path: Path) -> None:
    """Otherwise a rebuild with nothing changed has sixty times four calls more."""
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        await first.notes.note({key: layer})
    async with machine(target) as second:
        await second.notes.note({key: layer})
        assert second.net.asked == [f"GET /v2/{second.notes.repository}/tags/list"]


async def test_two_machines_may_note_the_same_at_once(registry: str, tmp_path: Path) -> None:
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first, machine(target) as second:
        await first.publish(layer, data, tmp_path)
        await asyncio.gather(*(one.notes.note({key: layer}) for one in (first, second)))
        assert await second.notes.look_up([key]) in ({}, {key: layer})  # what it listed before they wrote
        assert first.lines == second.lines == []
    async with machine(target) as third:
        assert await third.notes.look_up([key]) == {key: layer}


async def test_each_layer_is_noted_in_four_calls_and_looked_up_in_two(registry: str, tmp_path: Path) -> None:
    """Otherwise looking up takes longer than making."""
    target = somewhere(registry)
    made: dict[str, Layer] = {}
    async with machine(target) as first:
        for _ in range(8):
            key, layer, data = a_layer()
            made[key] = layer
            (tmp_path / "layer").write_bytes(data)
            await first.registries.of(target).push_blob(target, layer.digest, tmp_path / "layer")
        first.net.asked.clear()
        await first.notes.note(made)
        assert len(first.net.asked) == 1 + 4 * 8
    async with machine(target) as second:
        assert await second.notes.look_up(made) == made
        assert len(second.net.asked) == 1 + 2 * 8


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_registry_that_refuses_is_told_once_and_fails_nothing(
    registry: str, tmp_path: Path, status: int
) -> None:
    """Otherwise a right that is missing, or an odd registry, breaks builds that need neither."""
    target = somewhere(registry)
    key, layer, data = a_layer()

    def fault(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(status) if "cloud-deploy-layers" in request.url.path else None

    async with machine(target, fault) as first:
        await first.publish(layer, data, tmp_path)
        assert await first.notes.look_up([key]) == {}
        await first.notes.note({key: layer, "a" * 64: layer, "b" * 64: layer})
        assert len(first.lines) == 1
        assert str(status) in first.lines[0] and first.notes.repository in first.lines[0]
        assert sum("POST" in call and "cloud-deploy-layers" in call for call in first.net.asked) == (status == 403)


async def test_who_may_only_read_still_finds(registry: str, tmp_path: Path) -> None:
    """Otherwise notes are of no use where rights are given sparingly; reading asks for no right to write."""
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        await first.notes.note({key: layer})

    def read_only(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": ",".join(request.url.params.get_list("scope"))})
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry}/token",service="r"'}
        allowed = f"Bearer repository:{first.notes.repository}:pull"
        if request.headers.get("authorization") != allowed:
            return httpx.Response(401, headers=challenge)
        return None

    async with machine(target, read_only) as second:
        assert await second.notes.look_up([key]) == {key: layer}
        assert second.net.asked.count("GET /token") == 1


async def test_a_registry_that_does_not_answer_costs_a_bounded_time() -> None:
    """Otherwise a registry that hangs stops builds before they have begun. What it said until then counts."""
    key, layer, _ = a_layer()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tags/list"):
            return httpx.Response(200, json={"tags": ["a" * 64, key]})
        if request.url.path.endswith(f"/manifests/{key}"):
            return httpx.Response(200, content=note_of(key, layer).manifest)
        if request.url.path.endswith(f"/blobs/{layer.digest}"):
            return httpx.Response(200, headers={"Content-Length": str(layer.size)})
        await asyncio.Event().wait()
        raise AssertionError

    lines: list[str] = []
    async with over(answer) as registries:
        notes = LayerNotes(registries, parse("registry.test/a/b:1"), lines.append, seconds=0.5)
        assert await notes.look_up(["a" * 64, key]) == {key: layer}
    assert len(lines) == 1 and "0.5 s" in lines[0]


async def test_a_registry_that_does_not_mount_is_sent_no_layer(registry: str, tmp_path: Path) -> None:
    """Otherwise 200 MB go up twice."""
    target = somewhere(registry)
    key, layer, data = a_layer()

    def no_mounts(request: httpx.Request) -> httpx.Response | None:
        if "mount" in request.url.params:
            return httpx.Response(202, headers={"Location": "/v2/never/used"})
        return None

    async with machine(target, no_mounts) as first:
        await first.publish(layer, data, tmp_path)
        first.net.asked.clear()
        await first.notes.note({key: layer, "a" * 64: layer})
        assert not any(call.startswith(("PATCH", "PUT")) for call in first.net.asked)
        assert len(first.lines) == 1 and "does not mount" in first.lines[0]
    async with machine(target) as second:
        assert await second.notes.look_up([key]) == {}


def _wrong(key: str, layer: Layer, what: str) -> Note:
    right = note_of(key, layer)
    document = json.loads(right.manifest)
    if what == "another key":
        return note_of("e" * 64, layer)
    if what == "another diff_id":
        document["annotations"][DIFF_ID] = f"sha256:{'0' * 64}"
    if what == "another size":
        document["layers"][0]["size"] += 1
    if what == "no annotations":
        del document["annotations"]
    if what == "two layers":
        document["layers"] *= 2
    return Note(right.config, canonical(document))


@pytest.mark.parametrize("what", ["another key", "another diff_id", "another size", "no annotations", "two layers"])
def test_a_note_that_is_not_ours_to_the_byte_is_none(what: str) -> None:
    """Otherwise a spoilt note makes images that no engine unpacks."""
    key, layer, _ = a_layer()
    read = read_note(key, _wrong(key, layer, what).manifest)
    # A size alone may be any: the registry is asked for the blob's.
    assert read is None or (what == "another size" and read.size == layer.size + 1)


@pytest.mark.parametrize("what", ["another diff_id", "another size"])
async def test_a_spoilt_note_counts_for_nothing_and_is_mended(registry: str, tmp_path: Path, what: str) -> None:
    """Otherwise a foreign tag costs every machine its layer, for ever."""
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        await first.notes.note({"c" * 64: layer})
        await first.put(key, _wrong(key, layer, what))
    async with machine(target) as second:
        assert await second.notes.look_up([key]) == {}
        assert len(second.lines) == 1 and "not ours" in second.lines[0]
        await second.notes.note({key: layer})
    async with machine(target) as third:
        assert await third.notes.look_up([key]) == {key: layer}


@pytest.mark.parametrize(
    "said", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"layers": 1}', b'{"layers": [{"digest": 1, "size": "1"}]}']
)
def test_what_is_no_note_is_none(said: bytes) -> None:
    assert read_note("a" * 64, said) is None


@pytest.mark.parametrize(
    "layer",
    [
        Layer("sha256:../../etc", f"sha256:{'1' * 64}", 10),
        Layer(f"sha256:{'1' * 64}", "sha512:11", 10),
        Layer(f"sha256:{'1' * 64}", f"sha256:{'1' * 64}", 0),
        Layer(f"sha256:{'1' * 64}", f"sha256:{'1' * 64}", -5),
        Layer(f"sha256:{'1' * 64}", f"sha256:{'1' * 64}", 1.5),  # type: ignore[arg-type]
        Layer(f"sha256:{'1' * 64}", f"sha256:{'1' * 64}", True),
    ],
)
def test_a_note_of_what_is_no_layer_is_none(layer: Layer) -> None:
    """Otherwise a digest from a registry ends up in a path or an image."""
    assert read_note("a" * 64, note_of("a" * 64, layer).manifest) is None


async def test_a_registry_that_lists_part_of_its_tags_is_asked_for_each(registry: str, tmp_path: Path) -> None:
    """Otherwise notes stop to help once a registry has a thousand of them."""
    target = somewhere(registry)
    key, layer, data = a_layer()

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("tags/list"):
            return httpx.Response(200, json={"tags": ["0" * 64]}, headers={"Link": '</v2/next>; rel="next"'})
        return None

    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        await first.notes.note({key: layer})
    async with machine(target, cut) as second:
        assert await second.notes.look_up([key, "a" * 64]) == {key: layer}
        second.net.asked.clear()
        await second.notes.note({key: layer})
        assert second.net.asked == [f"HEAD /v2/{second.notes.repository}/manifests/{key}"]
        assert second.lines == []


@pytest.mark.parametrize("answer", [b"<html>", b'{"tags": 3}', b"[]", b'{"tags": null}'])
async def test_what_is_no_list_of_tags_is_no_note(answer: bytes) -> None:
    async def proxy(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer)

    lines: list[str] = []
    async with over(proxy) as registries:
        assert await LayerNotes(registries, parse("registry.test/a/b:1"), lines.append).look_up(["a" * 64]) == {}
    assert len(lines) == (0 if b"null" in answer else 1)


async def test_docker_hub_is_left_alone() -> None:
    """Otherwise private packages end up in a public repository, and looking up uses the day's pulls."""

    async def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(str(request.url))

    async with over(never) as registries:
        notes = LayerNotes(registries, parse("team/model:1"), pytest.fail)
        assert await notes.look_up(["a" * 64]) == {}
        await notes.note({"a" * 64: a_layer()[1]})


@pytest.mark.parametrize(
    ("target", "repository"),
    [
        ("localhost:5000/model:1", "cloud-deploy-layers"),
        ("localhost:5000/team/model:1", "team/cloud-deploy-layers"),
        ("europe-docker.pkg.dev/project/images/model", "project/images/cloud-deploy-layers"),
    ],
)
def test_notes_lie_beside_the_image(target: str, repository: str) -> None:
    """Otherwise they lie where we may not write, or where others may."""
    assert LayerNotes(Registries(httpx.AsyncClient, Anonymous()), parse(target), print).repository == repository


def test_the_projects_own_files_are_not_noted() -> None:
    """Otherwise a private program lies where the whole team reads."""
    wheel = PinnedWheel("torch", "2", "torch-2-py3-none-any.whl", "https://index.test/torch.whl", "0" * 64, 1)
    built = replace(wheel, url="built:torch-2.tar.gz")
    layers = [
        LayerPlan("torch 2", "wheel", "1", (wheel,)),
        LayerPlan("2 packages", "wheels", "2", (wheel, wheel)),
        LayerPlan("bytecode of torch 2", "bytecode", "3", (wheel,)),
        LayerPlan("2 packages", "wheels", "4", (wheel, built)),
        LayerPlan("weights", "weights", "5"),
        LayerPlan("program", "program", "6"),
        LayerPlan("config", "config", "7"),
    ]
    assert worth_noting(layers) == ["1", "2", "3"]


class Storage:
    """A registry whose disk we may touch."""

    def __init__(self, folder: Path) -> None:
        self.program = needs.program("docker-registry")
        self.folder = folder
        self.repositories = folder / "data/docker/registry/v2/repositories"

    def serving(self) -> Iterator[str]:
        return serve(self.program, self.folder)

    def blob(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"

    def collect_garbage(self) -> None:
        config = str(self.folder / "config.yml")
        subprocess.run([self.program, "garbage-collect", "--delete-untagged", config], check=True, capture_output=True)


async def test_clearing_the_registry_keeps_noted_layers_and_a_lost_one_is_unknown(tmp_path: Path) -> None:
    """Otherwise images name layers that are not there; and deleting one project costs all others their torch."""
    storage = Storage(tmp_path)
    key, layer, data = a_layer()
    serving = storage.serving()
    target = somewhere(next(serving))
    try:
        async with machine(target) as first:
            await first.publish(layer, data, tmp_path)
            await first.notes.note({key: layer})
        shutil.rmtree(storage.repositories / target.repository)
        storage.collect_garbage()
        assert storage.blob(layer.digest).read_bytes() == data
        async with machine(target) as second:
            assert await second.notes.look_up([key]) == {key: layer}
        storage.blob(layer.digest).unlink()
        async with machine(target) as third:
            assert await third.notes.look_up([key]) == {}
            assert len(third.lines) == 1 and "gone" in third.lines[0]
            await third.publish(layer, data, tmp_path)
            await third.notes.note({key: layer})
        async with machine(target) as fourth:
            assert await fourth.notes.look_up([key]) == {key: layer}
        shutil.rmtree(storage.repositories / fourth.notes.repository / "_manifests/revisions")
        async with machine(target) as fifth:
            assert await fifth.notes.look_up([key]) == {}
            await fifth.notes.note({key: layer})
        async with machine(target) as sixth:
            assert await sixth.notes.look_up([key]) == {key: layer}
    finally:
        serving.close()  # type: ignore[attr-defined]


async def test_other_tools_read_a_note(registry: str, tmp_path: Path) -> None:
    """Otherwise who looks after the registry cannot see, copy or delete what we put there."""
    skopeo = needs.program("skopeo")
    target = somewhere(registry)
    key, layer, data = a_layer()
    async with machine(target) as first:
        await first.publish(layer, data, tmp_path)
        await first.notes.note({key: layer})
        name = f"docker://{registry}/{first.notes.repository}:{key}"
    said = subprocess.run([skopeo, "inspect", "--tls-verify=false", name], check=True, capture_output=True)
    assert json.loads(said.stdout)["Layers"] == [layer.digest]
    copy = [skopeo, "copy", "--src-tls-verify=false", name, f"oci:{tmp_path / 'copy'}:note"]
    subprocess.run(copy, check=True, capture_output=True)
    assert (tmp_path / "copy/blobs/sha256" / layer.digest.removeprefix("sha256:")).read_bytes() == data
