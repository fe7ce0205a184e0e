"""The steps on a target: bring the service up, look at it, take it away."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from cloud_manager import decide, story
from cloud_manager.claim import Claim
from cloud_manager.delays import backoff_seconds
from cloud_manager.deployment import Deployment, Phase
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.drift import drift_of, problem_of
from cloud_manager.errors import DeployError
from cloud_manager.revisions import revision_wanted
from cloud_manager.store.protocol import NewEvent
from cloud_manager.targets.target import Observation, Resolver, SecretReader, Target, Wanted

log = logging.getLogger(__name__)


async def mark_secrets(claim: Claim, spec: DeploymentSpec, target: Target) -> None:
    """Once the image of a wish is known: a start with a changed secret is an update. Written with what follows.

    A rollback has the revision's own name, and the secrets of today.
    """
    if claim.row.facts.stage != "built" or claim.row.pinned is not None:
        return
    if not spec.deploy.secrets or not isinstance(target, SecretReader):
        claim.note(secrets_mark="")
        return
    salt = claim.row.facts.secrets_salt or secrets.token_hex(16)
    claim.note(secrets_salt=salt, secrets_mark=await target.secrets_mark(spec, salt))


async def place(claim: Claim, spec: DeploymentSpec, target: Target) -> bool:
    """Look at the service and take the next step with it. True if it was at rest already: nothing was written."""
    revision = revision_wanted(claim.row)
    if revision is None:
        raise RuntimeError("the image is not known yet")  # A defect of ours: the stage says that it is.
    seen = await target.observe(claim.row.key)
    late = decide.overdue(claim.row, target.name, claim.now())
    match decide.after_look(claim.row, revision, seen):
        case decide.Settle():
            return await _settle(claim, target, revision, seen)
        case decide.Wait() | decide.ClearFirst() if late is not None:
            await claim.fail(late, url=seen.url, detail=seen.detail)
        case decide.Wait():
            await _wait(claim, target, revision, seen)
        case decide.ClearFirst():
            await _clear_first(claim, target)
        case decide.Fail(problem):
            await claim.fail(problem, url=seen.url, detail=seen.detail)
        case decide.Apply(healing):
            drift = drift_of(revision, seen) if healing else ()
            event = story.applying(target.name, revision, healing=healing, update=seen.state != "absent", drift=drift)
            await _apply(claim, spec, target, revision, event)
        case decide.LeaveAlone(drift):
            await _leave_alone(claim, target, seen, drift)
        case decide.Rest():
            await claim.save(delay=claim.resync())
    return False


async def clear(claim: Claim, target: Target) -> None:
    """One step towards nothing of the project being left on `target`. The phase is the caller's."""
    name = target.name
    seen = await target.observe(claim.row.key)
    if seen.state == "absent":
        facts = claim.row.facts
        await claim.save(placed_on=_without(facts.placed_on, name), left=(*_without(facts.left, name), name))
        return
    await claim.save(story.removing(name), once=f"remove {name}", delay=claim.soon())
    await target.remove(claim.row.key)
    if (late := decide.overdue(claim.row, name, claim.now())) is not None:
        await claim.fail(late)


async def look_again(claim: Claim, target: Target) -> None:
    """Of a stopped project: what a manager sent before it died may have arrived after its successor saw nothing."""
    name, facts = target.name, claim.row.facts
    left = _without(facts.left, name)
    if (await target.observe(claim.row.key)).state == "absent":
        await claim.save(left=left)
        return
    await claim.save(story.found_late(name), left=left, placed_on=_with(claim.row, target))


async def _apply(claim: Claim, spec: DeploymentSpec, target: Target, revision: str, event: NewEvent) -> None:
    """Stored before the first call: that something may be there from now on, to be found and removed by anyone."""
    facts, again = claim.row.facts, claim.row.facts.stage == "applied"
    await claim.save(
        event,
        once=f"apply {revision}",
        phase=Phase.PREPARING,
        placed_on=_with(claim.row, target),
        revision=revision,
    )
    try:
        generation = claim.row.generation
        await target.apply(Wanted(claim.row.key, spec, revision, facts.image, facts.image_uri, generation))
    except DeployError as error:
        if not decide.is_built_again(claim.row, error.problem):
            told = decide.told_of_rollback(claim.row, error.problem)
            if told is error.problem:
                raise
            raise DeployError.of(told) from error
        # What follows has been told of the image that is gone: it is news again.
        fresh: dict[str, Any] = {"stage": "new", "images_lost": facts.images_lost + 1, "problem": None, "told": ()}
        await claim.save(story.image_gone(), phase=Phase.BUILDING, **fresh)
        return
    # What was there and is to be put back is put back ever more seldom: perhaps someone else deletes it each time.
    tries = claim.row.tries + 1 if again else claim.row.tries
    delay = backoff_seconds(tries, 0.5) if again else claim.until_ready()
    await claim.save(stage="applied", problem=None, tries=tries, delay=delay)


