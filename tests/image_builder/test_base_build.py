"""An image on a base, published: what others see of it, what is sent, and what is left when it fails."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_builder.contract import ImageReference
from image_builder.errors import BuildError
from image_builder.kept_image import is_whole
from image_builder.oci.layout import Layout
from image_builder.oci.reference import parse
from image_builder.pipeline import build
from image_builder.workshop import Network, Workshop
from tests import needs
from tests.base_image import PYTHON_TREE, Tree, tiny_base
from tests.image_builder.test_pipeline import check_blobs
from tests.image_builder.wheels import SCRIPT, Notes, make_project, make_request, make_wheel, offline, plan_of

Fault = Callable[[httpx.Request], httpx.Response | None]


class Wire(httpx.AsyncBaseTransport):
    """The real network; counts the bytes of bodies that are sent, and lets a test answer in its place."""

    def __init__(self) -> None:
        self.real = httpx.AsyncHTTPTransport()
        self.fault: Fault = lambda _: None
        self.asked: list[str] = []
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        self.sent += int(request.headers.get("content-length", 0))
        return self.fault(request) or await self.real.handle_async_request(request)

    async def aclose(self) -> None:
        await self.real.aclose()

    def connect(self, _environ: Mapping[str, str]) -> httpx.AsyncClient:
        self.real = httpx.AsyncHTTPTransport()
        return httpx.AsyncClient(transport=self, timeout=20)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    make_wheel(folder, entry_points=SCRIPT, requires=("dep>=1",))
    make_wheel(folder, "dep", files={"dep.py": "x = 1\n"})
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared", {"app.py": "print('hi')\n", "w.pt": random.Random(1).randbytes(200_000)})
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path, links: Path, wire: Wire) -> AsyncIterator[Workshop]:
    opened = Workshop.open(tmp_path / "state", offline(links), Network(connect=wire.connect))
    yield opened
    opened.close()


@pytest.fixture
def somewhere() -> str:
    return secrets.token_hex(4)


def documents(layout: Layout, image: ImageReference) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and configuration."""
    manifest = json.loads(layout.path(image.digest).read_bytes())
    return manifest, json.loads(layout.path(manifest["config"]["digest"]).read_bytes())


def members(layout: Layout, image: ImageReference, skip: int) -> dict[str, tarfile.TarInfo]:
    """What our layers hold, without those of the base."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in documents(layout, image)[0]["layers"][skip:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layout.path(layer["digest"]).read_bytes()))) as tar:
            found |= {member.name: member for member in tar}
    return found


async def made(workshop: Workshop, root: Path, base: str, **more: Any) -> tuple[ImageReference, Notes]:
    notes = Notes()
    request = make_request("hello", base_image=base, weights=("w.pt",), **more)
    return await build(plan_of(request, root, workshop), workshop, notes), notes


async def test_the_base_comes_first_and_says_how_it_runs(
    workshop: Workshop, root: Path, registry: str, somewhere: str
) -> None:
    """Otherwise the image lacks what the base promises: its variables, its user, its libraries."""
    config = {
        "Env": ["PATH=/custom:/usr/local/bin", "LANG=C.UTF-8", "PORT=1"],
        "User": "1000:1000",
        "Labels": {"from": "base", "io.tango.cloud-deploy.python": "2"},
        "Cmd": ["/bin/sh"],
        "Entrypoint": ["/init"],
        "ExposedPorts": {"53/udp": {}},
        "StopSignal": "SIGINT",
    }
    base = tiny_base(registry, somewhere, [PYTHON_TREE, {"etc/x": b""}], config=config)
    image, notes = await made(workshop, root, base)
    manifest, described = documents(workshop.layout, image)
    running = described["config"]
    env = dict(row.split("=", 1) for row in running["Env"])
    assert env["PATH"] == "/opt/venv/bin:/custom:/usr/local/bin"
    assert (env["LANG"], env["PORT"]) == ("C.UTF-8", "8080")
    assert (running["User"], running["StopSignal"], running["Entrypoint"]) == (
        "1000:1000",
        "SIGINT",
        ["python", "app.py"],
    )
    assert "Cmd" not in running
    assert set(running["ExposedPorts"]) == {"53/udp", "8080/tcp"}
    labels = running["Labels"]
    assert (labels["from"], labels["io.tango.cloud-deploy.python"]) == ("base", "3.11")
    assert notes.bases == [f"{registry}/{somewhere}@{labels['org.opencontainers.image.base.digest']}"]
    assert labels["org.opencontainers.image.base.name"] == notes.bases[0]
    assert [row.get("created_by") for row in described["history"]][:2] == ["layer 0", "layer 1"]
    assert len(described["history"]) == len(described["rootfs"]["diff_ids"]) == len(manifest["layers"])
    assert is_whole(workshop.layout, image.digest)
    assert image.pushed is None and notes.steps == ["base", "resolve", "fetch", "layers", "assemble"]


async def test_the_packages_find_the_interpreter_of_the_base(
    workshop: Workshop, root: Path, registry: str, somewhere: str
) -> None:
    image, _ = await made(workshop, root, tiny_base(registry, somewhere))
    found = members(workshop.layout, image, 1)
    assert found["opt/venv/bin/python"].linkname == "/usr/local/bin/python3.11"
    assert found["opt/venv/bin/python3.11"].linkname == found["opt/venv/bin/python3"].linkname == "python"
    assert "opt/venv/pyvenv.cfg" in found
    assert found["opt/venv/bin/pip"].mode == 0o755, "the base's own pip does not see our packages"


async def test_the_links_and_modes_of_the_base_stay(
    workshop: Workshop, root: Path, registry: str, somewhere: str
) -> None:
    """Hazard: a layer that holds `opt/` as a folder replaces the base's link, and all behind it is gone."""
    tree: Tree = {**PYTHON_TREE, "opt": "-> data/opt", "data": ("folder", 0o710), "workspace": ("folder", 0o1777)}
    image, _ = await made(workshop, root, tiny_base(registry, somewhere, [tree]), pre_exec=(("app.py",),))
    found = members(workshop.layout, image, 1)
    assert not [name for name in found if name.split("/")[0] == "opt"]
    assert {"data/opt/venv/pyvenv.cfg", "data/opt/cloud-deploy/launch.py"} <= set(found)
    assert found["data"].mode == 0o710 and found["workspace"].mode == 0o1777


