"""deployment.yaml as it may be shown: what may be a secret is covered, also in a file that is not YAML. Pure."""

from __future__ import annotations

import re
from typing import Any

COVER = "••••••"
_WORDS = r"(?:password|passwd|passphrase|secret|token(?!iz|s\b)|api_?key|access_?key|private_?key|credential)"
_NAME = re.compile(_WORDS, re.IGNORECASE)
# `KEY: value`, `- KEY=value`, `{A: 1, KEY: value}`: of each name that sounds so, what stands behind it.
_KEY = rf"""["']?[\w.-]{{0,80}}{_WORDS}[\w.-]{{0,80}}["']?"""
_PAIR = re.compile(rf"({_KEY}\s*[:=]\s*)([^\s,}}\]#][^,}}\]]*)", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w://[^/\s:@]{0,200}:)[^/\s@]{1,200}(?=@)")
_BLOCK = re.compile(r"^[|>][+-]?\d?\s*(?:#.*)?$")
_REFERENCES = re.compile(r"""^\s*["']?secrets["']?\s*:""")


def covered(text: str) -> str:
    """The text, as long in lines, with `••••••` for what may be a secret.

    Values below `secrets:` are names of secrets, which the file is meant to show.
    """
    lines: list[str] = []
    block = references = -1
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth <= references:
            references = -1
        if line.strip() and depth <= block:
            block = -1
        if block >= 0:
            lines.append(" " * depth + COVER if line.strip() else line)
            continue
        if _REFERENCES.match(line):
            references = depth
        shown = line if references >= 0 else _PAIR.sub(_cover, line)
        if shown != line and _BLOCK.match((_PAIR.search(line) or line)[2].strip()):
            block = depth
        lines.append(_IN_ADDRESS.sub(rf"\1{COVER}", shown))
    return "\n".join(lines)


def hidden_values(text: str) -> frozenset[str]:
    """What `covered` covers, as far as it stands on one line: a finding may quote it."""
    found = {match[2].strip().strip("'\"") for line in text.splitlines() for match in _PAIR.finditer(line)}
    return frozenset(value for value in found if len(value) > 3)


def _cover(match: re.Match[str]) -> str:
    return match[1] + COVER


def is_secret(path: str) -> bool:
    """Whether the last part of a dotted path sounds like a secret's name; below `secrets` there are only names."""
    return ".secrets" not in path and _NAME.search(path.rpartition(".")[2]) is not None


def shown_value(path: str, value: Any) -> str:
    """One value of a specification, for a page."""
    if value is None:
        return "-"
    if is_secret(path):
        return COVER
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _IN_ADDRESS.sub(rf"\1{COVER}", text)
