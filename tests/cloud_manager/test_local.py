"""The `local` target with real programs: what a person gets told, and that nothing survives that should not."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud_manager.deployment import Key, revision_of
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError
from cloud_manager.targets.local_folder import Folder
from cloud_manager.targets.local_health import free_port
from cloud_manager.targets.target import Observation, Wanted
from tests import needs
from tests.conformance.harness import observed, until, wanted
from tests.conformance.local_harness import SERVE, LocalHarness, processes_of

KEY = Key("7", "42")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[LocalHarness]:
    made = LocalHarness(tmp_path, secrets_dir=tmp_path)
    yield made
    await made.aclose()


def program(harness: LocalHarness, source: str, key: Key = KEY, **deploy: Any) -> Wanted:
    """A revision that runs `source`."""
    deploy = {"type": "local", "health": {"startup_seconds": 60}, **deploy}
    spec = DeploymentSpec.model_validate({"deploy": deploy})
    image = harness.shelf.image({"server.py": source})
    return Wanted(key, spec, revision_of(spec, image.digest), image=image)


def folder(harness: LocalHarness, key: Key = KEY) -> Folder:
    return Folder(harness.settings.state_dir.resolve() / "local" / key.user_id / key.project_id)


async def failed(harness: LocalHarness, it: Wanted) -> tuple[str, str, str]:
    """code, cause, fix of the failure."""
    target = harness.target()
    await target.apply(it)
    seen = await observed(target, it.key, "failed", it.revision)
    assert seen.problem is not None
    await target.remove(it.key)
    return seen.problem.code, seen.problem.cause, seen.problem.fix


async def test_a_program_that_never_listens_is_told_so(harness: LocalHarness) -> None:
    silent = program(
        harness, "import time\nprint('thinking', flush=True)\ntime.sleep(600)", health={"startup_seconds": 2}
    )
    code, cause, _ = await failed(harness, silent)
    assert code == "never_listens"
    assert "does not listen on PORT=" in cause
    assert cause.endswith("thinking")


async def test_a_program_that_answers_only_errors_is_told_so(harness: LocalHarness) -> None:
    broken = program(harness, SERVE.format(word="x").replace("200", "500"), health={"startup_seconds": 2})
    code, cause, _ = await failed(harness, broken)
    assert code == "never_listens"
    assert "does not answer GET /" in cause


async def test_a_program_on_another_port_is_told_which(harness: LocalHarness) -> None:
    """The commonest slip of programs that were written for one machine: told long before the start-up deadline."""
    port = free_port(set())
    stray = program(harness, SERVE.format(word="x").replace('int(os.environ["PORT"])', str(port)))
    code, cause, fix = await failed(harness, stray)
    assert code == "wrong_port"
    assert f"listens on {port}, not on PORT=" in cause
    assert "PORT" in fix


async def test_a_program_that_ends_at_once_shows_its_last_lines(harness: LocalHarness) -> None:
    ends = "for n in range(9): print('line', n)\nraise SystemExit(4)"
    code, cause, _ = await failed(harness, program(harness, ends))
    assert code == "exited"
    assert cause.endswith("exited with code 4; its last lines: line 4 | line 5 | line 6 | line 7 | line 8")


async def test_an_entrypoint_that_is_missing_is_named(harness: LocalHarness) -> None:
    target = harness.target()
    for argv, name in ((["python", "other.py"], "other.py"), (["gunicorn", "x:y"], "gunicorn")):
        image = harness.shelf.image({"server.py": "pass"}, entrypoint=argv)
        spec = DeploymentSpec.model_validate({"deploy": {"type": "local"}})
        with pytest.raises(DeployError, match=f"there is no {name} in /workspace") as caught:
            await target.apply(Wanted(KEY, spec, revision_of(spec, image.digest), image=image))
        assert caught.value.problem.code == "entrypoint_missing"
        assert not caught.value.problem.retryable
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_a_port_in_use_is_named_with_its_owner(harness: LocalHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        blocked = program(harness, SERVE.format(word="x"), network={"service_host_port": port})
        code, cause, _ = await failed(harness, blocked)
    assert code == "port_in_use"
    assert f"port {port} on 127.0.0.1 is in use by" in cause
    assert f"(process {os.getpid()})" in cause


async def test_a_wished_port_is_the_services_and_moves_with_the_file(harness: LocalHarness) -> None:
    target, first, second = harness.target(), free_port(set()), free_port(set())
    for port, word in ((first, "one"), (second, "two")):
        it = program(harness, SERVE.format(word=word), network={"service_host_port": port})
        await target.apply(it)
        ready = await observed(target, KEY, "ready", it.revision)
        assert ready.url == f"http://127.0.0.1:{port}"
        assert await harness.ask(ready.url) == word
    await until(lambda: _refused(first), "the old port is free")
    await target.remove(KEY)


async def _refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_packages_and_secrets_reach_the_program(harness: LocalHarness, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    source = SERVE.format(word="x").replace(
        "WORD = 'x'", "import shelf_package\nWORD = shelf_package.NAME + os.environ['T']"
    )
    it = program(harness, source, secrets={"T": "token"})
    target = harness.target()
    await target.apply(it)
    assert await harness.ask(str((await observed(target, KEY, "ready")).url)) == "a packages3cret"
    await target.remove(KEY)
    with pytest.raises(DeployError, match=r"deploy\.secrets\.T: cannot read .*nowhere"):
        await target.apply(program(harness, source, secrets={"T": "nowhere"}))


async def test_a_service_that_crashes_again_and_again_is_given_up(harness: LocalHarness) -> None:
    """Else it would flap for ever without a word."""
    dying = SERVE.format(word="x").replace(
        "ThreadingHTTPServer((",
        "import threading\nthreading.Timer(0.7, os._exit, [9]).start()\nThreadingHTTPServer((",
        1,
    )
    code, cause, _ = await failed(harness, program(harness, dying))
    assert code == "exited"
    assert "given up after 4 crashes in a row" in cause
    assert "exited with code 9" in cause


ESCAPING = """
import subprocess, sys
child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
subprocess.run([sys.executable, "-c", middle, child], env={env})
"""


@pytest.mark.parametrize("env", ["None", "{}"])
async def test_children_that_hide_die_with_their_service(harness: LocalHarness, env: str) -> None:
    """A daemon with a session of its own, that ignores SIGTERM, with and without the mark in its environment."""
    if env == "{}":
        needs.linux("finding a child that left its session and its environment")
    target, it = harness.target(), program(harness, ESCAPING.format(env=env) + SERVE.format(word="x"))
    harness.timing = harness.timing.__class__(grace=1.0, drain=1.0, backoff=0.1)
    target = harness.target()
    await target.apply(it)
    await observed(target, KEY, "ready", it.revision)
    home = folder(harness).path
    assert len(await asyncio.to_thread(processes_of, home)) >= 3, "supervisor, program, daemon"
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_a_program_deaf_to_sigterm_is_killed_after_its_grace(harness: LocalHarness) -> None:
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE.format(word="x")
    harness.timing = harness.timing.__class__(grace=0.5)
    target, it = harness.target(), program(harness, deaf)
    await target.apply(it)
    await observed(target, KEY, "ready", it.revision)
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


def supervisor_of(harness: LocalHarness) -> psutil.Process:
    report = folder(harness).report()
    assert report is not None
    return psutil.Process(report.pid)


async def test_a_killed_supervisor_is_noticed_and_replaced(harness: LocalHarness) -> None:
    """kill -9 of any process of ours must not leave two services, nor none: same address, one program."""
    target, it = harness.target(), program(harness, ESCAPING.format(env="None") + SERVE.format(word="one"))
    await target.apply(it)
    url = (await observed(target, KEY, "ready", it.revision)).url
    supervisor_of(harness).kill()

    async def noticed() -> Observation | None:
        seen = await target.observe(KEY)
        return seen if seen.state != "ready" else None

    seen = await until(noticed, "the death is noticed")
    assert (seen.state, seen.revision, seen.problem.code) == ("pending", None, "interrupted")
    await target.apply(it)
    assert (await observed(target, KEY, "ready", it.revision)).url == url
    programs = [one for one in await asyncio.to_thread(processes_of, folder(harness).path) if "-c" in one.cmdline()]
    assert len(programs) == 1, "the daemon of the killed supervisor's program is gone"
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_a_killed_supervisor_leaves_no_program_behind_for_remove(harness: LocalHarness) -> None:
    target, it = harness.target(), program(harness, ESCAPING.format(env="None") + SERVE.format(word="one"))
    await target.apply(it)
    await observed(target, KEY, "ready", it.revision)
    supervisor_of(harness).kill()
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


async def test_the_old_revision_serves_on_when_its_supervisor_was_killed_in_an_update(harness: LocalHarness) -> None:
    target = harness.target()
    one = program(harness, SERVE.format(word="one"))
    bad = program(harness, "raise SystemExit(1)")
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    await target.apply(bad)
    url = str((await observed(target, KEY, "failed", bad.revision)).url)
    supervisor_of(harness).kill()
    await until(lambda: _refused(int(url.rpartition(":")[2])), "the supervisor is dead")
    await target.apply(bad)

    async def serves() -> bool:
        return await harness.ask(url) == "one"

    await until(serves, "the old revision is back")
    assert (await observed(target, KEY, "failed", bad.revision)).url == url
    await target.remove(KEY)


async def test_a_hanging_service_is_started_again(harness: LocalHarness) -> None:
    """A program that lives but no longer answers is as good as dead."""
    quick = {"period_seconds": 1, "timeout_seconds": 1, "failure_threshold": 1, "startup_seconds": 60}
    target, it = harness.target(), program(harness, SERVE.format(word="one"), health=quick)
    await target.apply(it)
    await observed(target, KEY, "ready", it.revision)
    before = await harness.instance(KEY)
    os.kill(int(before or 0), signal.SIGSTOP)

    async def replaced() -> bool:
        return await harness.instance(KEY) not in (None, before)

    await until(replaced, "a new process answers")
    assert not psutil.pid_exists(int(before or 0))
    await target.remove(KEY)


async def test_a_long_answer_is_not_cut_by_an_update(harness: LocalHarness) -> None:
    slow = SERVE.format(word="x").replace(
        "self.wfile.write(body)", "import time; time.sleep(1.0); self.wfile.write(body)"
    )
    target, two = harness.target(), program(harness, SERVE.format(word="two"))
    one = program(harness, slow, health={"startup_seconds": 60, "timeout_seconds": 5})
    harness.timing = harness.timing.__class__(drain=10.0)
    target = harness.target()
    await target.apply(one)
    url = str((await observed(target, KEY, "ready", one.revision)).url)
    asking = asyncio.create_task(harness.ask(url))
    await asyncio.sleep(0.1)
    await target.apply(two)
    assert await asking == "x"
    await observed(target, KEY, "ready", two.revision)
    await target.remove(KEY)


MANAGER = """
import asyncio, os, sys
from pathlib import Path
from tests.conformance.harness import wanted
from tests.conformance.local_harness import LocalHarness
from cloud_manager.deployment import Key

