"""What `deploy.type: docker` promises beyond every target's promises, on a real Engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_manager.deployment import Key
from cloud_manager.errors import DeployError
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_snapshot import Snapshots
from cloud_manager.targets.docker_spec import Names
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.harness import observed, until, wanted
from tests.parallel import free_port

KEY, OTHER = Key("7", "42"), Key("7", "43")
CANARY = "canary-5f0c2a"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
async def harness(docker_engine: str, docker_base: str, tmp_path: Path) -> AsyncIterator[DockerHarness]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text(f"{CANARY} 'with' \"quotes\"\n")
    made = DockerHarness(docker_engine, docker_base, tmp_path, secrets_dir=secrets)
    yield made
    await made.aclose()


async def test_a_secret_is_seen_by_the_program_alone(harness: DockerHarness, caplog: pytest.LogCaptureFixture) -> None:
    """Not by who may look at containers and images, nor by who reads logs and events."""
    caplog.set_level(logging.DEBUG)
    target, one = harness.target(), wanted(harness, KEY, "one", secrets={"API_KEY": "key"})
    await target.apply(one)
    ready = await observed(target, KEY, "ready", one.revision)
    assert await harness.ask(f"{ready.url}/secret") == f"{CANARY} 'with' \"quotes\""
    boxes = [*harness.programs(KEY), *harness.fronts(KEY)]
    images = [harness.inspect(box)["Image"] for box in boxes]
    shown = [harness.docker("inspect", *boxes, *images), harness.docker("logs", *harness.programs(KEY))]
    lines = [line async for line in target.logs(KEY, tail=100, follow=False)]
    assert CANARY not in "\n".join([*shown, *lines, str(ready), caplog.text])
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_what_is_done_by_hand_is_noticed_and_mended(harness: DockerHarness) -> None:
    """Else `running` would be said of what is not there: noticed by the very next look, mended by one apply."""
    target, one = harness.target(), wanted(harness, KEY, "one")

    async def up() -> str:
        await target.apply(one)
        return str((await observed(target, KEY, "ready", one.revision)).url)

    url = await up()
    for deed, boxes, code in (
        (("stop", "-t", "0"), harness.programs, "stopped"),
        (("rm", "-f"), harness.programs, "removed"),
        (("stop", "-t", "0"), harness.fronts, "front_gone"),
        (("rm", "-f"), harness.fronts, "front_gone"),
    ):
        harness.docker(*deed, boxes(KEY)[0])
        await asyncio.sleep(0.4)  # one short period, for which a look is good enough
        seen = await target.observe(KEY)
        assert (seen.state, seen.revision, seen.problem and seen.problem.code) == ("pending", None, code)
        assert (len(seen.drift), seen.url) == (1, None), "with on_drift: report it is told, and not called running"
        assert await up() == url, "its address is the same"
        assert await harness.ask(url) == "one"
    harness.replace(harness.programs(KEY)[0])
    await asyncio.sleep(0.4)
    seen = await target.observe(KEY)
    assert (seen.state, seen.revision, seen.problem and seen.problem.code) == ("pending", None, "removed")
    assert await up() == url
    assert await harness.ask(url) == "one", "not what somebody has put in its place"


async def test_an_update_goes_on_without_its_manager(harness: DockerHarness) -> None:
    """A manager that dies in the middle: clients reach the new revision, and its successor tidies."""
    first, one, two = harness.target(), wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await first.apply(one)
    url = str((await observed(first, KEY, "ready", one.revision)).url)
    await first.apply(two)
    await first.aclose()

    async def turned() -> bool:
        return await harness.ask(url) == "two"

    await until(turned, "the front turns by itself")
    second = harness.target()
    seen = await second.observe(KEY)
    assert (seen.state, seen.revision, seen.url) == ("pending", None, url)
    await second.apply(two)
    assert (await observed(second, KEY, "ready", two.revision)).url == url

    async def alone() -> bool:
        return len(harness.programs(KEY)) == 1

    await until(alone, "the older revision has gone")


async def test_a_port_in_use_names_who_has_it(harness: DockerHarness) -> None:
    target, network = harness.target(), {"service_host_port": free_port(), "service_container_port": 8080}
    await target.apply(wanted(harness, KEY, "one", network=network))
    with pytest.raises(DeployError, match=f"port {network['service_host_port']} on 127.0.0.1 is in use by") as refused:
        await target.apply(wanted(harness, OTHER, "one", network=network))
    assert refused.value.problem.code == "port_in_use"
    assert Names(harness.owner, KEY).base in refused.value.problem.cause
    assert harness.programs(OTHER) == [], "nothing runs that nobody reaches"


@pytest.mark.long
async def test_a_new_port_is_served_before_the_old_one_goes(harness: DockerHarness) -> None:
    target, first, second = harness.target(), free_port(), free_port()
    network: dict[str, Any] = {"service_host_port": first, "service_container_port": 8080}
    one, bad = wanted(harness, KEY, "one", network=network), wanted(harness, KEY, "bad", "exit")
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    await target.apply(bad)
    failed = await observed(target, KEY, "failed", bad.revision)
    assert failed.url == f"http://127.0.0.1:{first}"
    assert await harness.ask(str(failed.url)) == "one"
    moved = wanted(harness, KEY, "one", network=network | {"service_host_port": second})
    await target.apply(moved)
    ready = await observed(target, KEY, "ready", moved.revision)
    assert ready.url == f"http://127.0.0.1:{second}"
    assert await harness.ask(str(ready.url)) == "one"

    async def closed() -> bool:
        return await harness.ask(str(failed.url)) is None

    await until(closed, "the old port is closed")


async def test_an_image_without_python_is_served(harness: DockerHarness) -> None:
    """As `docker run -p` would; its port is held by a front of another image, so that an update has no gap either."""
    target, image = harness.target(), harness.without_python("bare")
    bare = replace(wanted(harness, KEY, "one"), image_uri=image)
    await target.apply(bare)
    ready = await observed(target, KEY, "ready", bare.revision)
    assert await harness.ask(str(ready.url)) == "bare"
    (program,), (front,) = harness.programs(KEY), harness.fronts(KEY)
    assert harness.inspect(program)["Image"] != harness.inspect(front)["Image"]
    await target.remove(KEY)
    with pytest.raises(
        DeployError, match="has no python3, which holds the service's public port, and there is no"
    ) as no:
        await harness.target(python="127.0.0.1:1/none:1").apply(bare)
    assert (no.value.problem.code, "FRONT_IMAGE" in no.value.problem.fix) == ("no_front_image", True)
    assert harness.programs(KEY) == [], "nothing runs that nobody reaches"


async def test_a_gpu_is_refused_where_there_is_none(harness: DockerHarness) -> None:
    """And nothing is left running for it."""
    target = harness.target()
    with pytest.raises(DeployError, match="no GPU runtime") as refused:
        await target.apply(wanted(harness, KEY, "one", resources={"gpu": 1}))
    assert not refused.value.problem.retryable
    assert harness.programs(KEY) == []
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_a_name_that_is_someone_elses_is_an_error(harness: DockerHarness) -> None:
    target, one = harness.target(), wanted(harness, KEY, "one")
    name = Names(harness.owner, KEY).program(one.revision)
    theirs = harness.docker("create", "--network", "none", "--name", name, harness.base, "true")
    with pytest.raises(DeployError, match="taken by something that is not ours") as refused:
        await target.apply(one)
    assert name in refused.value.problem.cause
    await target.remove(KEY)
    assert harness.inspect(theirs)["State"]["Status"] == "created"


@pytest.mark.long
async def test_a_program_that_never_listens_is_told_and_ended(harness: DockerHarness) -> None:
    target = harness.target()
    mute = wanted(harness, KEY, "mute", health={"startup_seconds": 2})
    await target.apply(mute)
    failed = await observed(target, KEY, "failed", mute.revision)
    assert failed.problem is not None
    assert failed.problem.code == "never_listens"
    assert "its last lines: mute says nothing" in failed.problem.cause

    async def ended() -> bool:
        return not harness.inspect(harness.programs(KEY)[0])["State"]["Running"]

    await until(ended, "it runs no more")


@pytest.mark.long
async def test_a_program_that_eats_its_memory_is_told_so(harness: DockerHarness) -> None:
    target = harness.target()
    eater = wanted(harness, KEY, "eat", resources={"memory": 32})
    await target.apply(eater)
    failed = await observed(target, KEY, "failed", eater.revision)
    assert failed.problem is not None
    assert (failed.problem.code, "32 MiB" in failed.problem.cause) == ("out_of_memory", True)


async def test_containers_are_confined(harness: DockerHarness) -> None:
    """Two projects do not reach each other; a front runs as nobody."""
    target, one, other = harness.target(), wanted(harness, KEY, "one"), wanted(harness, OTHER, "one")
    await asyncio.gather(target.apply(one), target.apply(other))
    await observed(target, KEY, "ready", one.revision)
    (program,), (front,), (neighbour,) = harness.programs(KEY), harness.fronts(KEY), harness.programs(OTHER)
    theirs = next(iter(harness.inspect(neighbour)["NetworkSettings"]["Networks"].values()))["IPAddress"]
    code = f"import socket; socket.create_connection(('{theirs}', 8080), 2)"
    reached = f"try:\n {code}\n print('reached')\nexcept OSError: print('not reached')"
    assert harness.docker("exec", program, "python3", "-c", reached) == "not reached"
    assert harness.docker("exec", front, "id", "-u") == "65534"
    host = harness.inspect(program)["HostConfig"]
    assert (host["Privileged"], host["Binds"], host["PidMode"]) == (False, None, "")


async def test_one_look_serves_all_who_ask(docker_engine: str) -> None:
    """Else a thousand projects would be a thousand calls each period."""
    asked: list[str] = []

    class Counting(Engine):
        def asked(self, doing: str) -> Any:
            asked.append(doing)
            return super().asked(doing)

    engine = Counting(docker_engine)
    snapshots = Snapshots(engine, "nobody")
    await asyncio.gather(*(snapshots.world(Key("7", str(number))) for number in range(200)))
    assert asked == ["list containers"]
    await snapshots.aclose()
    await engine.aclose()


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
async def test_an_engine_that_is_away_is_waited_for(harness: DockerHarness, host: str) -> None:
    """Its restart must fail no deployment."""
    target = harness.target(host)
    with pytest.raises(DeployError, match="does not answer") as away:
        await target.observe(KEY)
    assert (away.value.problem.code, away.value.problem.retryable) == ("engine_unavailable", True)
    assert host in away.value.problem.cause
