"""The work sheet of a translation: notes for the events, findings for the person, and moves within the tree. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from cloud_manager.finding import Finding, one_line, quoted
from cloud_manager.yaml_source import Mapping, Node, Position, Scalar, Sequence

Rule = Callable[["Translation", Mapping, str], Mapping]


@dataclass
class Translation:
    """One translation of one file, which is called `file` in every line."""

    file: str
    _notes: list[tuple[Position, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def note(self, at: Position, path: str, text: str) -> None:
        self._notes.append((at, one_line(f"{self.file}:{at.line}:{at.column}: {path}: {text}")))

    @property
    def notes(self) -> tuple[str, ...]:
        """In the order of the file, each once."""
        ordered = sorted(self._notes, key=lambda note: (note[0].line, note[0].column))
        return tuple(dict.fromkeys(line for _, line in ordered))

    def wrong(self, at: Position, path: str, message: str) -> None:
        self.findings.append(Finding(self.file, at.line, at.column, path, message))

    def section(self, parent: Mapping, key: str, path: str, model: type[BaseModel], rule: Rule) -> Mapping:
        """`parent` with the section `key` translated; a section with nothing in it is an empty one."""
        node = parent.get(key)
        if node is None:
            return parent
        if isinstance(node, Scalar) and node.value is None:
            node = Mapping({}, node.position)
        if not isinstance(node, Mapping):
            return parent  # the schema says that a mapping is expected
        return parent.put(key, said(rule(self, node, path), model))

    def rename(self, mapping: Mapping, path: str, old: str, new: str) -> Mapping:
        """The alias `old` becomes `new`. Both with the same value are one; with different values an error."""
        alias = mapping.entries.get(old)
        if alias is None:
            return mapping
        rest, present = mapping.without(old), mapping.get(new)
        if unsaid(alias.value):
            return rest
        if present is not None and not unsaid(present):
            if not same(present, alias.value):
                message = f"`{old}` and `{new}` mean the same and differ; keep one (`{new}`)"
                self.wrong(alias.position, f"{path}.{old}", message)
            return rest
        self.note(alias.position, f"{path}.{old}", f"read as `{new}`")
        return rest.put(new, alias.value, alias.position)

    def word(self, mapping: Mapping, path: str, key: str, known: dict[str, str]) -> Mapping:
        """The word under `key` by the table `known`, in any letter case; an unknown one is an error."""
        node = mapping.get(key)
        if not isinstance(node, Scalar) or unsaid(node):
            return mapping
        meant = known.get(node.text.lower().strip())
        if meant is None:
            self.wrong(node.position, f"{path}.{key}", expected_word(node.text, known))
            return mapping.without(key)
        if meant != node.text:
            self.note(node.position, f"{path}.{key}", f"{quoted(node.text)} read as {meant}")
        return mapping.put(key, text(node, meant))


def expected_word(given: str, known: dict[str, str]) -> str:
    meant = sorted(set(known.values()))
    close = difflib.get_close_matches(given.lower()[:40], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"expected {' or '.join(meant)}, got {quoted(given)}{hint}"


def unsaid(node: Node | None) -> bool:
    """TANGO's tools write '' or nothing for what nobody has said."""
    return node is None or (isinstance(node, Scalar) and (node.value is None or node.text.strip() == ""))


def said(mapping: Mapping, model: type[BaseModel]) -> Mapping:
    """Without the known keys that have no value; an unknown key stays, so that it is reported."""
    return mapping.without(*(key for key in model.model_fields if key in mapping.entries and unsaid(mapping.get(key))))


def same(one: Node, other: Node) -> bool:
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return one.text == other.text
    if isinstance(one, Sequence) and isinstance(other, Sequence) and len(one.items) == len(other.items):
        return all(same(first, second) for first, second in zip(one.items, other.items, strict=True))
    return False


def text(node: Scalar, value: str | None = None) -> Scalar:
    """The scalar as text: `value`, or what was written."""
    words = node.text if value is None else value
    return replace(node, value=words, text=words, trap=False)


def number(node: Scalar, value: float) -> Scalar:
    return replace(node, value=value, text=str(value), trap=False)


def as_written(node: Node) -> Node:
    """A number, a yes or a date becomes the text that was written; an empty value stays, as an error to come."""
    return text(node) if isinstance(node, Scalar) and node.value is not None else node


def flat(node: Node | None) -> tuple[Node, ...]:
    """The items of a list, of lists within it, or a single value; without empty ones.

    The code generator appends lists to lists where it means to extend them.
    """
    if node is None or unsaid(node):
        return ()
    if not isinstance(node, Sequence):
        return (node,)
    return tuple(
        part
        for item in node.items
        for part in (flat(item) if isinstance(item, Sequence) else (item,))
        if not unsaid(part)
    )


def listed(items: Iterable[Node], position: Position) -> Sequence:
    return Sequence(tuple(items), position)
