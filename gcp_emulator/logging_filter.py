"""The query language of Cloud Logging, which Cloud Build's lists speak, too. Pure.

https://cloud.google.com/logging/docs/view/logging-query-language, https://google.aip.dev/160. Functions
(`sample`, `ip_in_net` …) are not known. OR binds more tightly than AND.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]
Judge = Callable[[Json], bool]
Test = Callable[[Any], bool]

# https://github.com/googleapis/googleapis/blob/master/google/logging/type/log_severity.proto
SEVERITIES = {
    **{"DEFAULT": 0, "DEBUG": 100, "INFO": 200, "NOTICE": 300, "WARNING": 400},
    **{"ERROR": 500, "CRITICAL": 600, "ALERT": 700, "EMERGENCY": 800},
}
_TOKEN = re.compile(
    r"\s*(?:--[^\n]*|(?P<op>=~|!~|!=|>=|<=|[=<>:()])|(?P<path>(?:[^\s()=!<>:\"~]|\"(?:\\.|[^\"\\])*\"|!(?![=~]))+))"
)
_PART = re.compile(r'"((?:\\.|[^"\\])*)"|([^."]+)')
_COMPARE = frozenset({"=", "!=", ">", "<", ">=", "<=", ":", "=~", "!~"})


class BadFilter(Exception):
    """Its words say what is not understood."""


def parse(text: str) -> Judge:
    """What a filter says of a message as JSON has it (`shown`). Empty: all are meant. Raises BadFilter."""
    tokens = _tokens(text)
    if not tokens:
        return lambda _: True
    reader = _Reader(tokens)
    judge = reader.all_of()
    if reader.next is not None:
        raise BadFilter(f"Unparseable filter: syntax error at '{reader.next}'")
    return judge


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadFilter(f"Unparseable filter: syntax error at position {at}")
        found += [token for token in (match["op"], match["path"]) if token]
        at = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> str:
        token = self.next
        if token is None:
            raise BadFilter("Unparseable filter: it ends too soon")
        self._at += 1
        return token

    def all_of(self) -> Judge:
        judges = [self.one_of()]
        while self.next not in (None, ")"):
            if self.next == "AND":
                self.take()
            judges.append(self.one_of())
        return lambda row: all(judge(row) for judge in judges)

    def one_of(self) -> Judge:
        judges = [self.term()]
        while self.next == "OR":
            self.take()
            judges.append(self.term())
        return lambda row: any(judge(row) for judge in judges)

    def term(self) -> Judge:
        token = self.take()
        if token == "NOT":  # noqa: S105 - a word of the language
            inner = self.term()
            return lambda row: not inner(row)
        if token == "(":  # noqa: S105
            inner = self.all_of()
            self._close()
            return inner
        if token in _COMPARE or token in (")", "AND", "OR"):
            raise BadFilter(f"Unparseable filter: syntax error at '{token}'")
        if token.startswith("-") and len(token) > 1:
            self._tokens[self._at - 1] = token[1:]
            self._at -= 1
            inner = self.term()
            return lambda row: not inner(row)
        if self.next in _COMPARE:
            return self._comparison(_path(token), self.take())
        return lambda row: _anywhere(row, _text(token).lower())

    def _comparison(self, path: list[str], operator: str) -> Judge:
        if self.next == "(":
            self.take()
            values = [_text(self.take())]
            while self.next == "OR":
                self.take()
                values.append(_text(self.take()))
            self._close()
        else:
            values = [_text(self.take())]
        tests = [_test(path[-1], operator, value) for value in values]
        return lambda row: any(test(_lookup(row, path)) for test in tests)

    def _close(self) -> None:
        if self.take() != ")":
            raise BadFilter("Unparseable filter: a ) is missing")


def _path(token: str) -> list[str]:
    return [match[1] if match[1] is not None else match[2] for match in _PART.finditer(token)] or [""]


def _text(token: str) -> str:
    whole = re.fullmatch(r'"((?:\\.|[^"\\])*)"', token)
    return re.sub(r"\\(.)", r"\1", whole[1]) if whole else token


def _lookup(row: Any, path: list[str]) -> Any:
    """None where it is not there. A list is asked for what any of its items says."""
    for at, part in enumerate(path):
        if isinstance(row, list):
            return [found for one in row if (found := _lookup(one, path[at:])) is not None]
        if not isinstance(row, Mapping):
            return None
        row = row.get(part, row.get(_camel(part)))
    return row


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def _test(field: str, operator: str, wanted: str) -> Test:
    if operator in ("!=", "!~"):
        same = _test(field, operator.replace("!", "=") if operator == "!~" else "=", wanted)
        return lambda value: not same(value)
    if operator == "=~":
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise BadFilter(f"Unparseable filter: {wanted!r} is no regular expression ({error})") from error
        return _each(lambda value: isinstance(value, str) and pattern.search(value) is not None)
    if operator == ":":
        return _each(lambda value: wanted == "*" or wanted.lower() in _said(value).lower())
    rank = _rank(field, wanted)
    if operator == "=":
        return _each(lambda value: bool(_rank(field, _said(value)) == rank))
    return _each(lambda value: _compare(_rank(field, _said(value)), operator, rank))


def _each(test: Test) -> Test:
    return lambda value: any(map(test, value)) if isinstance(value, list) else value is not None and test(value)


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rank(field: str, text: str) -> Any:
    """By time, severity or number where both sides are such; else by the letters, small or large."""
    if field.lower().endswith(("timestamp", "time")):
        return _time(text)
    if field == "severity" and text.upper() in SEVERITIES:
        return float(SEVERITIES[text.upper()])
    try:
        return float(text)
    except ValueError:
        return text.lower()


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadFilter(f"Unparseable filter: {text!r} is no timestamp; write 2026-01-31T10:00:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _compare(one: Any, operator: str, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    return bool({">": one > other, "<": one < other, ">=": one >= other, "<=": one <= other}[operator])


def _anywhere(value: Any, wanted: str) -> bool:
    if isinstance(value, Mapping):
        return any(_anywhere(inner, wanted) for inner in value.values())
    if isinstance(value, list):
        return any(_anywhere(inner, wanted) for inner in value)
    return wanted in _said(value).lower()
