"""What the store says to the database, in SQL that SQLite and PostgreSQL both understand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Executable,
    Select,
    Table,
    and_,
    case,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want, digest_of
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.revisions import KEPT, Revision, revision_in
from cloud_manager.store.protocol import NewEvent
from cloud_manager.store.tables import deployments, events, revisions, storable, to_json
from cloud_manager.store.wishes import EVENTS_KEPT, GOING_AWAY, ON_ITS_WAY, TICK


def of_key(table: Table, key: Key) -> ColumnElement[bool]:
    return and_(table.c.user_id == key.user_id, table.c.project_id == key.project_id)


def row_of(key: Key) -> Select[Any]:
    return select(deployments).where(of_key(deployments, key))


def _later(now: float) -> ColumnElement[float]:
    """`updated` of a row that is written now: always later than it was."""
    updated = deployments.c.updated
    return case((updated + TICK > now, updated + TICK), else_=now)


def present(dialect: str, key: Key, loaded: LoadedSpec, now: float) -> Executable:
    wish = {
        "want": Want.PRESENT.value,
        "spec": to_json(loaded.spec),
        "spec_digest": digest_of(loaded.spec),
        "origins": to_json(loaded.origins),
        "pinned": None,
        "due": now,
        "tries": 0,
    }
    first = {
        "user_id": key.user_id,
        "project_id": key.project_id,
        "generation": 1,
        "phase": Phase.STARTED.value,
        "facts": to_json(Facts()),
        "token": 0,
        "created": now,
        "updated": now,
    }
    old = deployments.c
    same = and_(
        old.want == Want.PRESENT.value,
        old.spec_digest == wish["spec_digest"],
        old.phase.in_([p.value for p in ON_ITS_WAY]),
    )
    again = {
        "generation": old.generation + 1,
        "phase": case((same, old.phase), else_=Phase.STARTED.value),
        "updated": _later(now),
    }
    statement = _insert(dialect, deployments).values(**first, **wish)
    conflict = statement.on_conflict_do_update(index_elements=["user_id", "project_id"], set_={**wish, **again})
    upsert: Executable = conflict.returning(deployments)
    return upsert


def _insert(dialect: str, table: Table) -> Any:
    """The same statement, of two classes: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#insert-on-conflict-upsert"""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def again(key: Key, revision: Revision, now: float) -> Executable:
    """`revision.spec` is known."""
    old, pinned = deployments.c, to_json(revision.pinned())
    on_its_way = old.phase.in_([phase.value for phase in ON_ITS_WAY])
    same = and_(old.want == Want.PRESENT.value, old.pinned == pinned, on_its_way)
    changes = {
        "want": Want.PRESENT.value,
        "spec": to_json(revision.spec) if revision.spec is not None else None,
        "spec_digest": revision.spec_digest,
        "origins": to_json(revision.origins),
        "pinned": pinned,
        "generation": old.generation + 1,
        "phase": case((same, old.phase), else_=Phase.STARTED.value),
        "due": now,
        "tries": 0,
        "updated": _later(now),
    }
    return update(deployments).where(of_key(deployments, key)).values(changes).returning(deployments)


def absent(key: Key, now: float) -> Executable:
    old = deployments.c
    gone = and_(old.want == Want.ABSENT.value, old.phase.in_([phase.value for phase in GOING_AWAY]))
    changes = {
        "want": Want.ABSENT.value,
        "generation": old.generation + 1,
        "phase": Phase.STOPPING.value,
        "due": now,
        "tries": 0,
        "updated": _later(now),
    }
    return update(deployments).where(of_key(deployments, key), ~gone).values(changes).returning(deployments)


def progress(row: Deployment, now: float) -> Executable:
    """Facts always; phase, due and tries unless a newer wish came in between."""
    old = deployments.c
    current = old.generation == row.generation
    changes = {
        "facts": to_json(row.facts),
        "phase": case((current, row.phase.value), else_=old.phase),
        "due": case((current, row.due), else_=old.due),
        "tries": case((current, row.tries), else_=old.tries),
        "updated": _later(now),
    }
    mine = and_(of_key(deployments, row.key), old.token == row.token)
    return update(deployments).where(mine).values(changes).returning(deployments)


def event_rows(key: Key, generation: int, new: Sequence[NewEvent], now: float) -> list[dict[str, Any]]:
    common = {"user_id": key.user_id, "project_id": key.project_id, "time": now, "generation": generation}
    return [
        {
            **common,
            "kind": event.kind,
            "message": storable(event.message),
            "problem": to_json(event.problem) if event.problem else None,
        }
        for event in new
    ]


def last_events_of(keys: Sequence[Key]) -> Select[Any]:
    """Of each project by one look into an index, not by reading its events."""
    place = tuple_(deployments.c.user_id, deployments.c.project_id)
    same = and_(events.c.user_id == deployments.c.user_id, events.c.project_id == deployments.c.project_id)
    newest = select(func.max(events.c.sequence)).where(same).correlate(deployments).scalar_subquery()
    wanted = select(newest).where(place.in_([(key.user_id, key.project_id) for key in keys]))
    return select(events).where(events.c.sequence.in_(wanted))


def old_events(key: Key) -> Delete:
    """Deletes all but the newest `EVENTS_KEPT` events of a project, by one look into an index."""
    mine = of_key(events, key)
    newest_first = select(events.c.sequence).where(mine).order_by(events.c.sequence.desc())
    newest_to_go = newest_first.limit(1).offset(EVENTS_KEPT).scalar_subquery()
    return delete(events).where(mine, events.c.sequence <= newest_to_go)


def remembered(dialect: str, row: Deployment, now: float) -> Executable:
    """The revision in a row's facts, which serves now. One that served before keeps when it first did, and its tag."""
    one, old = revision_in(row, now), revisions.c
    again = {
        "generation": one.generation,
        "spec": to_json(one.spec) if one.spec is not None else None,
        "spec_digest": one.spec_digest,
        "origins": to_json(one.origins),
        "image": to_json(one.image) if one.image is not None else None,
        "resolved_uri": one.resolved_uri,
        "until": None,
    }
    identity = {"user_id": row.key.user_id, "project_id": row.key.project_id, "revision": one.revision}
    first = {"image_uri": one.image_uri, "first_running": one.first_running, "since": one.since}
    since = case((old.until.is_(None), old.since), else_=one.since)
    statement = _insert(dialect, revisions).values(**identity, **first, **again)
    upsert: Executable = statement.on_conflict_do_update(index_elements=list(identity), set_={**again, "since": since})
    return upsert


def ended(key: Key, now: float, *, other_than: str | None = None) -> Executable:
    """The revision that served until now."""
    open_ = and_(of_key(revisions, key), revisions.c.until.is_(None))
    if other_than is not None:
        open_ = and_(open_, revisions.c.revision != other_than)
    return update(revisions).where(open_).values(until=now)


def revisions_of(key: Key) -> Select[Any]:
    """The newest first."""
    columns = revisions.c
    return select(revisions).where(of_key(revisions, key)).order_by(columns.since.desc(), columns.generation.desc())


def old_revisions(key: Key) -> Delete:
    """Deletes all but the newest `KEPT` revisions of a project."""
    mine = of_key(revisions, key)
    newest = select(revisions.c.revision).where(mine).order_by(revisions.c.since.desc()).limit(KEPT)
    return delete(revisions).where(mine, revisions.c.revision.not_in(newest))
