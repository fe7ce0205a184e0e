"""What a wish means for a row, said once for every store. Pure."""

from __future__ import annotations

from cloud_manager.deployment import Phase
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.revisions import Revision
from cloud_manager.store.protocol import NewEvent

ON_ITS_WAY = (Phase.STARTED, Phase.BUILDING, Phase.PREPARING, Phase.RUNNING)
"""A repeated `/start` with the same file leaves these phases as they are."""

GOING_AWAY = (Phase.STOPPING, Phase.STOPPED)
"""A repeated `/stop` changes nothing in these."""

EVENTS_KEPT = 1000
"""Events kept per project, the newest; older ones are deleted as new ones are written."""

TICK = 1e-6
"""Seconds. `updated` grows by at least this much with every write, however coarse the clock is."""


def start_events(loaded: LoadedSpec) -> list[NewEvent]:
    message = f"start asked for: deploy.type {loaded.spec.deploy.type}"
    return [NewEvent("start", message), *(NewEvent("note", note) for note in loaded.notes)]


def rollback_events(revision: Revision) -> list[NewEvent]:
    image = revision.image.digest[:19] if revision.image is not None else revision.pinned().image_uri
    what = f"revision {revision.revision} of generation {revision.generation} (image {image})"
    return [NewEvent("rollback", f"rollback asked for: {what} as it was; nothing is read or built")]


def stop_events() -> list[NewEvent]:
    return [NewEvent("stop", "stop asked for")]
