"""YAML text to a tree that knows where everything was written. Pure; no tag ever constructs an object.

The tree is built from the parser's events and not by `yaml.compose`: that one recurses in C, so a file of a few
thousand brackets ends the process. Events can be counted, and reading stops at the limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import yaml

from cloud_manager.finding import Finding, join, quoted
from cloud_manager.yaml_errors import in_plain_words

MAX_NODES = 20_000
"""Nodes of a file, each alias counted as often as it is used."""
MAX_DEPTH = 32

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_ORDINARY_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_ORDINARY_BOOL = frozenset(("true", "false"))
# The set of https://yaml.org/spec/1.1/#c-printable; a parser may stop at anything else with poor words.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Escapes in double quotes can still write these; no argument, variable or database text may hold them.
_UNPRINTABLE_VALUE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Position:
    """Where something begins; both numbers start at 1, columns count characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. `text` is what was written, `value` what YAML makes of it.

    trap: True where YAML 1.1 reads what few people mean: `010` (8), `8:30` (510), `on` (true).
    """

    value: str | int | float | bool | None
    text: str
    position: Position
    trap: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Entry:
    """A value under its key; `position` is the key's."""

    value: Node
    position: Position


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, Entry]
    position: Position

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.value if entry else None

    def put(self, key: str, value: Node, position: Position | None = None) -> Mapping:
        """A copy with `key` set; its own place is kept, a new key stands at `position` or at its value."""
        old = self.entries.get(key)
        place = position or (old.position if old else value.position)
        return replace(self, entries={**self.entries, key: Entry(value, place)})

    def without(self, *keys: str) -> Mapping:
        return replace(self, entries={key: entry for key, entry in self.entries.items() if key not in keys})


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Parsed:
    """The tree, or None where nothing can be made of the text; `findings` says what is wrong."""

    root: Mapping | None
    findings: tuple[Finding, ...] = ()


def parse(text: str, file: str) -> Parsed:
    """The tree of one YAML document whose root is a mapping.

    Never raises for what the text holds: syntax errors, second documents, tags, duplicate keys, aliases of
    themselves, too many nodes (20,000, aliases expanded) and too much depth (32) become findings.
    """
    odd = _UNPRINTABLE.search(text)
    if odd:
        return Parsed(None, (_unprintable(text, odd.start(), file),))
    builder = _Builder(text, file)
    try:
        root = builder.document()
    except _Stop as stop:
        return Parsed(None, (*builder.findings, stop.finding))
    except yaml.YAMLError as error:
        line, column, message = in_plain_words(error, text)
        return Parsed(None, (*builder.findings, Finding(file, line, column, "", message)))
    return Parsed(root, tuple(builder.findings))