async def test_layers_are_the_same_on_every_base(workshop: Workshop, root: Path, registry: str, somewhere: str) -> None:
    """Otherwise torch is made and sent again for each base there is."""
    await made(workshop, root, "scratch")
    _, notes = await made(workshop, root, tiny_base(registry, somewhere))
    ours = {name: state for name, state in notes.states.items() if not name.startswith("base")}
    assert [name for name, state in ours.items() if state == "built"] == ["config"]


async def test_an_image_for_another_architecture_needs_no_emulation(
    workshop: Workshop, root: Path, registry: str, somewhere: str
) -> None:
    base = tiny_base(registry, somewhere, architectures=("amd64", "arm64"))
    image, _ = await made(workshop, root, base, platform="linux/arm64")
    assert documents(workshop.layout, image)[1]["architecture"] == "arm64"


@pytest.mark.parametrize(
    ("tree", "code", "words"),
    [
        ({"usr/bin/python3.9": b""}, "python_not_in_base", "3.9 (/usr/bin/python3.9)"),
        ({"etc/x": b""}, "python_not_in_base", "none at all"),
        ({**PYTHON_TREE, "opt/venv/bin/python": b""}, "base_has_venv", "/opt/venv"),
    ],
)
async def test_a_base_that_does_not_fit_is_named(
    workshop: Workshop, root: Path, registry: str, somewhere: str, tree: Tree, code: str, words: str
) -> None:
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, tiny_base(registry, somewhere, [tree]))
    assert caught.value.problem.code == code
    assert words in caught.value.problem.cause


async def test_a_base_with_too_many_layers_is_refused(
    workshop: Workshop, root: Path, registry: str, somewhere: str
) -> None:
    """Otherwise old engines refuse the image: max depth exceeded."""
    trees: list[Tree] = [PYTHON_TREE, *({f"etc/{count}": b""} for count in range(95))]
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, tiny_base(registry, somewhere, trees))
    assert caught.value.problem.code == "too_many_layers"


async def test_what_is_published_can_be_read_and_nothing_is_sent_twice(
    workshop: Workshop, root: Path, registry: str, somewhere: str, wire: Wire, tmp_path: Path
) -> None:
    base = tiny_base(registry, f"{somewhere}/base")
    push = f"{registry}/{somewhere}/model:1"
    image, notes = await made(workshop, root, base, push=push)
    assert image.pushed == f"{registry}/{somewhere}/model@{image.digest}"
    assert notes.states["base 1"] == "mounted" and notes.states["weights"] == "uploaded"
    assert notes.layers["weights"].origin == "built"
    assert notes.steps[-1] == "push"
    check_blobs(workshop.layout)

    skopeo = needs.program("skopeo")
    shown = subprocess.run(
        [skopeo, "inspect", "--tls-verify=false", f"docker://{push}"], capture_output=True, check=True
    )
    assert json.loads(shown.stdout)["Digest"] == image.digest
    copy = [skopeo, "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{push}", f"oci:{tmp_path}/out:it"]
    subprocess.run(copy, capture_output=True, check=True)

    wire.sent = 0
    wire.asked.clear()
    again, notes = await made(workshop, root, base, push=push)
    assert again == image and wire.sent == 0
    assert not [line for line in wire.asked if line.startswith(("PUT", "POST", "PATCH"))]

    make_project(root, {"app.py": "print('changed')\n"})
    _, notes = await made(workshop, root, base, push=push)
    assert [name for name, state in notes.states.items() if state == "uploaded"] == ["program"]
    assert wire.sent < 10_000

    wire.sent = 0
    other, notes = await made(workshop, root, base, push=f"{registry}/{somewhere}/other:1")
    assert set(notes.states.values()) == {"mounted"}
    assert other.digest == (await made(workshop, root, base))[0].digest, "where it goes makes no other image"
    assert wire.sent < 10_000


