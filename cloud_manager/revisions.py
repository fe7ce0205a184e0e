"""The revisions of a project that ran well, and which of them a rollback means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_manager.deployment import Deployment, Pinned, Want, revision_of
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import Conflict, NotFound
from image_builder.contract import ImageReference

KEPT = 20
"""Revisions remembered per project, the newest."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Revision:
    """What was seen to answer, as it was asked of its target. Times are Unix seconds.

    generation: of the wish for which it ran last. spec: None if another release wrote it and this one cannot read it.
    image, image_uri: one of them, as in `Facts`. resolved_uri: what `image_uri` meant, by its digest, if that is known.
    since: when it began to serve, the last time; until: when another took its place or the project was stopped.
    """

    revision: str
    generation: int
    spec: DeploymentSpec | None
    spec_digest: str
    origins: dict[str, str]
    image: ImageReference | None
    image_uri: str | None
    resolved_uri: str | None
    first_running: float
    since: float
    until: float | None = None

    def pinned(self) -> Pinned:
        return Pinned(revision=self.revision, image=self.image, image_uri=self.resolved_uri or self.image_uri)


def revision_in(row: Deployment, now: float) -> Revision:
    """The revision that the row says to be running, seen just now."""
    facts = row.facts
    return Revision(
        revision=str(facts.revision),
        generation=row.generation,
        spec=row.spec,
        spec_digest=row.spec_digest,
        origins=row.origins,
        image=facts.image,
        image_uri=facts.image_uri,
        resolved_uri=facts.resolved_uri,
        first_running=now,
        since=now,
    )


def revision_wanted(row: Deployment) -> str | None:
    """The revision of the present wish; None while its image is not known, and for what is not wanted at all."""
    facts = row.facts
    if row.want is Want.ABSENT:
        return None
    if row.pinned is not None:
        return row.pinned.revision
    image = facts.image.digest if facts.image is not None else facts.image_uri
    known = facts.generation == row.generation and facts.stage in ("built", "applied")
    if not known or row.spec is None or image is None:
        return None
    return revision_of(row.spec, image, facts.secrets_mark)


def chosen(row: Deployment, revisions: Sequence[Revision], to: str | None) -> Revision:
    """Which revision a rollback brings back.

    Args:
        revisions: of the project, the newest first.
        to: a revision, or its first letters; None: the last good one before the present. Asked again while a rollback
            is on its way, that is the same one: a repeated call is no step further back.

    Raises:
        NotFound: `revision_unknown`, with those that are there.
        Conflict: `no_revision`, there is nothing to go back to; `unreadable_record`, another release wrote it.
    """
    found = _named(row, revisions, to) if to else _last_good(row, revisions)
    if found.spec is None:
        raise Conflict(
            f"revision {found.revision} of {row.key} was written by another release and does not fit this one",
            "roll back to another revision, or start the project, so that deployment.yaml is read anew",
            code="unreadable_record",
        )
    return found


def _named(row: Deployment, revisions: Sequence[Revision], to: str) -> Revision:
    fitting = [one for one in revisions if one.revision.startswith(to)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(one.revision for one in (fitting or revisions)[:_SHOWN])
    if fitting:
        cause = f"more than one revision of project {row.key} begins with {to[:64]!r}"
    else:
        cause = f"project {row.key} has no good revision {to[:64]!r}"
    fix = f"choose one of: {names}" if names else "start the project: what runs well is remembered from then on"
    raise NotFound(cause, fix, code="revision_unknown")


def _last_good(row: Deployment, revisions: Sequence[Revision]) -> Revision:
    present = revision_wanted(row)
    under_way = row.pinned is not None and present is not None and row.facts.settled_generation != row.generation
    if under_way and not row.phase.at_rest:
        same = next((one for one in revisions if one.revision == present), None)
        if same is not None:
            return same
    before = next((one for one in revisions if one.revision != present), None)
    if before is None:
        raise Conflict(
            f"project {row.key} has no good revision before the present one",
            "mend the project's files and start it; what runs well is remembered from then on",
            code="no_revision",
        )
    return before
