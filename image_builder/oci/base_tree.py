"""What layers over a base must know of it: its python, and the links and folders that their paths pass. Pure."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from image_builder.oci.software import NOTHING_KNOWN, Software, merged

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_LINKS_MAX = 40
"""As many as Linux follows: path_resolution(7)."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSIONED = re.compile(r"python(3\.\d{1,2})")
_ANY_PYTHON = re.compile(r"python(?:3(?:\.\d{1,2})?)?")


@dataclass(frozen=True, slots=True)
class Folder:
    """Mode and owner of a folder."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Underlay:
    """Links (path -> target) and unusual folders of a base. Paths are relative to the image's root, normalised."""

    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Folder] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.links or self.folders)

    def real(self, path: str) -> str:
        """Where a path leads, all links followed."""
        return self.trace(path)[-1] if path else path

    def place(self, path: str) -> str:
        """Where an entry goes: links are followed to its folder; the last part is replaced by what is written."""
        folder, name = posixpath.split(path)
        return posixpath.join(self.real(folder), name)

    def trace(self, path: str) -> list[str]:
        """Every path that is passed on the way, the real one last.

        Raises:
            ValueError: links that lead in a circle.
        """
        passed = [""]
        waiting = path.split("/")[::-1]
        followed = 0
        while waiting:
            part = waiting.pop()
            here = passed[-1]
            if part in ("", "."):
                continue
            if part == "..":
                passed.append(posixpath.dirname(here))
                continue
            here = posixpath.join(here, part)
            passed.append(here)
            if (target := self.links.get(here)) is not None:
                followed += 1
                if followed > _LINKS_MAX:
                    raise ValueError(f"the links at /{path} lead in a circle")
                passed.append("" if target.startswith("/") else posixpath.dirname(here))
                waiting += target.split("/")[::-1]
        return passed

    def below(self, root: str) -> Underlay:
        """What of it matters to entries at and below `root`."""
        seen = set(self.trace(root))
        tops = [self.real(root)]
        for link in sorted(self.links):
            if any(link.startswith(f"{top}/") for top in tops) and link not in seen:
                seen |= set(self.trace(link))
                tops.append(self.real(link))

        def matters(path: str) -> bool:
            return path in seen or any(path.startswith(f"{top}/") for top in tops)

        return Underlay(
            {path: target for path, target in sorted(self.links.items()) if matters(path)},
            {path: folder for path, folder in sorted(self.folders.items()) if matters(path)},
        )


NOTHING_UNUSUAL = Underlay()


@dataclass(frozen=True, slots=True)
class BaseTree:
    """pythons: X.Y -> absolute path of the interpreter itself. own_venv: /opt/venv is there and holds something."""

    underlay: Underlay
    pythons: Mapping[str, str]
    own_venv: bool
    software: Software = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a layer, and what its content says of software."""

    info: tarfile.TarInfo
    software: Software = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    """`file`, `link` or `folder`."""
    target: str = ""
    folder: Folder = Folder()
    software: Software = NOTHING_KNOWN


def read_tree(layers: Iterable[Iterable[Member]], path: str | None, venv: str) -> BaseTree:
    """Lay the layers over one another, the lowest first.

    Args:
        path: PATH of the image's configuration.
        venv: the folder that shall be ours, relative to the root.

    Raises:
        ValueError: links that lead in a circle.
    """
    nodes: dict[str, _Node] = {}
    for members in layers:
        nodes = _laid_over(nodes, members)
    links = {where: node.target for where, node in nodes.items() if node.kind == "link"}
    every = Underlay(links)
    folders = {where: node.folder for where, node in nodes.items() if node.kind == "folder" and node.folder != Folder()}
    top = every.real(venv)
    return BaseTree(
        Underlay({where: target for where, target in links.items() if not _is_file(where, nodes, every)}, folders),
        dict(_pythons(nodes, every, path or _DEFAULT_PATH)),
        any(where.startswith(f"{top}/") for where in nodes) or nodes.get(top, _Node("folder")).kind == "file",
        merged(node.software for _, node in sorted(nodes.items())),
    )


def _laid_over(lower: Mapping[str, _Node], members: Iterable[Member]) -> dict[str, _Node]:
    """https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts: these concern lower layers only."""
    upper: dict[str, _Node] = {}
    gone: set[str] = set()
    emptied: set[str] = set()
    for member in members:
        where = posixpath.normpath(f"/{member.info.name}").strip("/")
        folder, name = posixpath.split(where)
        if name == _OPAQUE:
            emptied.add(folder)
        elif name.startswith(_WHITEOUT):
            gone.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
        elif where:
            upper[where] = _node(member)
    emptied |= {where for where, node in upper.items() if node.kind != "folder"}
    kept = {
        where: node
        for where, node in lower.items()
        if where not in gone and not any(above in gone or above in emptied for above in _above(where))
    }
    return kept | upper


def _above(path: str) -> Iterator[str]:
    while path:
        path = posixpath.dirname(path)
        yield path


def _node(member: Member) -> _Node:
    info = member.info
    if info.isdir():
        return _Node("folder", folder=Folder(info.mode & 0o7777, info.uid, info.gid))
    if info.issym():
        return _Node("link", info.linkname)
    return _Node("file", software=member.software)


def _is_file(where: str, nodes: Mapping[str, _Node], links: Underlay) -> bool:
    try:
        found = nodes.get(links.real(where))
    except ValueError:
        return True  # a circle leads nowhere; nothing is ever written through it
    return found is not None and found.kind == "file"


def _pythons(nodes: Mapping[str, _Node], links: Underlay, path: str) -> Iterator[tuple[str, str]]:
    """The first of each version on PATH. A name without a version is judged by the file that it leads to."""
    found: dict[str, str] = {}
    for folder in path.split(":"):
        top = links.real(folder)
        for where in sorted(where for where in nodes if posixpath.dirname(where) == top):
            if not _ANY_PYTHON.fullmatch(posixpath.basename(where)) or not _is_file(where, nodes, links):
                continue
            real = links.real(where)
            named = _VERSIONED.fullmatch(posixpath.basename(where)) or _VERSIONED.fullmatch(posixpath.basename(real))
            if named:
                found.setdefault(named[1], f"/{real}")
    yield from found.items()
