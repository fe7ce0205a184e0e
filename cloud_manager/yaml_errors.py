"""What a YAML parser complains of, in words for the person who wrote the file. Pure."""

from __future__ import annotations

import yaml

_IN_WORDS = (
    # (part of the parser's problem, what to say); libyaml and PyYAML's own parser word some of them differently.
    ("mapping values are not allowed", "a `:` is not expected here; quote the value, or check the indentation"),
    ("could not find expected ':'", "a `:` is missing after the key"),
    ("expected ',' or ']'", "the list is not closed: `,` or `]` is missing"),
    ("expected ',' or '}'", "the mapping is not closed: `,` or `}` is missing"),
    ("did not find expected key", "the line does not fit the ones above; check the indentation"),
    ("did not find expected '-' indicator", "the line does not fit the list above; check the indentation"),
    ("expected <block end>", "the line does not fit the ones above; check the indentation"),
    ("block sequence entries are not allowed", "a list item `-` is not expected here; check the indentation"),
    ("unexpected end of stream", "the file ends before the quoted text does; a quote is missing"),
    ("unknown escape character", "an unknown escape in double quotes; use single quotes"),
    ("found undefined tag handle", "tags such as `!name!thing` are refused; write plain values"),
    ("found duplicate anchor", "the same anchor is defined twice"),
    ("incompatible YAML document", "the %YAML line asks for a version that is not known; leave it out"),
    ("found duplicate %", "a %YAML or %TAG line is written twice"),
    ("expected <document start>", "the file must begin with `build:` or `deploy:`, or a `---` is missing"),
    ("did not find expected <document start>", "the line does not belong to what is above; check the indentation"),
)


def in_plain_words(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Line and column, from 1, and what is wrong there."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return 1, 1, f"not YAML: {' '.join(str(error).split())[:200]}"
    return mark.line + 1, mark.column + 1, _message(error, text, mark.line, mark.column)


def _message(error: yaml.YAMLError, text: str, line: int, column: int) -> str:
    problem = str(getattr(error, "problem", "") or "")
    if "cannot start any token" in problem:
        return _bad_beginning(text, line, column)
    opened = _opened(error, line)
    for part, words in _IN_WORDS:
        if part in problem:
            return words + opened
    context = str(getattr(error, "context", "") or "")
    return f"not YAML: {problem}{f' ({context})' if context else ''}{opened}"


def _opened(error: yaml.YAMLError, line: int) -> str:
    begun = getattr(error, "context_mark", None)
    return f" (begun in line {begun.line + 1})" if begun is not None and begun.line != line else ""


def _bad_beginning(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    character = lines[line][column : column + 1] if line < len(lines) else ""
    if character == "\t":
        return "a tab; YAML indents with spaces"
    return f"a value cannot begin with `{character}`; put it in quotes" if character else "a value cannot begin here"
