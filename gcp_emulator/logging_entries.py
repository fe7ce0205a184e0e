"""What services wrote, as entries of Cloud Logging: https://cloud.google.com/run/docs/logging"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud.logging_v2.types import LogEntry
from google.protobuf import json_format

from gcp_emulator.logging_filter import SEVERITIES
from gcp_emulator.run_names import Name
from gcp_emulator.run_store import RunStore

_GENERATED = re.compile(r"(?P<service>[a-z][a-z0-9-]*)-\d{5}-[a-z]{3}")
_SEVERITY, _MESSAGE = "severity", "message"


@dataclass(frozen=True)
class Entry:
    """`order` sorts by time; no two are the same. `shown`: as JSON has it, for filters."""

    order: tuple[float, str]
    message: Any  # LogEntry.pb()
    shown: dict[str, Any]


class ServiceLogs:
    """What the runtime notes: a file for each revision, a JSON object on each line (`runtime_supervisor`)."""

    def __init__(self, folder: Path, store: RunStore, project: str, region: str) -> None:
        """`region`: taken for services that are deleted, of which nothing else is known."""
        self._folder = folder
        self._store = store
        self._project = project
        self._region = region

    def entries(self) -> Iterator[Entry]:
        """Blocking."""
        known = self._known()
        for file in sorted(self._folder.glob("*.jsonl")):
            revision = known.get(file.stem) or self._deleted(file.stem)
            if revision is not None:
                yield from _read(file, revision)

    def _known(self) -> dict[str, Name]:
        services = [(one.name, Name.parse(one.name)) for one in self._store.services()]
        return {
            short: Name(name.project, name.region, name.service, short)
            for full, name in services
            if name is not None
            for short in self._store.revisions(full)
        }

    def _deleted(self, revision: str) -> Name | None:
        found = _GENERATED.fullmatch(revision)
        return Name(self._project, self._region, found["service"], revision) if found else None


def _read(file: Path, revision: Name) -> Iterator[Entry]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if line.endswith("\n"):  # else it is being written
                yield entry_of(json.loads(line), revision, number)


def entry_of(line: dict[str, Any], revision: Name, number: int) -> Entry:
    """Args:
    line: `{"time", "stream", "text"}`, seconds of Unix time.
    number: of the line in its file.
    """
    message = LogEntry.pb(
        LogEntry(
            log_name=f"projects/{revision.project}/logs/run.googleapis.com%2F{line['stream']}",
            insert_id=f"{revision.revision}-{number:08d}",
            resource={
                "type": "cloud_run_revision",
                "labels": {
                    "project_id": revision.project,
                    "location": revision.region,
                    "service_name": revision.service,
                    "configuration_name": revision.service,
                    "revision_name": revision.revision,
                },
            },
        )
    )
    for stamp in (message.timestamp, message.receive_timestamp):
        stamp.FromMicroseconds(int(line["time"] * 1_000_000))
    _fill(message, line["text"])
    shown = {"severity": "DEFAULT", **json_format.MessageToDict(message)}
    return Entry((line["time"], message.insert_id), message, shown)


def _fill(message: Any, text: str) -> None:
    """A line that is a JSON object is a structured entry: https://cloud.google.com/logging/docs/structured-logging"""
    data = _object(text)
    if data is None:
        message.text_payload = text
        return
    severity = str(data.get(_SEVERITY, "")).upper()
    if severity in SEVERITIES:
        message.severity = SEVERITIES[severity]
        del data[_SEVERITY]
    if set(data) == {_MESSAGE} and isinstance(data[_MESSAGE], str):
        message.text_payload = data[_MESSAGE]
    else:
        message.json_payload.update(data)


def _object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
