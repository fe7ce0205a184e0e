"""The tables, and the way between their rows and the manager's own types. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, RowMapping, Table, Text

from cloud_manager.deployment import Deployment, Event, Facts, Key, Phase, Pinned, Want
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.revisions import Revision
from image_builder.contract import ImageReference, Problem

SCHEMA_VERSION = "0002"
"""The newest revision in `migrations/versions`; a test holds the two together."""

VERSION_TABLE = "cloud_deploy_version"

M = TypeVar("M", bound=BaseModel)

# Keys are ordered by code point everywhere, as Python does, not by the database's language.
_KEY = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column that is called INTEGER. https://sqlite.org/autoinc.html
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

deployments = Table(
    "deployments",
    metadata,
    Column("user_id", _KEY, primary_key=True),
    Column("project_id", _KEY, primary_key=True),
    Column("want", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("spec", Text),
    Column("spec_digest", Text, nullable=False),
    Column("origins", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("due", Double, nullable=False),
    Column("tries", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("pinned", Text),
    Index("deployments_due", "due"),
    Index("deployments_updated", "updated"),
)

events = Table(
    "events",
    metadata,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("user_id", _KEY, nullable=False),
    Column("project_id", _KEY, nullable=False),
    Column("time", Double, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("problem", Text),
    Index("events_of_project", "user_id", "project_id", "sequence"),
    sqlite_autoincrement=True,
)

revisions = Table(
    "revisions",
    metadata,
    Column("user_id", _KEY, primary_key=True),
    Column("project_id", _KEY, primary_key=True),
    Column("revision", _KEY, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("spec", Text),
    Column("spec_digest", Text, nullable=False),
    Column("origins", Text, nullable=False),
    Column("image", Text),
    Column("image_uri", Text),
    Column("resolved_uri", Text),
    Column("first_running", Double, nullable=False),
    Column("since", Double, nullable=False),
    Column("until", Double),
)


def to_json(value: BaseModel | Mapping[str, str]) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else dict(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def storable(text: str) -> str:
    """Text that every database takes: PostgreSQL has no NUL, and half a surrogate pair has no UTF-8."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def deployment_of(row: RowMapping) -> Deployment:
    """The deployment in a row of `deployments`.

    What no longer validates (a file accepted by another release) is left out, and `facts.problem` says so: the
    project can still be seen, stopped, and started again.
    """
    key = Key(row["user_id"], row["project_id"])
    # float(): SQLite hands a whole number out of RETURNING as an int.
    spec, facts = _read(DeploymentSpec, row["spec"]), _read(Facts, row["facts"])
    if facts is None:
        facts = _salvaged(row["facts"]).model_copy(update={"problem": _unreadable(key, "progress record")})
    if spec is None and row["spec"] is not None:
        facts = facts.model_copy(update={"problem": _unreadable(key, "deployment.yaml")})
    return Deployment(
        key=key,
        want=Want(row["want"]),
        generation=row["generation"],
        spec=spec,
        spec_digest=row["spec_digest"],
        origins=json.loads(row["origins"]),
        phase=Phase(row["phase"]),
        facts=facts,
        token=row["token"],
        due=float(row["due"]),
        tries=row["tries"],
        created=float(row["created"]),
        updated=float(row["updated"]),
        pinned=_read(Pinned, row["pinned"]),
    )


def event_of(row: RowMapping) -> Event:
    return Event(
        sequence=row["sequence"],
        key=Key(row["user_id"], row["project_id"]),
        time=float(row["time"]),
        generation=row["generation"],
        kind=row["kind"],
        message=row["message"],
        problem=_read(Problem, row["problem"]),
    )


def revision_of_row(row: RowMapping) -> Revision:
    """The revision in a row of `revisions`."""
    return Revision(
        revision=row["revision"],
        generation=row["generation"],
        spec=_read(DeploymentSpec, row["spec"]),
        spec_digest=row["spec_digest"],
        origins=json.loads(row["origins"]),
        image=_read(ImageReference, row["image"]),
        image_uri=row["image_uri"],
        resolved_uri=row["resolved_uri"],
        first_running=float(row["first_running"]),
        since=float(row["since"]),
        until=None if row["until"] is None else float(row["until"]),
    )


def _read(model: type[M], text: str | None) -> M | None:
    """None for no text, and for text that does not fit the model."""
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return None


def _salvaged(text: str) -> Facts:
    """The facts without those that do not validate: above all, `placed_on` must survive."""
    values: dict[str, Any] = json.loads(text)
    try:
        return Facts.model_validate(values)
    except ValidationError as error:
        bad = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        return Facts.model_validate({name: value for name, value in values.items() if name not in bad})


def _unreadable(key: Key, what: str) -> Problem:
    return Problem(
        code="unreadable_record",
        cause=f"the stored {what} of {key} was written by another release and does not fit this one",
        fix="call /start again, so that deployment.yaml is read anew",
        retryable=False,
    )