async def _clear_first(claim: Claim, target: Target) -> None:
    await target.remove(claim.row.key)
    event, placed_on = story.still_going(target.name), _with(claim.row, target)
    await claim.save(event, once="going", phase=Phase.PREPARING, delay=claim.soon(), placed_on=placed_on)


async def _wait(claim: Claim, target: Target, revision: str, seen: Observation) -> None:
    """The phase word follows what is seen; each reason to wait is told once."""
    event = story.coming_up(target.name, seen.problem)
    about = seen.problem.cause if seen.problem else f"apply {revision}"
    facts: dict[str, Any] = {"url": seen.url, "detail": seen.detail, "problem": seen.problem, "revision": revision}
    placed_on = _with(claim.row, target)
    await claim.save(event, once=about, phase=Phase.PREPARING, delay=claim.until_ready(), placed_on=placed_on, **facts)


async def _leave_alone(claim: Claim, target: Target, seen: Observation, drift: tuple[str, ...]) -> None:
    """Told once for each change. The word is what is seen: it runs if anything answers at its address."""
    row, problem = claim.row, problem_of(target.name, drift)
    phase = Phase.RUNNING if seen.url is not None else Phase.FAILED
    known = row.phase is phase and row.facts.drift == drift
    events = () if known else (story.drifted(problem),)
    facts: dict[str, Any] = {"url": seen.url, "detail": seen.detail, "problem": problem, "drift": drift}
    tries = row.tries + 1 if seen.state == "pending" else 0  # it may be on its way to somewhere
    delay = backoff_seconds(tries, 0.5) if tries else claim.resync()
    await claim.save(*events, phase=phase, tries=tries, delay=min(delay, claim.resync()), **facts)


async def _settle(claim: Claim, target: Target, revision: str, seen: Observation) -> bool:
    """It runs. True if it did before."""
    row = claim.row
    facts: dict[str, Any] = {"url": seen.url, "detail": seen.detail, "problem": None, "drift": ()}
    if decide.is_settled(row):
        claim.note(**facts)
        if row.facts.drift:
            await claim.save(story.as_deployed(target.name))
        return True
    running = story.running(seen.url, claim.now() - row.facts.began)
    event = story.unchanged() if row.phase is Phase.RUNNING else running
    found = await _resolved(claim, target)
    if found is not None:
        facts["resolved_uri"] = found
    facts |= {"revision": revision, "stage": "applied", "told": (), "placed_on": _with(row, target), "images_lost": 0}
    facts["keep"] = decide.images_to_keep(row.facts)
    claim.note(**facts, settled_generation=row.generation)
    left = decide.next_leftover(claim.row.facts, target.name, pinned=row.pinned is not None)
    events = (event,) if found is None else (story.resolved(str(row.facts.image_uri), found), event)
    await claim.save(*events, phase=Phase.RUNNING, tries=0, delay=0.0 if left else claim.resync(), serving=True)
    return False


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


async def _resolved(claim: Claim, target: Target) -> str | None:
    """By its digest, the prebuilt image that runs; None if that is known, or nobody can tell, which is no failure."""
    facts = claim.row.facts
    uri = facts.image_uri
    if uri is None or "@" in uri or facts.resolved_uri is not None or not isinstance(target, Resolver):
        return None
    try:
        return await target.resolved(claim.row.key, uri)
    except DeployError as error:
        log.info("%s: what %s means cannot be learned now: %s", claim.row.key, uri, error)
        return None


def _with(row: Deployment, target: Target) -> tuple[str, ...]:
    placed_on = row.facts.placed_on
    return placed_on if target.name in placed_on else (*placed_on, target.name)
