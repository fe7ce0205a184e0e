"""How an image reaches a real Docker Engine: what goes over the wire, what is done once, what is never left."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud_manager.errors import DeployError, TargetError, Unavailable
from cloud_manager.targets.docker_credentials import DockerLogin
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_images import EngineImages
from cloud_manager.targets.target import Wanted
from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests import needs
from tests.base_image import tiny_base
from tests.cloud_manager.engine_images import KEY, SPEC, Bench, as_zstd, bench, layer
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of
from tests.parallel import free_port
from tests.registry import serve

# bcrypt of `open sesame`, at its lowest cost
_HTPASSWD = "ali:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"


@pytest.fixture
async def stage(docker_engine: str, registry: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(docker_engine, tmp_path, registry) as made:
        yield made


# -- from the builder's own store --------------------------------------------------------------------------------------


async def test_a_built_image_runs_as_it_was_built(stage: Bench, registry: str, tmp_path: Path) -> None:
    """The pipeline's own image, with its chains of gzip members: each file is there."""
    links = tmp_path / "links"
    make_wheel(links)
    make_project(tmp_path / "shared", {"app.py": "print('hi')\n"})
    workshop = Workshop.open(tmp_path / "state", offline(links))
    base = tiny_base(registry, f"base/{stage.owner}")
    plan = plan_of(make_request("hello", base_image=base), tmp_path / "shared", workshop)
    image = await build(plan, workshop, Notes())
    for path in (workshop.layout.folder / "blobs" / "sha256").iterdir():
        stage.store.blobs[f"sha256:{path.name}"] = path.read_bytes()
    workshop.close()
    found = stage.inspect(await stage.ensure(image))
    config = json.loads(stage.store.blobs[stage.store.config(image)])
    assert found["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
    assert found["Id"] == stage.store.config(image) and found["Config"]["Entrypoint"] == config["config"]["Entrypoint"]
    assert _file_in(stage, found["Id"], "/workspace/app.py") == b"print('hi')\n"
    assert b"hello from a wheel" in _file_in(
        stage, found["Id"], "/opt/venv/lib/python3.11/site-packages/hello/__init__.py"
    )


def _file_in(stage: Bench, image: str, path: str) -> bytes:
    made = stage.docker.post("/containers/create", json={"Image": image}).raise_for_status().json()["Id"]
    try:
        tar = stage.docker.get(f"/containers/{made}/archive", params={"path": path}).raise_for_status().content
    finally:
        stage.docker.delete(f"/containers/{made}", params={"force": "1"}).raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        file = archive.extractfile(Path(path).name)
        assert file is not None
        return file.read()


async def test_what_the_engine_has_is_not_fetched_again(stage: Bench) -> None:
    """Also when the builder is away: a service is put back without it."""
    image = stage.store.put(layer("a"), layer("b"))
    first = await stage.ensure(image)
    stage.store.sent.clear()
    stage.store.down = True
    assert await stage.ensure(image) == first == stage.store.config(image)
    assert stage.store.sent == []


async def test_an_image_that_lost_our_name_is_only_named_again(stage: Bench) -> None:
    image = stage.store.put(layer("a"))
    first = await stage.ensure(image)
    stage.tag(first, f"{stage.owner}-kept", "1")
    stage.remove(stage.names()[0])
    stage.relay.requests.clear()
    assert await stage.ensure(image) == first and len(stage.names()) == 1
    assert not [line for line in stage.relay.requests if "images/load" in line]


async def test_a_change_of_the_code_loads_kilobytes(stage: Bench) -> None:
    """A large layer goes into the engine once, and never into the manager's memory."""
    base, large, code, changed = layer("base"), layer("weights", 24_000_000), layer("app.py"), layer("app.py")
    first, second = stage.store.put(base, large, code), stage.store.put(base, large, changed)
    tracemalloc.start()
    await stage.ensure(first)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stage.relay.bytes_in > 24_000_000 and peak < 5_000_000
    stage.relay.bytes_in = 0
    stage.store.sent.clear()
    await stage.ensure(second)
    assert stage.relay.bytes_in < 100_000  # most of it asks for the layers of other images in the engine
    assert len(stage.store.sent) == 3  # manifest, configuration, the layer of the program
    assert "1 of 3 layers" in stage.log[-2] and stage.log[-1].startswith("the Docker Engine has the image")


async def test_two_that_lack_the_same_layer_load_it_once(stage: Bench) -> None:
    """Two projects over one torch, started together."""
    large = layer("torch", 5_000_000)
    images = [stage.store.put(large, layer("app.py")) for _ in range(3)]
    await asyncio.gather(*(stage.ensure(image) for image in images))
    assert stage.relay.bytes_in < 6_000_000


async def test_a_load_that_is_cancelled_leaves_nothing(stage: Bench) -> None:
    """`/stop`, or a change of the file, in the middle of a large layer; then it can be loaded all the same."""
    first, second = layer("a", 1_000_000), layer("b")
    image = stage.store.put(first, second)
    reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hang(digest: str) -> None:
        if digest == list(stage.store.blobs)[1]:
            reached.set_result(None)
            await asyncio.Event().wait()

    stage.store.at = hang
    task = asyncio.create_task(stage.ensure(image))
    await reached
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stage.names() and not stage.has(stage.store.config(image))
    stage.store.at = None
    assert await stage.ensure(image) == stage.store.config(image)


async def test_an_image_that_the_builder_has_cleared_away_is_told_as_such(stage: Bench) -> None:
    """By its code the controller knows that it can be built again. Nothing half is in the engine."""
    image = stage.store.put(layer("a", 1_000_000), layer("b"))
    stage.store.gone.add(list(stage.store.blobs)[1])
    with pytest.raises(DeployError) as caught:
        await stage.ensure(image)
    assert caught.value.problem.code == "blob_unknown"
    assert not stage.names() and not stage.has(stage.store.config(image))


async def test_a_layer_that_goes_while_it_is_counted_on_is_sent(stage: Bench) -> None:
    """Somebody runs `docker system prune` between our look and our load."""
    base = layer("base")
    old, new = stage.store.put(base, layer("old")), stage.store.put(base, layer("new"))
    await stage.ensure(old)
    (name,) = stage.names()

    async def prune(line: str) -> None:
        if "images/load" in line and stage.has(name):
            await asyncio.to_thread(stage.remove, name)

    stage.relay.before = prune
    assert await stage.ensure(new) == stage.store.config(new)
    assert any("is loaded whole" in line for line in stage.log)


async def test_an_old_engine_gets_zstd_layers_unpacked(stage: Bench) -> None:
    """Docker before 23 knows no zstd; bases in it are there all the same."""
    base, program = layer("base", 300_000), layer("app.py")
    image = stage.store.put(base, program, zstd={base: as_zstd(base)})
    found = stage.inspect(await stage.ensure(image))
    assert found["Id"] == stage.store.config(image) and _file_in(stage, found["Id"], "/base")


async def test_an_engine_that_keeps_images_in_containerd_gets_every_layer(stage: Bench) -> None:
    """Such an engine refuses an archive without them."""

    class Newer(Engine):
        async def info(self) -> Mapping[str, Any]:
            return {"ServerVersion": "29.0", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}

    base = layer("base", 300_000)
    await stage.ensure(stage.store.put(base, layer("app.py")))
    engine = Newer(stage.engine.host)
    stage.images = EngineImages(engine, stage.store, DockerLogin(), stage.clock, stage.owner)
    await stage.ensure(stage.store.put(base, layer("app.py")))
    await engine.aclose()
    assert "2 of 2 layers" in stage.log[-2]


async def test_an_engine_that_stands_still_is_given_up(stage: Bench) -> None:
    """Otherwise a project would say `preparing` for ever; and one can see how far it came."""
    image = stage.store.put(layer("a"), layer("b"))

    async def late(digest: str) -> None:
        stage.clock.advance(10)

    async def hang(line: str) -> None:
        if "images/load" in line:
            await asyncio.Event().wait()

    stage.images.silence = 0.5
    stage.store.at, stage.relay.before = late, hang
    with pytest.raises(TargetError) as caught:
        await stage.ensure(image)
    assert caught.value.problem.code == "engine_silent" and caught.value.problem.retryable
    assert any("kB after 10 s" in line for line in stage.log)


async def test_an_engine_that_goes_away_is_waited_for(stage: Bench) -> None:
    """It is started anew in the middle of a load: tried again, it has all of the image or nothing."""
    image = stage.store.put(layer("a"))

    async def die(line: str) -> None:
        if "images/load" in line:
            raise ConnectionResetError

    stage.relay.before = die
    with pytest.raises(Unavailable) as caught:
        await stage.ensure(image)
    assert caught.value.problem.code == "engine_unavailable" and caught.value.problem.retryable
    stage.relay.before = None
    assert await stage.ensure(image) == stage.store.config(image)


async def test_two_managers_may_load_the_same(stage: Bench) -> None:
    """Each has its own wire to the engine, and knows nothing of the other."""
    image = stage.store.put(layer("a", 1_000_000), layer("b"))
    other = Engine(stage.engine.host)
    both = stage.images, EngineImages(other, stage.store, DockerLogin(), stage.clock, stage.owner)
    wanted = Wanted(KEY, SPEC, "a" * 16, image)
    found = await asyncio.gather(*(images.ensure(wanted, stage.log.append) for images in both))
    await other.aclose()
    assert set(found) == {stage.store.config(image)} and len(stage.names()) == 1


# -- published images --------------------------------------------------------------------------------------------------


async def publish(stage: Bench, repository: str, *layers: bytes) -> str:
    """Into a registry, by way of the engine, which then has nothing of it. `registry/repository@sha256:…`"""
    image = await stage.ensure(stage.store.put(*layers))
    stage.tag(image, repository, "1")
    stage.push(repository, "1")
    found = stage.inspect(image)
    for name in found["RepoTags"]:
        stage.remove(name)
    assert not stage.has(image)
    stage.store.sent.clear()
    return str(next(name for name in found["RepoDigests"] if name.startswith(repository)))


async def test_a_published_image_is_pulled_once(stage: Bench, registry: str) -> None:
    """By the engine itself; the builder is not asked for anything."""
    where = await publish(stage, f"{registry}/team/{stage.owner}", layer("a"), layer("b"))
    image = stage.store.put(layer("unused")).model_copy(update={"pushed": where})
    found = stage.inspect(await stage.ensure(image))
    assert where in found["RepoDigests"] and stage.store.sent == []
    stage.relay.requests.clear()
    assert await stage.ensure(image) == found["Id"]
    assert not [line for line in stage.relay.requests if "images/create" in line]


async def test_an_image_of_a_registry_out_of_reach_is_loaded_from_the_builder(stage: Bench) -> None:
    where = f"127.0.0.1:{free_port()}/team/x"
    image = stage.store.put(layer("a"), pushed=where)
    assert await stage.ensure(image) == stage.store.config(image)
    assert "connection refused" in stage.log[1] and "from the image builder instead" in stage.log[1]


async def test_an_image_that_is_nowhere_any_more_is_built_again(stage: Bench, registry: str) -> None:
    image = stage.store.put(layer("a"), pushed=f"{registry}/team/{stage.owner}")
    stage.store.gone.add(image.digest)
    with pytest.raises(TargetError) as caught:
        await stage.ensure(image)
    assert caught.value.problem.code == "blob_unknown" and "manifest unknown" in caught.value.problem.cause


# -- images of others --------------------------------------------------------------------------------------------------


async def test_a_tag_means_one_image_in_a_generation(stage: Bench, registry: str) -> None:
    """A service that is put back is the same; a new start takes the new image, and says which."""
    name = f"{registry}/team/{stage.owner}"
    old = await publish(stage, name, layer("old"))
    first = await stage.ensure(f"{name}:1")
    assert f"{name}:1 is {old}" in stage.log
    assert await stage.images.meaning(first, f"{name}:1") == old, "a rollback brings back this one, by its digest"
    await asyncio.to_thread(_replace, stage, name, await stage.ensure(stage.store.put(layer("new"))))
    assert await stage.ensure(f"{name}:1") == first
    second = await stage.ensure(f"{name}:1", generation=2)
    assert second != first and stage.inspect(second)["RepoDigests"][0] in stage.log[-1]
    assert len([name for name in stage.names() if "/pins/" in name]) == 1


def _replace(stage: Bench, name: str, image: str) -> None:
    """Somebody else pushes another image by this name: the engine itself has the old one still."""
    stage.tag(image, name, "2")
    stage.tag(stage.inspect(f"{name}:1")["Id"], name, "kept")
    stage.tag(image, name, "1")
    stage.push(name, "1")
    stage.tag(stage.inspect(f"{name}:kept")["Id"], name, "1")
    stage.remove(f"{name}:kept")
    stage.remove(f"{name}:2")


async def test_a_digest_is_pulled_once(stage: Bench, registry: str) -> None:
    where = await publish(stage, f"{registry}/team/{stage.owner}", layer("a"))
    first = await stage.ensure(where)
    stage.relay.requests.clear()
    assert await stage.ensure(where, generation=2) == first
    assert not [line for line in stage.relay.requests if "images/create" in line]


async def test_an_image_made_by_hand_is_used(stage: Bench) -> None:
    """`docker build -t mine .`: no registry is asked for it, where a stranger's might answer to the name."""
    image = await stage.ensure(stage.store.put(layer("a")))
    stage.tag(image, f"{stage.owner}-mine", "latest")
    stage.relay.requests.clear()
    assert await stage.ensure(f"{stage.owner}-mine") == image
    assert await stage.images.meaning(image, f"{stage.owner}-mine") is None, "it has no digest that anybody could pull"
    assert not [line for line in stage.relay.requests if "images/create" in line]


async def test_a_tag_whose_registry_is_away_means_what_is_here(stage: Bench, registry: str) -> None:
    name = f"{registry}/team/{stage.owner}"
    where = await publish(stage, name, layer("a"))
    image = await stage.ensure(where)
    lost = f"127.0.0.1:{free_port()}/{stage.owner}"
    stage.tag(image, lost, "1")
    assert await stage.ensure(f"{lost}:1") == image
    assert any("connection refused" in line and "has by this name" in line for line in stage.log)


async def test_a_pull_can_be_cancelled(stage: Bench, registry: str) -> None:
    reached = asyncio.Event()

    async def hang(line: str) -> None:
        if "images/create" in line:
            reached.set()
            await asyncio.Event().wait()

    stage.relay.before = hang
    task = asyncio.create_task(stage.ensure(f"{registry}/team/{stage.owner}:1"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_image_that_does_not_exist(stage: Bench, registry: str) -> None:
    with pytest.raises(TargetError) as caught:
        await stage.ensure(f"{registry}/team/{stage.owner}:9")
    problem = caught.value.problem
    assert problem.code == "image_not_found" and f"{stage.owner}:9" in problem.cause and not problem.retryable


# -- logins ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def closed(docker_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A stage whose engine has a registry that lets in ali alone; `home` is where the manager's login is."""
    (tmp_path / "users").write_text(_HTPASSWD)
    monkeypatch.setenv("REGISTRY_AUTH_HTPASSWD_REALM", "test")
    monkeypatch.setenv("REGISTRY_AUTH_HTPASSWD_PATH", str(tmp_path / "users"))
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    running = serve(needs.program("docker-registry"), tmp_path)
    address = next(running)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    async with bench(docker_engine, tmp_path, address) as made:
        made.registry = address
        yield made
    next(running, None)


async def _private(stage: Bench) -> str:
    """An image that is only there for who logs in."""
    image = await stage.ensure(stage.store.put(layer("a")))
    name = f"{stage.registry}/team/{stage.owner}"
    stage.tag(image, name, "1")
    login = base64.urlsafe_b64encode(json.dumps({"username": "ali", "password": "open sesame"}).encode()).decode()
    stage.push(name, "1", login)
    for gone in [*stage.names(), f"{name}:1"]:
        stage.remove(gone)
    return f"{name}:1"


async def test_without_a_login(closed: Bench) -> None:
    name = await _private(closed)
    with pytest.raises(TargetError) as caught:
        await closed.ensure(name)
    assert caught.value.problem.code == "registry_auth"
    assert f"docker login {closed.registry}" in caught.value.problem.fix


async def test_the_hosts_login_is_the_engines(closed: Bench, tmp_path: Path) -> None:
    name = await _private(closed)
    auths = {closed.registry: {"auth": base64.b64encode(b"ali:open sesame").decode()}}
    (tmp_path / "home" / "config.json").write_text(json.dumps({"auths": auths}))
    assert closed.has(await closed.ensure(name))
    assert "sesame" not in "".join(closed.log)


async def test_a_credential_helper_is_asked(closed: Bench, tmp_path: Path) -> None:
    name = await _private(closed)
    helper = tmp_path / "bin" / "docker-credential-cave"
    helper.write_text(
        f"""#!/bin/sh
read server
[ "$1 $server" = "get {closed.registry}" ] || exit 1
echo '{{"Username": "ali", "Secret": "open sesame"}}'
"""
    )
    helper.chmod(0o755)
    (tmp_path / "home" / "config.json").write_text(json.dumps({"credHelpers": {closed.registry: "cave"}}))
    assert closed.has(await closed.ensure(name))


# -- clearing away -----------------------------------------------------------------------------------------------------


async def test_what_nobody_uses_goes_and_nothing_else(stage: Bench, registry: str) -> None:
    """An operator's disk does not fill up; and nobody loses an image of his own."""
    unused, used, running, taken = [await stage.ensure(stage.store.put(layer("a"))) for _ in range(4)]
    where = await publish(stage, f"{registry}/team/{stage.owner}", layer("a"))
    image = stage.store.put(layer("unused")).model_copy(update={"pushed": where})
    pulled = await stage.ensure(image)
    container = stage.docker.post("/containers/create", json={"Image": running}).raise_for_status().json()["Id"]
    stage.tag(taken, f"{stage.owner}-of-somebody", "1")
    try:
        stage.clock.advance(time.time() - stage.clock.now())
        assert await stage.images.sweep([used]) == ()  # they may have been loaded a moment ago for who comes now
        stage.clock.advance(3700)
        assert len(await stage.images.sweep([used])) == 4
    finally:
        stage.docker.delete(f"/containers/{container}").raise_for_status()
    assert [stage.has(image) for image in (unused, used, running, taken, pulled)] == [False, True, True, True, False]
    assert stage.inspect(taken)["RepoTags"] == [f"{stage.owner}-of-somebody:1"]


async def test_a_project_that_goes_forgets_what_its_tag_meant(stage: Bench) -> None:
    image = await stage.ensure(stage.store.put(layer("a")))
    stage.tag(image, f"{stage.owner}-mine", "1")
    await stage.ensure(f"{stage.owner}-mine:1")
    assert [name for name in stage.names() if "/pins/" in name]
    await stage.images.forget(KEY)
    assert not [name for name in stage.names() if "/pins/" in name]
    assert stage.has(f"{stage.owner}-mine:1")
