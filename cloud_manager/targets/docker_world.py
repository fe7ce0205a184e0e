"""What is on an Engine for each project, as one set of list calls tells it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloud_manager.deployment import Key
from cloud_manager.targets.docker_spec import LABEL, Names


@dataclass(frozen=True, slots=True)
class Box:
    """A container. state: as the Engine says: created, running, paused, restarting, removing, exited, dead.

    revision: of a program. address: which one a front was made for. url: where a front is reached, while it runs.
    """

    id: str
    name: str
    state: str
    created: int
    revision: str = ""
    address: str = ""
    url: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    """All of one project. Networks and volumes by name."""

    programs: tuple[Box, ...] = ()
    fronts: tuple[Box, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        return (*self.programs, *self.fronts)

    def program(self, revision: str) -> Box | None:
        return next((box for box in self.programs if box.revision == revision), None)

    def front(self, address: str) -> Box | None:
        return next((box for box in self.fronts if box.address == address), None)


def worlds_of(
    containers: Iterable[Mapping[str, Any]],
    networks: Iterable[Mapping[str, Any]],
    volumes: Iterable[Mapping[str, Any]],
    engine_host: str,
    owner: str,
) -> dict[Key, World]:
    """From the rows of the Engine's list calls, those with our labels. engine_host: where its machine is reached.

    A container has the labels of its image as well: one that anybody makes of an image with labels like ours has none
    of our names.
    """
    boxes: dict[Key, dict[str, list[Box]]] = defaultdict(lambda: defaultdict(list))
    names: dict[Key, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in containers:
        key, box = _key(row), _box(row, engine_host)
        if box.name.startswith(f"{Names(owner, key).base}-"):
            boxes[key][_label(row, "role")].append(box)
    for kind, rows in (("network", networks), ("volume", volumes)):
        for row in rows:
            names[_key(row)][kind].append(str(row["Name"]))
    return {
        key: World(
            programs=tuple(boxes[key]["program"]),
            fronts=tuple(boxes[key]["front"]),
            networks=tuple(names[key]["network"]),
            volumes=tuple(names[key]["volume"]),
        )
        for key in {*boxes, *names}
    }


def _box(row: Mapping[str, Any], engine_host: str) -> Box:
    return Box(
        id=str(row["Id"]),
        name=str(row["Names"][0]).lstrip("/") if row.get("Names") else str(row["Id"])[:12],
        state=str(row["State"]),
        created=int(row.get("Created") or 0),
        revision=_label(row, "revision"),
        address=_label(row, "address"),
        url=_url(row.get("Ports") or (), engine_host),
    )


def _url(ports: Iterable[Mapping[str, Any]], engine_host: str) -> str | None:
    """The first published port; what is published everywhere is reached where the Engine's machine is."""
    for port in ports:
        if port.get("PublicPort"):
            host = {"0.0.0.0": engine_host, "::": engine_host}.get(port["IP"], port["IP"])  # noqa: S104
            return f"http://[{host}]:{port['PublicPort']}" if ":" in host else f"http://{host}:{port['PublicPort']}"
    return None


def _key(row: Mapping[str, Any]) -> Key:
    return Key(_label(row, "user"), _label(row, "project"))


def _label(row: Mapping[str, Any], name: str) -> str:
    return str((row.get("Labels") or {}).get(f"{LABEL}.{name}", ""))
