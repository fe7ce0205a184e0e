"""The decisions, in tables: what is known and seen -> the next step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloud_manager import decide, delays
from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.targets.target import Observation, State
from image_builder.contract import BuildRequest, BuildState, BuildStatus, ImageReference, Problem

SPEC = DeploymentSpec.model_validate({"deploy": {"type": "fake"}})
REQUEST = BuildRequest(owner="7/42", source="common/7/42/nn_model", entrypoint=("python", "main.py"))
OTHER = REQUEST.model_copy(update={"port": 9000})
IMAGE = ImageReference(repository="builds/a", digest="sha256:" + "0" * 64, size=1)
FINAL = Problem(code="resolve_failed", cause="no such package", fix="Mend it")
PASSING = FINAL.model_copy(update={"retryable": True})
HERE, OLD = "1" * 16, "2" * 16


def row(phase: Phase = Phase.STARTED, *, want: Want = Want.PRESENT, generation: int = 1, **facts: Any) -> Deployment:
    known = Facts(**{"generation": generation} | facts)
    return Deployment(Key("7", "42"), want, generation, SPEC, "", {}, phase, known, 1, 0.0, 0, 0.0, 0.0)


def build(state: BuildState, **rest: Any) -> BuildStatus:
    return BuildStatus(id="b", state=state, request=REQUEST, created=0.0, **rest)


@pytest.mark.parametrize(
    ("facts", "request_", "step"),
    [
        ({}, REQUEST, decide.Ask(REQUEST)),
        ({}, None, decide.UsePrebuilt()),
        ({"asking": REQUEST}, REQUEST, decide.Ask(REQUEST)),
        ({"asking": OTHER}, REQUEST, decide.Recall(OTHER)),
        ({"asking": OTHER}, None, decide.UsePrebuilt()),
        ({"stage": "asked", "build_id": "b"}, REQUEST, decide.Poll("b")),
        ({"stage": "asked"}, REQUEST, decide.Ask(REQUEST)),
        ({"stage": "built", "image": IMAGE}, REQUEST, None),
        ({"stage": "applied", "image": IMAGE}, REQUEST, None),
    ],
)
def test_the_way_to_the_image(facts: dict[str, Any], request_: BuildRequest | None, step: object) -> None:
    assert decide.next_for_image(Facts(**facts), request_) == step


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (None, decide.AskAgain),
        (build(BuildState.QUEUED), decide.Building),
        (build(BuildState.RUNNING), decide.Building),
        (build(BuildState.SUCCEEDED, image=IMAGE), decide.Built),
        (build(BuildState.SUCCEEDED), decide.Fail),
        (build(BuildState.FAILED, problem=FINAL), decide.Fail),
        (build(BuildState.FAILED, problem=PASSING), decide.AskAgain),
        (build(BuildState.FAILED), decide.Fail),
        (build(BuildState.CANCELLED), decide.AskAgain),
    ],
)
def test_what_a_look_at_the_build_means(status: BuildStatus | None, kind: type) -> None:
    assert isinstance(decide.after_build("b", status), kind)


@pytest.mark.parametrize(
    ("phase", "stage", "state", "revision", "step"),
    [
        (Phase.STARTED, "built", "absent", None, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "ready", OLD, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "pending", OLD, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "failed", OLD, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "ready", None, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "ready", HERE, decide.Settle()),
        (Phase.STARTED, "built", "pending", HERE, decide.Wait()),
        (Phase.STARTED, "built", "failed", HERE, decide.Apply(healing=False)),
        (Phase.STARTED, "built", "removing", None, decide.ClearFirst()),
        (Phase.STARTED, "built", "removing", HERE, decide.ClearFirst()),
        (Phase.PREPARING, "applied", "failed", HERE, decide.Fail(FINAL)),
        (Phase.PREPARING, "applied", "absent", None, decide.Apply(healing=False)),
        (Phase.RUNNING, "applied", "absent", None, decide.Apply(healing=True)),
        (Phase.RUNNING, "applied", "ready", OLD, decide.Apply(healing=True)),
        (Phase.RUNNING, "applied", "ready", HERE, decide.Settle()),
        (Phase.RUNNING, "applied", "pending", HERE, decide.Wait()),
        (Phase.RUNNING, "applied", "failed", HERE, decide.Fail(FINAL)),
        (Phase.FAILED, "applied", "ready", HERE, decide.Settle()),
        (Phase.FAILED, "applied", "absent", None, decide.Rest()),
        (Phase.FAILED, "applied", "failed", HERE, decide.Rest()),
        (Phase.FAILED, "applied", "pending", HERE, decide.Rest()),
        (Phase.FAILED, "applied", "removing", None, decide.Rest()),
    ],
)
def test_what_is_done_about_what_is_seen(
    phase: Phase, stage: str, state: State, revision: str | None, step: object
) -> None:
    seen = Observation(state, revision, problem=FINAL if state == "failed" else None)
    assert decide.after_look(row(phase, stage=stage, settled_generation=1), HERE, seen) == step


def test_a_target_without_a_reason_still_gives_the_user_one() -> None:
    step = decide.after_look(row(Phase.PREPARING, stage="applied"), HERE, Observation("failed", HERE))
    assert isinstance(step, decide.Fail)
    assert HERE in step.problem.cause


@pytest.mark.parametrize(
    ("facts", "tries", "step"),
    [
        ({}, 0, decide.Stopped()),
        ({"build_id": "b"}, 0, decide.LetGo("b")),
        ({"asking": REQUEST, "build_id": "b"}, 0, decide.Recall(REQUEST)),
        ({"build_id": "b", "placed_on": ("x", "y")}, 0, decide.LetGo("b")),
        ({"build_id": "b", "placed_on": ("x", "y")}, 1, decide.Look("x")),
        ({"build_id": "b"}, 5, decide.LetGo("b")),
        ({"placed_on": ("y",)}, 0, decide.Look("y")),
    ],
)
def test_the_way_to_nothing(facts: dict[str, Any], tries: int, step: object) -> None:
    assert decide.next_to_clear(Facts(**facts), tries) == step


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"placed_on": ("fake",), "build_id": "b", "image": IMAGE}, None),
        ({"placed_on": ("old", "fake")}, decide.Look("old")),
        ({"image_uri": "r/a", "build_id": "b", "placed_on": ("old",)}, decide.LetGo("b")),
        ({"image_uri": "r/a", "build_id": "b", "asking": REQUEST}, decide.Recall(REQUEST)),
    ],
)
def test_what_an_older_wish_left_behind(facts: dict[str, Any], step: object) -> None:
    assert decide.next_leftover(Facts(**facts), "fake") == step


def test_a_newer_wish_forgets_how_far_the_older_was_but_not_what_exists() -> None:
    told = {"stage": "applied", "told": ("x",), "problem": FINAL, "build_id": "b", "placed_on": ("fake",)}
    old = replace(row(**told), generation=2)
    new = decide.taken_up(old, 50.0)
    assert (new.facts.stage, new.facts.told, new.facts.problem, new.facts.began) == ("new", (), None, 50.0)
    assert (new.facts.build_id, new.facts.placed_on) == ("b", ("fake",))
    assert decide.taken_up(new, 60.0) is new
    assert decide.taken_up(replace(old, want=Want.ABSENT), 50.0).facts.stage == "applied"


@pytest.mark.parametrize("phase", Phase)
def test_running_is_not_said_of_what_was_missed_twice(phase: Phase) -> None:
    """One look may fail by chance; an Engine that is away would else be `running` for as long as it is away."""
    once, again = row(phase), replace(row(phase), tries=1)
    assert decide.phase_unseen(once) is phase
    assert decide.phase_unseen(again) is (Phase.PREPARING if phase is Phase.RUNNING else phase)


def test_most_causes_are_waited_out_defects_are_not() -> None:
    internal = PASSING.model_copy(update={"code": "internal"})
    assert decide.is_hopeless(FINAL, 1)
    assert not decide.is_hopeless(PASSING, 10_000)
    assert [decide.is_hopeless(internal, tries) for tries in (1, 9, 10)] == [False, False, True]


@pytest.mark.parametrize("tries", [0, 1, 2, 3, 6, 100, 10_000])
def test_backoff_stays_between_one_second_and_a_minute(tries: int) -> None:
    shortest, longest = delays.backoff_seconds(tries, 0.0), delays.backoff_seconds(tries, 0.999999)
    assert shortest == 1.0
    assert longest <= min(60.0, 2.0**tries if tries < 10 else 60.0)


def test_what_is_awaited_longer_is_asked_less_often() -> None:
    assert delays.poll_delay(0.0, 0.5) == 0.5
    assert delays.poll_delay(15.0, 0.5) == 0.75
    assert delays.poll_delay(3600.0, 0.5) == 1.0, "readiness after an hour is noticed within two seconds, too"
