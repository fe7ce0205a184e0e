"""The next step of a project: pure functions of what is wanted, what is known, and what was just seen.

`reconcile.py` sees and carries out; nothing here waits, writes or asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloud_manager.deployment import Deployment, Facts, Phase, Pinned, Want
from cloud_manager.drift import drift_of, is_left_alone
from cloud_manager.targets.target import Observation
from image_builder.contract import BuildRequest, BuildState, BuildStatus, ImageReference, Problem

MOST_INTERNAL_TRIES = 10
MOST_CANCELLED_TRIES = 5
MOST_LOST_IMAGES = 5
_IMAGES_KEPT = 2
_GONE = frozenset({"blob_unknown", "manifest_unknown", "name_unknown"})
"""https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
_LONGEST_WAIT = 1800.0
"""Seconds for a service to come up, or to go: longer than any target takes, large images and GPUs included."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A build was asked for under another wish and its answer was never noted: learn its id by asking again."""

    request: BuildRequest


@dataclass(frozen=True, slots=True)
class Ask:
    request: BuildRequest


@dataclass(frozen=True, slots=True)
class Poll:
    build_id: str


@dataclass(frozen=True, slots=True)
class UsePrebuilt:
    """The file names an image: nothing to build."""


@dataclass(frozen=True, slots=True)
class UsePinned:
    """A rollback says which image: nothing to build."""

    pinned: Pinned


@dataclass(frozen=True, slots=True)
class Look:
    """See what there is on a target."""

    target: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Leave a build that this project needs no more."""

    build_id: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Tell the builder which images are still needed."""

    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing is left."""


@dataclass(frozen=True, slots=True)
class Building:
    pass


@dataclass(frozen=True, slots=True)
class Built:
    image: ImageReference


@dataclass(frozen=True, slots=True)
class AskAgain:
    problem: Problem


@dataclass(frozen=True, slots=True)
class Fail:
    problem: Problem


@dataclass(frozen=True, slots=True)
class Settle:
    """What is wanted is there and answers."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What is wanted is coming up."""


@dataclass(frozen=True, slots=True)
class ClearFirst:
    """An earlier removal is not over: what is wanted comes after it."""


@dataclass(frozen=True, slots=True)
class Apply:
    """healing: it was there and is no more, though nobody asked for that."""

    healing: bool


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """It is not as it was deployed, and the file says that it shall be left so."""

    drift: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    pass


def taken_up(row: Deployment, now: float) -> Deployment:
    """The row with the marks of an older generation wiped off. What exists in the world stays noted."""
    facts = row.facts
    if facts.generation == row.generation:
        return row
    stage = "new" if row.want is Want.PRESENT else facts.stage
    fresh = {
        "generation": row.generation,
        "stage": stage,
        "began": now,
        "since": now,
        "told": (),
        "problem": None,
        "drift": (),
    }
    return replace(row, facts=facts.model_copy(update=fresh | {"images_lost": 0}))


def next_for_image(
    facts: Facts, request: BuildRequest | None, pinned: Pinned | None = None
) -> Recall | Ask | Poll | UsePrebuilt | UsePinned | None:
    """What is needed to know the image of this generation; None once it is known.

    Args:
        request: what the builder is to be asked; None where nothing is built, and once the image is known.
        pinned: what a rollback brings back.
    """
    if request is not None and facts.asking not in (None, request):
        return Recall(facts.asking)
    if facts.stage in ("built", "applied"):
        return None
    if facts.stage == "asked" and facts.build_id is not None:
        return Poll(facts.build_id)
    if pinned is not None:
        return UsePinned(pinned)
    return UsePrebuilt() if request is None else Ask(request)


def after_build(build_id: str, status: BuildStatus | None) -> Building | Built | AskAgain | Fail:
    """What a look at the build means. status None: the builder does not know it any more."""
    if status is None:
        return AskAgain(_lost(build_id))
    if not status.state.done:
        return Building()
    if status.state is BuildState.SUCCEEDED and status.image is not None:
        return Built(status.image)
    if status.state is BuildState.CANCELLED:
        return AskAgain(_cancelled(build_id))
    problem = status.problem or _unexplained(build_id)
    return AskAgain(problem) if problem.retryable else Fail(problem)


def after_look(
    row: Deployment, revision: str, seen: Observation
) -> Settle | Wait | ClearFirst | Apply | Fail | LeaveAlone | Rest:
    """What to do about `revision`, of which this is to be seen on its target."""
    same = seen.revision == revision
    if same and seen.state == "ready":
        return Settle()
    drift = drift_of(revision, seen) if is_left_alone(row) else ()
    if drift or row.phase is Phase.FAILED:  # What failed is applied again by the next `/start`, not by itself.
        return LeaveAlone(drift) if drift else Rest()
    if same and seen.state == "pending":
        return Wait()
    if same and seen.state == "failed" and row.facts.stage == "applied":
        return Fail(seen.problem or _silent(revision))
    if seen.state == "removing":
        return ClearFirst()
    return Apply(healing=is_settled(row))