def place_of(text: str, index: int) -> Position:
    """Line and column of a character of `text`."""
    before = text[:index]
    return Position(before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


def _unprintable(text: str, index: int, file: str) -> Finding:
    place = place_of(text, index)
    name = "a NUL character" if text[index] == "\0" else f"the control character U+{ord(text[index]):04X}"
    return Finding(file, place.line, place.column, "", f"{name} is not allowed in YAML; is this a text file?")


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@dataclass(frozen=True, slots=True)
class _Built:
    """A node with the number of nodes in it, aliases expanded, and how many levels it has."""

    node: Node
    size: int
    height: int


class _Builder:
    def __init__(self, text: str, file: str) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._rules = yaml.SafeLoader("")
        self._anchors: dict[str, _Built] = {}
        self._open: set[str] = set()
        self._count = 0

    def document(self) -> Mapping | None:
        next(self._events)  # the beginning of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._note(Position(1, 1), "", "the file is empty")
            return None
        root = self._node(next(self._events), "", 1).node
        next(self._events)  # the end of the document
        more = next(self._events)
        if not isinstance(more, yaml.StreamEndEvent):
            self._stop(_place(more), "", "a second document begins here; a file holds one")
        return self._root(root)

    def _root(self, root: Node) -> Mapping | None:
        if isinstance(root, Mapping):
            return root
        empty = isinstance(root, Scalar) and root.value is None
        what = "a list" if isinstance(root, Sequence) else "a single value"
        self._note(
            root.position, "", "the file is empty" if empty else f"expected `build:` and `deploy:` sections, got {what}"
        )
        return None

    def _node(self, event: yaml.Event, path: str, depth: int) -> _Built:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        self._grow(1, depth, event, path)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor:
            self._open.add(anchor)
        built = self._content(event, path, depth)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = built
        return built

    def _content(self, event: yaml.Event, path: str, depth: int) -> _Built:
        if isinstance(event, yaml.ScalarEvent):
            return _Built(self._scalar(event, path), 1, 1)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, path, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, path, depth)
        raise AssertionError(f"a parser gives no {event} where a value begins")

    def _alias(self, event: yaml.AliasEvent, path: str, depth: int) -> _Built:
        name = event.anchor or ""
        if name in self._open:
            self._stop(_place(event), path, f"the alias *{name[:40]} refers to itself")
        if name not in self._anchors:
            self._stop(_place(event), path, f"the alias *{name[:40]} is not defined above")
        built = self._anchors[name]
        self._grow(built.size, depth + built.height - 1, event, path)
        return built

    def _grow(self, size: int, depth: int, event: yaml.Event, path: str) -> None:
        self._count += size
        if self._count > MAX_NODES:
            self._stop(_place(event), path, f"more than {MAX_NODES:,} values, aliases expanded; that is no deployment")
        if depth > MAX_DEPTH:
            self._stop(_place(event), path, f"nested deeper than {MAX_DEPTH} levels")

    def _scalar(self, event: yaml.ScalarEvent, path: str) -> Scalar:
        place, text = _place(event), event.value
        plain = event.implicit[0]
        tag = self._tag_of(event)
        odd = _UNPRINTABLE_VALUE.search(text)
        if odd:
            message = f"the value holds the character U+{ord(odd.group()):04X}, which no program can be given"
            self._note(place, path, message)
        if event.tag is not None and tag not in _SCALAR_TAGS:
            self._tag(place, path, tag)
        try:
            value = self._value(tag, text)
        except (ValueError, KeyError, IndexError, OverflowError):  # e.g. `0x_`: looks like a number, and is none
            value = text
        return Scalar(value, text, place, trap=plain and _is_trap(value, text))

    def _tag_of(self, event: yaml.ScalarEvent) -> str:
        if event.tag == "!":
            return _TAG + "str"
        return str(event.tag or self._rules.resolve(yaml.ScalarNode, event.value, event.implicit))  # type: ignore[no-untyped-call]

    def _value(self, tag: str, text: str) -> str | int | float | bool | None:
        node = yaml.ScalarNode(tag, text)
        if tag == _TAG + "int":
            return int(self._rules.construct_yaml_int(node))
        if tag == _TAG + "float":
            return float(self._rules.construct_yaml_float(node))
        if tag == _TAG + "bool":
            return bool(self._rules.construct_yaml_bool(node))
        return None if tag == _TAG + "null" else text

    def _sequence(self, event: yaml.SequenceStartEvent, path: str, depth: int) -> _Built:
        if event.tag not in (None, "!", _TAG + "seq"):
            self._tag(_place(event), path, str(event.tag))
        parts: list[_Built] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            parts.append(self._node(item, f"{path}[{len(parts)}]", depth + 1))
        return _around(Sequence(tuple(part.node for part in parts), _place(event)), parts)

    def _mapping(self, event: yaml.MappingStartEvent, path: str, depth: int) -> _Built:
        if event.tag not in (None, "!", _TAG + "map"):
            self._tag(_place(event), path, str(event.tag))
        parts: list[_Built] = []
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event_of_key := next(self._events), yaml.MappingEndEvent):
            key = self._node(event_of_key, path, depth + 1)
            name = self._key(key.node, path)
            value = self._node(next(self._events), join(path, name or "?"), depth + 1)
            parts += [key, value]
            if name == "<<" and isinstance(event_of_key, yaml.ScalarEvent) and event_of_key.implicit[0]:
                merged = {**self._merged(value.node, path), **merged}
            elif name is not None:
                self._add(entries, name, Entry(value.node, _place(event_of_key)), path)
        return _around(Mapping({**merged, **entries}, _place(event)), parts)

    def _key(self, node: Node, path: str) -> str | None:
        """Keys are taken as written: `on:` is the key `on`, and not the value true."""
        if isinstance(node, Scalar):
            return node.text
        self._note(node.position, path, "a key must be a word, not a list or a mapping")
        return None

    def _add(self, entries: dict[str, Entry], name: str, entry: Entry, path: str) -> None:
        if name in entries:
            first = entries[name].position.line
            message = f"duplicate key: written in line {first} and again in line {entry.position.line}"
            self._note(entry.position, join(path, name), message)
        else:
            entries[name] = entry

    def _merged(self, node: Node, path: str) -> dict[str, Entry]:
        """What `<<` brings in; of several mappings the first wins: https://yaml.org/type/merge.html"""
        sources = node.items if isinstance(node, Sequence) else (node,)
        found: dict[str, Entry] = {}
        for source in sources:
            if isinstance(source, Mapping):
                found = {**source.entries, **found}
            else:
                self._note(source.position, join(path, "<<"), "`<<` takes a mapping or a list of mappings")
        return found

    def _tag(self, place: Position, path: str, tag: str) -> None:
        short = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self._note(place, path, f"the tag {quoted(short)} is refused; write plain values without tags")

    def _note(self, place: Position, path: str, message: str) -> None:
        self.findings.append(Finding(self._file, place.line, place.column, path, message))

    def _stop(self, place: Position, path: str, message: str) -> None:
        raise _Stop(Finding(self._file, place.line, place.column, path, message))


def _around(node: Node, parts: list[_Built]) -> _Built:
    size = 1 + sum(part.size for part in parts)
    return _Built(node, size, 1 + max((part.height for part in parts), default=0))


def _place(event: yaml.Event) -> Position:
    mark = event.start_mark
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _is_trap(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return text.lower() not in _ORDINARY_BOOL
    if isinstance(value, int):
        return not _ORDINARY_INT.fullmatch(text)
    return isinstance(value, float) and ":" in text
