"""What the state of a project's containers is said to be: what a person reads, and what the controller acts on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_manager.deployment import Key
from cloud_manager.targets.docker_observation import FrontState, Trouble, observation
from cloud_manager.targets.docker_spec import LABEL, Names
from cloud_manager.targets.docker_world import Box, World, worlds_of

FRONT = Box("f", "front", "running", 1, address="127.0.0.1:80", url="http://127.0.0.1:80")
ONE = Box("p1", "one", "running", 1, revision="r1")
TWO = Box("p2", "two", "running", 2, revision="r2")
SERVES = FrontState(FRONT, "a1", 1.0, "r1", "p1", True, "ready", "", "healthy", ("r-r1", 80), 80, 240.0)
WORLD = World((ONE,), (FRONT,), ("net",), ())
ENDED = replace(ONE, state="exited")


def seen(world: World, *fronts: FrontState, pushed: str | None = None, trouble: Trouble | None = None) -> tuple:
    said = observation(world, fronts, pushed=pushed, trouble=trouble)
    return said.state, said.revision, said.url, said.problem.code if said.problem else None


def test_what_runs_alone_is_ready() -> None:
    assert seen(WORLD, SERVES) == ("ready", "r1", FRONT.url, None)
    assert seen(World()) == ("absent", None, None, None)


def test_anything_left_is_not_absent() -> None:
    """Else a network or a volume would be forgotten on the Engine."""
    assert seen(World(networks=("net",)))[0] == "pending"
    assert seen(World(volumes=("vol",)))[0] == "pending"


@pytest.mark.parametrize(
    ("world", "front", "code"),
    [
        (replace(WORLD, programs=()), SERVES, "removed"),
        (replace(WORLD, programs=(replace(ONE, id="other"),)), SERVES, "removed"),
        (replace(WORLD, programs=(ENDED,)), SERVES, "stopped"),
        (replace(WORLD, programs=(replace(ONE, state="paused"),)), SERVES, "stopped"),
        (replace(WORLD, programs=(ONE, replace(TWO, state="running"))), SERVES, "interrupted"),
        (WORLD, replace(SERVES, settled=False), "interrupted"),
        (WORLD, replace(SERVES, health="unhealthy"), "unhealthy"),
    ],
)
def test_what_somebody_did_by_hand_is_told_and_taken_up(world: World, front: FrontState, code: str) -> None:
    """Without a revision the controller applies anew; with one it would wait for ever."""
    state, revision, url, problem = seen(world, front, trouble=Trouble())
    assert (state, revision, problem) == ("pending", None, code)
    drift = observation(world, [front], pushed=None, trouble=Trouble()).drift
    assert bool(drift) == (code in ("removed", "stopped")), "what died or was broken off is nobody's change"
    assert not drift or url is None, "nothing answers there"


def test_a_front_that_is_gone_is_told() -> None:
    assert seen(replace(WORLD, fronts=()))[1:] == (None, None, "front_gone")
    assert observation(replace(WORLD, fronts=()), [], pushed=None).drift


def test_containers_that_are_all_gone_are_somebodys_change() -> None:
    """Their network alone is left by `docker rm`; a deployment that is on its way has not made them yet."""
    left = World(networks=("net",))
    assert observation(left, [], pushed=None).drift == ("its containers were removed",)
    assert observation(left, [], pushed="r1").drift == ()


def test_while_a_revision_comes_up_the_old_ones_address_is_told() -> None:
    world = replace(WORLD, programs=(ONE, TWO))
    starting = replace(SERVES, revision="r2", container="p2", settled=False, verdict="starting")
    assert seen(world, starting, pushed="r2") == ("pending", "r2", FRONT.url, None)
    assert seen(world, starting) == ("pending", None, FRONT.url, "interrupted"), "its manager is gone"
    turned = replace(starting, verdict="ready", settled=True, active=("r-r2", 80))
    assert seen(world, turned, pushed="r2") == ("ready", "r2", FRONT.url, None)


def test_a_revision_that_fails_says_why_and_the_old_one_serves() -> None:
    world = replace(WORLD, programs=(ONE, replace(TWO, state="exited")))
    failing = replace(SERVES, revision="r2", container="p2", settled=False, verdict="starting")
    said = observation(world, [failing], pushed="r2", trouble=Trouble(exit_code=3, lines=["Traceback", "no model"]))
    assert (said.state, said.revision, said.url) == ("failed", "r2", FRONT.url)
    assert said.problem is not None
    assert "exited with code 3; its last lines: Traceback | no model" in said.problem.cause
    late = replace(failing, verdict="failed", reason="does not listen")
    silent = observation(world, [late], pushed=None, trouble=Trouble()).problem
    assert silent is not None
    assert "does not listen on PORT=80 within 240 s" in silent.cause


def test_a_program_killed_for_want_of_memory_names_the_line_to_raise() -> None:
    trouble = Trouble(exit_code=137, out_of_memory=True, memory=64)
    said = observation(
        replace(WORLD, programs=(replace(ONE, state="restarting"),)), [SERVES], pushed=None, trouble=trouble
    )
    assert said.problem is not None
    assert said.problem.code == "out_of_memory"
    assert "deploy.resources.memory, 64 MiB" in said.problem.cause


def test_a_signal_is_named() -> None:
    said = observation(
        replace(WORLD, programs=(replace(ONE, state="restarting"),)), [SERVES], pushed=None, trouble=Trouble(139)
    )
    assert said.problem is not None
    assert "SIGSEGV" in said.problem.cause


def test_a_new_address_is_told_once_it_serves() -> None:
    """Until then clients are served at the old one."""
    other = replace(FRONT, id="g", url="http://127.0.0.1:81", address="127.0.0.1:81")
    world = replace(WORLD, programs=(ONE, TWO), fronts=(FRONT, other))
    newer = replace(
        SERVES, box=other, at=2.0, revision="r2", container="p2", settled=False, verdict="starting", active=None
    )
    assert seen(world, SERVES, newer, pushed="r2")[2] == FRONT.url
    turned = replace(newer, verdict="ready", settled=True, active=("r-r2", 80))
    assert seen(world, SERVES, turned, pushed="r2")[:3] == ("ready", "r2", other.url)


def test_the_engines_rows_are_sorted_by_project() -> None:
    labels = {f"{LABEL}.{name}": value for name, value in {"user": "7", "project": "42", "role": "front"}.items()}
    port = {"IP": "0.0.0.0", "PrivatePort": 8080, "PublicPort": 8088}
    row = {
        "Id": "1",
        "Names": [f"/{Names('cd', Key('7', '42')).base}-x"],
        "State": "running",
        "Created": 1,
        "Labels": labels,
        "Ports": [port],
    }
    theirs = row | {"Id": "2", "Names": ["/romantic_noether"]}
    worlds = worlds_of([row, theirs], [{"Name": "n", "Labels": labels}], [], "engine.example", "cd")
    (front,) = worlds[Key("7", "42")].fronts
    assert front.url == "http://engine.example:8088"
    assert worlds[Key("7", "42")].networks == ("n",)