async def main():
    harness = LocalHarness(Path(sys.argv[1]))
    applying = asyncio.create_task(harness.target().apply(wanted(harness, Key("7", "42"), "one")))
    await asyncio.sleep(float(sys.argv[2]))
    os.kill(0, 9)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 1.5])
async def test_kill_9_of_the_manager_and_its_group_leaves_one_service(harness: LocalHarness, delay: float) -> None:
    """At any instant: the next manager finds what there is, and one service comes up."""
    home = str(harness.settings.state_dir)
    manager = subprocess.Popen([sys.executable, "-c", MANAGER, home, str(delay)], start_new_session=True)
    await asyncio.to_thread(manager.wait)
    assert manager.returncode == -signal.SIGKILL
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.observe(KEY)
    await target.apply(one)
    ready = await observed(target, KEY, "ready", one.revision)
    assert await harness.ask(str(ready.url)) == "one"
    servers = [
        one for one in await asyncio.to_thread(processes_of, folder(harness).path) if "server.py" in one.cmdline()
    ]
    assert len(servers) == 1
    await target.remove(KEY)
    assert await harness.leftovers(KEY) == []


WAITING = """
import os, time
if not os.path.exists("go"):
    with open("wait", "w") as file:
        file.write(os.environ["PORT"])
    os.rename("wait", "port")
    while not os.path.exists("go"):
        time.sleep(0.05)
"""


async def test_a_port_taken_in_the_last_moment_is_replaced_by_another(harness: LocalHarness) -> None:
    """Two projects that start at once may both be given 8080: the slower one gets another port, not an error."""
    target, it = harness.target(), program(harness, WAITING + SERVE.format(word="one"))
    await target.apply(it)
    home = folder(harness).root(it.revision) / "workspace"

    async def told() -> bool:
        return (home / "port").exists()

    await until(told, "the program has its port")
    with socket.create_server(("127.0.0.1", int((home / "port").read_text()))):
        (home / "go").touch()
        ready = await observed(target, KEY, "ready", it.revision)
        assert await harness.ask(str(ready.url)) == "one"
    await target.remove(KEY)
