"""Which projects a page shows, and in which order: what needs somebody comes first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from image_builder.web.manager_models import Deployment, Phase

Group = Literal["failed", "working", "running", "stopped"]
GROUPS: tuple[Group, ...] = ("failed", "working", "running", "stopped")
_GROUP_OF: dict[Phase, Group] = {Phase.FAILED: "failed", Phase.RUNNING: "running", Phase.STOPPED: "stopped"}
PAGE = 80

Place = tuple[int, float, str]
"""Where a project stands: its group, how long ago something last happened, its key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor asked for. group: `""` for all. text: found in ids, target, address or image."""

    group: str = ""
    text: str = ""

    def fits(self, deployment: Deployment) -> bool:
        return self.group in ("", group_of(deployment)) and self.mentions(deployment)

    def mentions(self, deployment: Deployment) -> bool:
        words = self.text.lower().split()
        haystack = deployment.searched if words else ""
        return all(word in haystack for word in words)


@dataclass(frozen=True, slots=True)
class View:
    rows: tuple[Deployment, ...]
    counts: dict[str, int]
    """By group, `""` for all of them: of those that the text fits."""
    more: str
    """Where the next rows begin; empty at the end."""


def group_of(deployment: Deployment) -> Group:
    return _GROUP_OF.get(deployment.phase, "working")


def place_of(deployment: Deployment) -> Place:
    return GROUPS.index(group_of(deployment)), -deployment.moment, deployment.key


def view(deployments: Iterable[Deployment], wanted: Wanted, after: str = "") -> View:
    """after: `more` of the view before; what cannot be read as one is taken for the beginning."""
    mentioned = [each for each in deployments if wanted.mentions(each)]
    shown = sorted((each for each in mentioned if wanted.fits(each)), key=place_of)
    start = _cursor(after)
    rest = [each for each in shown if place_of(each) > start] if start else shown
    rows = tuple(rest[:PAGE])
    more = _text(place_of(rows[-1])) if len(rest) > PAGE else ""
    return View(rows, counts(mentioned), more)


def counts(deployments: Iterable[Deployment]) -> dict[str, int]:
    found = Counter(group_of(each) for each in deployments)
    return {"": found.total(), **{group: found[group] for group in GROUPS}}


def _text(place: Place) -> str:
    return f"{place[0]}~{place[1]!r}~{place[2]}"


def _cursor(text: str) -> Place | None:
    group, _, rest = text.partition("~")
    moment, _, key = rest.partition("~")
    try:
        return int(group), float(moment), key
    except ValueError:
        return None