def overdue(row: Deployment, target: str, now: float) -> Problem | None:
    """What is said of a target that never tells how it ends; None while there is time."""
    doing = {Phase.PREPARING: "come up", Phase.STOPPING: "go"}.get(row.phase)
    if doing is None or now - row.facts.since <= _LONGEST_WAIT:
        return None
    cause = f"{target} does not say how it ends: the service has been about to {doing} for {_LONGEST_WAIT / 60:.0f} min"
    fix = f"Look at the service on {target}, and wait or {'start' if doing == 'come up' else 'stop'} it again"
    return Problem(code="too_slow", cause=cause, fix=fix)


def is_built_again(row: Deployment, problem: Problem) -> bool:
    """Whether a target's refusal says that the builder has cleared away what it built; a few times that is mended."""
    facts = row.facts
    known = facts.image is not None and facts.images_lost < MOST_LOST_IMAGES
    return known and row.pinned is None and problem.code in _GONE


def told_of_rollback(row: Deployment, problem: Problem) -> Problem:
    """A refusal in the words of a rollback: an image that is gone is not built again, for the files are of today."""
    if row.pinned is None or problem.code not in _GONE:
        return problem
    cause = f"the image of revision {row.pinned.revision} is gone: {problem.cause}"
    fix = "Roll back to another revision, or start the project: its image is then built from the files of today"
    return Problem(code="image_gone", cause=cause, fix=fix)


def is_settled(row: Deployment) -> bool:
    """The world was seen to match this very wish."""
    return row.phase is Phase.RUNNING and row.facts.settled_generation == row.generation


def phase_unseen(row: Deployment) -> Phase:
    """The word while the place where it ran does not answer. One look may miss; what two in a row miss is away."""
    return Phase.PREPARING if row.phase is Phase.RUNNING and row.tries > 0 else row.phase


def images_to_keep(facts: Facts) -> tuple[str, ...]:
    """Now that this one serves: it, and the last good one before. What is in a registry is kept there."""
    serving = facts.image.digest if facts.image is not None and facts.image.pushed is None else None
    return tuple(dict.fromkeys((serving, *facts.keep) if serving else facts.keep))[:_IMAGES_KEPT]


def next_leftover(facts: Facts, target: str, *, pinned: bool = False) -> Recall | LetGo | Keep | Look | None:
    """What an earlier wish left behind, cleared away once the present one runs on `target`.

    pinned: the image is of a rollback, so no build that is noted serves the present wish.
    """
    unbuilt = pinned or facts.image_uri is not None
    if unbuilt and facts.asking is not None:
        return Recall(facts.asking)
    if unbuilt and facts.build_id is not None:
        return LetGo(facts.build_id)
    if facts.keep != facts.kept:
        return Keep(facts.keep)
    return next((Look(name) for name in facts.placed_on if name != target), None)


def next_to_clear(facts: Facts, tries: int) -> Recall | LetGo | Keep | Look | Stopped:
    """What is to be done so that nothing of the project is left.

    The build goes first, it costs most; but a builder that does not answer (tries > 0) must not keep a service up.
    """
    if facts.placed_on and tries > 0:
        return Look(facts.placed_on[0])
    if facts.asking is not None:
        return Recall(facts.asking)
    if facts.build_id is not None:
        return LetGo(facts.build_id)
    if facts.placed_on:
        return Look(facts.placed_on[0])
    return Keep(()) if facts.kept else Stopped()


def is_hopeless(problem: Problem, tries: int) -> bool:
    """Whether trying again has been tried enough. Most causes are waited out for ever: a builder comes back."""
    most = {"internal": MOST_INTERNAL_TRIES, "build_cancelled": MOST_CANCELLED_TRIES}
    return not problem.retryable or tries >= most.get(problem.code, tries + 1)


def _lost(build_id: str) -> Problem:
    cause = f"the image builder does not know build {build_id[:12]} any more"
    return Problem(code="build_lost", cause=cause, fix="It is asked for again; nothing to do", retryable=True)


def _cancelled(build_id: str) -> Problem:
    cause = f"build {build_id[:12]} was cancelled, though this project still wants it"
    fix = "It is asked for again; if it fails, find out who cancels builds, then start again"
    return Problem(code="build_cancelled", cause=cause, fix=fix, retryable=True)


def _unexplained(build_id: str) -> Problem:
    cause = f"build {build_id[:12]} ended without an image and without a reason"
    return Problem(code="build_failed", cause=cause, fix="Read the build's log, then start again")


def _silent(revision: str) -> Problem:
    cause = f"revision {revision} does not come up and the target gives no reason"
    return Problem(code="target_failed", cause=cause, fix="Read the service's logs, mend the program, start again")