async def test_a_second_machine_neither_makes_nor_sends_what_the_first_did(
    root: Path, links: Path, tmp_path: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    """torch is made and sent once in a company's life, not once for each machine that builds."""
    base, folder = tiny_base(registry, f"{somewhere}/base"), f"{registry}/{somewhere}"

    def machine(name: str) -> Workshop:
        return Workshop.open(tmp_path / name, offline(links), Network(connect=wire.connect))

    with closing(machine("one")) as first, closing(machine("two")) as second:
        await made(first, root, base, push=f"{folder}/model:1")
        wire.sent = 0
        _, notes = await made(second, root, base, push=f"{folder}/other:1")
        assert notes.layers["2 packages"].origin == "reused"
        assert notes.states["2 packages"] == "mounted"
        wheels = next(row for row in notes.layers.values() if row.kind == "wheels")
        assert wheels.digest and not second.layout.has(wheels.digest)

        wire.asked.clear()
        make_project(root, {"app.py": "print('changed')\n"})
        _, notes = await made(second, root, base, push=f"{folder}/other:1")
        assert [name for name, state in notes.states.items() if state == "uploaded"] == ["program"]
        assert not [line for line in wire.asked if "cloud-deploy-layers" in line], "what is known is asked for again"
        kept, _ = await made(second, root, base)
        assert is_whole(second.layout, kept.digest), "an image that stays here is made here"


async def test_notes_of_layers_that_are_gone_help_nobody_and_hurt_nobody(
    root: Path, links: Path, tmp_path: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    """Registries are cleaned up, and forbid mounts."""
    base, push = tiny_base(registry, f"{somewhere}/base"), f"{registry}/{somewhere}/model:1"

    def no_mounts(request: httpx.Request) -> httpx.Response | None:
        return (
            httpx.Response(403) if "mount=" in str(request.url) and "cloud-deploy-layers" in str(request.url) else None
        )

    with closing(Workshop.open(tmp_path / "one", offline(links), Network(connect=wire.connect))) as first:
        await made(first, root, base, push=push)
    with closing(Workshop.open(tmp_path / "two", offline(links), Network(connect=wire.connect))) as second:
        wire.fault = no_mounts
        image, notes = await made(second, root, base, push=f"{registry}/{somewhere}/other:1")
        assert notes.layers["2 packages"].origin == "built" and image.pushed
        assert is_whole(second.layout, image.digest)


async def test_without_notes_nothing_is_written_beside_the_image(
    root: Path, links: Path, tmp_path: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    """LAYER_NOTES=0 is for registries whose readers shall not see each other's packages."""
    network = Network(connect=wire.connect, shares_layers=False)
    with closing(Workshop.open(tmp_path / "one", offline(links), network)) as workshop:
        await made(workshop, root, "scratch", push=f"{registry}/{somewhere}/model:1")
    assert not [line for line in wire.asked if "cloud-deploy-layers" in line]


async def test_a_base_of_another_registry_is_carried_over(
    workshop: Workshop, root: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    """`localhost` and `127.0.0.1` are two names, and so two registries to us."""
    base = tiny_base(registry, f"{somewhere}/base")
    push = f"localhost:{registry.partition(':')[2]}/{somewhere}/model:1"
    image, notes = await made(workshop, root, base, push=push)
    assert notes.states["base 1"] == "uploaded"
    assert wire.sent > documents(workshop.layout, image)[0]["layers"][0]["size"]


async def test_two_clean_caches_give_one_digest(
    root: Path, links: Path, tmp_path: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    base = tiny_base(registry, somewhere)
    digests = set()
    for name in ("one", "two"):
        opened = Workshop.open(tmp_path / name, offline(links), Network(connect=wire.connect))
        digests.add((await made(opened, root, base))[0].digest)
        opened.close()
    assert len(digests) == 1


async def test_a_lost_repository_to_mount_from_is_no_trouble(
    workshop: Workshop, root: Path, registry: str, somewhere: str, wire: Wire
) -> None:
    """Registries are cleaned up; what we remember of them may be wrong."""
    base = tiny_base(registry, f"{somewhere}/base")
    image, _ = await made(workshop, root, base)
    for layer in documents(workshop.layout, image)[0]["layers"]:
        workshop.pushed.remember(parse(f"{registry}/{somewhere}/gone"), layer["digest"])
    _, notes = await made(workshop, root, base, push=f"{registry}/{somewhere}/model:1")
    assert notes.states["weights"] == "uploaded"
    assert any("/blobs/uploads/" in line for line in wire.asked)
    _, notes = await made(workshop, root, base, push=f"{registry}/{somewhere}/other:1")
    assert notes.states["weights"] == "mounted"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (401, "registry_auth", False),
        (403, "registry_auth", False),
        (404, "registry_refused", False),
        (429, "registry_unreachable", True),
        (503, "registry_unreachable", True),
    ],
)
async def test_a_registry_that_refuses_ends_the_build_without_a_tag(
    workshop: Workshop, root: Path, registry: str, somewhere: str, wire: Wire, status: int, code: str, retryable: bool
) -> None:
    base = tiny_base(registry, f"{somewhere}/base")
    push = f"{registry}/{somewhere}/model:1"

    def refuse(request: httpx.Request) -> httpx.Response | None:
        writing = request.method in ("POST", "PATCH", "PUT")
        return httpx.Response(status, headers={"Retry-After": "0"}) if writing else None

    wire.fault = refuse
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, base, push=push)
    assert (caught.value.problem.code, caught.value.problem.retryable) == (code, retryable)
    assert tags(registry, f"{somewhere}/model") == []
    wire.fault = lambda _: None
    image, _ = await made(workshop, root, base, push=push)
    assert image.pushed and tags(registry, f"{somewhere}/model") == ["1"]


@pytest.mark.parametrize("moment", ["base", "base:fetching", "push", "weights:pushing", "base:mounted"])
async def test_cancelling_publishes_nothing(
    workshop: Workshop, root: Path, registry: str, somewhere: str, moment: str
) -> None:
    """A tag that names half an image is worse than none."""
    base = tiny_base(registry, f"{somewhere}/base")
    make_project(root, {"w.pt": random.Random(5).randbytes(8_000_000)})
    push = f"{registry}/{somewhere}/model:1"
    plan = plan_of(make_request("hello", base_image=base, push=push, weights=("w.pt",)), root, workshop)
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    task: asyncio.Task[ImageReference]

    def at(happened: str) -> None:
        if happened == moment and not reached.is_set():
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(reached.set)

    task = asyncio.create_task(build(plan, workshop, Notes(at)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached.is_set()
    assert tags(registry, f"{somewhere}/model") == []
    check_blobs(workshop.layout)
    assert (await build(plan, workshop, Notes())).pushed


def tags(registry: str, name: str) -> list[str]:
    answer = httpx.get(f"http://{registry}/v2/{name}/tags/list", trust_env=False)
    return list(answer.json().get("tags") or []) if answer.status_code == 200 else []


async def test_a_real_debian_runs_what_was_published(
    workshop: Workshop, root: Path, base_image: str, registry: str, somewhere: str, tmp_path: Path
) -> None:
    """Otherwise all of the above holds and the service does not start."""
    needs.root_on_linux("chroot")
    umoci, skopeo = needs.program("umoci"), needs.program("skopeo")
    push = f"{registry}/{somewhere}/model:1"
    image, _ = await made(workshop, root, base_image, push=push)
    copied = tmp_path / "copied"
    source = ["--src-tls-verify=false", f"docker://{registry}/{somewhere}/model@{image.digest}"]
    subprocess.run([skopeo, "copy", "--insecure-policy", *source, f"oci:{copied}:it"], capture_output=True, check=True)
    bundle = tmp_path / "bundle"
    subprocess.run([umoci, "unpack", "--image", f"{copied}:it", bundle], capture_output=True, check=True)

    def inside(*argv: str) -> str:
        path = json.loads((bundle / "config.json").read_text())["process"]["env"]
        env = dict(row.split("=", 1) for row in path)
        command = ["chroot", bundle / "rootfs", *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert inside("python", "/workspace/app.py") == "hi\n"
    assert inside("hello-script") == "hello from a wheel\n"
    listed = json.loads(inside("pip", "list", "--local", "--format=json"))
    assert [(row["name"], row["version"]) for row in listed] == [("dep", "1.0"), ("hello", "1.0")]
    assert "No broken requirements found" in inside("pip", "check")
    assert inside("python", "-c", "import sys; print(sys.prefix, sys.base_prefix)") == "/opt/venv /usr\n"
    assert (bundle / "rootfs" / "bin").is_symlink(), "the base's merged /usr stays"
