"""What the packages can say to a person: every cause, fix and finding, read from their source. Pure.

From each place where an error, a `Problem` or a `Finding` is made, the words are followed back: through f-strings,
branches, constants, tables, returned values and arguments of callers. What cannot be known before it happens is a hole.
The way back is found by names, so it may lead to too much; where it ends early, a hole is left.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.words.source import Call, Function, Part, Row, Scope, Source, bare

HOLE = "\x00"
WORDS = frozenset(("cause", "fix", "message"))
_MANY = 48
_DEEP = 12
_KEPT = frozenset(("strip", "rstrip", "lstrip", "lower", "capitalize", "one_line", "str", "text", "expandtabs"))
_SENTENCE = re.compile(r"[a-z]{2,}[^a-z\x00]* [^a-z\x00]*[A-Za-z`]|[a-z]{2,} \x00|\x00 [a-z]{2,}")
_CODE = re.compile(r"^[a-z]+(_[a-z]+)*$")
_NAMES = frozenset(("name", "path", "text", "file", "url", "key", "kind", "pattern", "digest", "value"))
"""Fields that name things: what is given for them is no sentence."""

_OURS = frozenset(("RuntimeError", "AssertionError", "SystemExit", "TypeError", "NotImplementedError", "BadParameter"))
"""Exceptions for ourselves, or that the command line shows by itself."""

_MAKERS = {
    "Problem": ("code", "cause", "fix"),
    "problem": ("code", "cause", "fix"),
    "_problem": ("code", "cause", "fix"),
    "Finding": ("", "", "", "", "message"),
    "NewEvent": ("", "message"),
    "note": ("", "", "message"),
    "found": ("", "fix"),
    "cls": ("cause", "fix"),
    "__init__": ("cause", "fix"),
}
"""What makes something that is shown -> the names of its positional arguments."""


@dataclass(frozen=True)
class Message:
    """`text` has a NUL for each hole."""

    text: str
    place: str


def messages(source: Source) -> list[Message]:
    return _Search(source, WORDS, _SENTENCE).all()


def codes(source: Source) -> list[Message]:
    """The codes of all errors."""
    return _Search(source, frozenset(("code",)), _CODE).all()


class _Search:
    def __init__(self, source: Source, wanted: frozenset[str], shape: re.Pattern[str]) -> None:
        self._source = source
        self._wanted = wanted
        self._shape = shape
        self._found: dict[str, Message] = {}
        self._known: dict[int, list[str]] = {}
        self._asked: set[tuple[str, str]] = set()
        self._queue: list[tuple[str, str]] = []

    def all(self) -> list[Message]:
        makers = {**dict.fromkeys(self._source.errors, ("cause", "fix")), **_MAKERS}
        for maker, names in makers.items():
            for call, scope in self._source.calls[maker]:
                self._made(call, names, scope)
        for node, module in (row for rows in self._source.classes.values() for row in rows):
            self._class_code(node, Scope(module))
        for function in [each for same in self._source.functions.values() for each in same]:
            self._tables(function)
        while self._queue:
            self._follow(*self._queue.pop())
        return sorted(self._found.values(), key=lambda each: each.place)

    # --- where words begin --------------------------------------------------------------------------------------

    def _made(self, call: ast.Call, names: tuple[str, ...], scope: Scope) -> None:
        given = [(keyword.arg or "", keyword.value) for keyword in call.keywords]
        for name, argument in (*zip(names, call.args, strict=False), *given):
            if name in self._wanted:
                self._emit(argument, scope)

    def _class_code(self, node: ast.ClassDef, scope: Scope) -> None:
        for row in node.body:
            if "code" in self._wanted and isinstance(row, ast.Assign) and ast.unparse(row.targets[0]) == "code":
                self._emit(row.value, scope)

    def _tables(self, function: Function) -> None:
        """Words that leave a function in pairs (`yield cause, fix`), by `raise`, or in a mapping with those keys."""
        for node in function.ends:
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in self._wanted:
                        self._emit(value, function.scope)
            elif "code" not in self._wanted:
                for row in _leaving(node, function, self._source.errors):
                    self._emit(row, function.scope)

    def _follow(self, kind: str, name: str) -> None:
        """What callers give for a parameter (kind: `file:function`), or makers for a field (kind is empty)."""
        path, _, called = kind.partition(":")
        for function in (each for each in self._source.functions.get(called, ()) if each.module.path == path):
            index = function.parameters.index(name) if name in function.parameters else -1
            for call, scope in self._source.calls[called]:
                if index >= 0 and function in self._source.near(call.func, scope.module):
                    self._given((call, scope), index, name)
        for maker, index in () if kind else self._source.fields.get(name, ()):
            for made in self._source.calls[maker]:
                self._given(made, index, name)

    def _given(self, made: Call, index: int, name: str) -> None:
        call, scope = made
        for argument in (*call.args[index : index + 1], *(row.value for row in call.keywords if row.arg == name)):
            self._emit(argument, scope)

    def _ask(self, kind: str, name: str) -> None:
        if (kind, name) not in self._asked:
            self._asked.add((kind, name))
            self._queue.append((kind, name))

    def _emit(self, node: ast.expr, scope: Scope) -> None:
        for text in self._texts(node, scope, 0):
            self._keep(text, scope, node)

    def _keep(self, text: str, scope: Scope, node: ast.expr) -> None:
        words = re.sub("\x00+", HOLE, text)
        if self._shape.search(words):
            self._found.setdefault(words, Message(words, f"{scope.module.path}:{getattr(node, 'lineno', 0)}"))

    # --- what an expression may become ---------------------------------------------------------------------------

    def _texts(self, node: ast.expr, scope: Scope, depth: int) -> list[str]:
        if id(node) not in self._known:
            self._known[id(node)] = [HOLE]  # what leads back to itself
            found = list(dict.fromkeys(self._expanded(node, scope, depth + 1) if depth < _DEEP else [HOLE]))
            if len(found) > _MANY:
                for each in found:
                    self._keep(each, scope, node)
                found = [HOLE]
            self._known[id(node)] = found
        return self._known[id(node)]

    def _expanded(self, node: ast.expr, scope: Scope, depth: int) -> list[str]:
        match node:
            case Part():
                return self._component(node, scope, depth)
            case ast.Constant(value=str(value)):
                return [value]
            case ast.Name():
                return self._name(node, scope, depth)
            case ast.Call():
                return self._call(node, scope, depth)
            case ast.JoinedStr(values=values):
                return self._joined(values, scope, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right], scope, depth)
            case ast.Attribute(attr=name):
                if name not in _NAMES:
                    self._ask("", name)
                return [HOLE]
        return self._of(_alternatives(node), scope, depth) or [HOLE]

    def _of(self, nodes: Iterable[ast.expr], scope: Scope, depth: int) -> list[str]:
        return [text for node in nodes for text in self._texts(node, scope, depth)]

    def _of_rows(self, rows: Iterable[Row], depth: int) -> list[str]:
        return [text for node, scope in rows for text in self._texts(node, scope, depth)]

    def _joined(self, nodes: list[ast.expr], scope: Scope, depth: int) -> list[str]:
        """Every combination; where there are too many, the parts with most alternatives are messages of their own."""
        parts = [list(self._texts(node, scope, depth)) for node in nodes]
        while math.prod(map(len, parts)) > _MANY:
            largest = max(parts, key=len)
            for each in largest:
                self._keep(each, scope, nodes[0])
            largest[:] = [HOLE]
        return ["".join(each) for each in itertools.product(*parts)]

    def _name(self, node: ast.Name, scope: Scope, depth: int) -> list[str]:
        function = scope.function
        while function is not None:
            values = function.bindings.get(node.id, [])
            if node.id in function.parameters:
                self._ask(f"{function.module.path}:{function.name}", node.id)
                return [HOLE, *self._of(values, scope, depth)]
            if values:
                return self._of(values, scope, depth)
            function = function.outer
        return self._of_rows(self._source.constant(node.id, scope.module), depth) or [HOLE]

    def _component(self, part: Part, scope: Scope, depth: int) -> list[str]:
        rows = (self._elements if part.each else self._values)(part.of, scope, depth)
        if part.index is None:
            return self._of_rows(rows, depth) or [HOLE]
        picked = [
            (row.elts[part.index], where)
            for row, where in rows
            if isinstance(row, ast.Tuple) and part.index < len(row.elts)
        ]
        return self._of_rows(picked, depth) or [HOLE]

    def _values(self, node: ast.expr, scope: Scope, depth: int) -> list[Row]:
        """The expressions that one may stand for, e.g. the tuples that a function returns."""
        match node:
            case ast.Call(func=ast.Attribute(attr="get", value=table), args=arguments):
                return [*self._elements(table, scope, depth), *((each, scope) for each in arguments[1:])]
            case ast.Call(func=called):
                return [row for each in self._source.near(called, scope.module) for row in each.returned]
            case ast.Subscript(value=table):
                return self._elements(table, scope, depth)
            case ast.Name(id=name) if depth < _DEEP:
                bound = [(value, scope) for value in scope.bound(name)] + self._source.constant(name, scope.module)
                return [row for value, where in bound for row in self._values(value, where, depth + 1)]
        inner = _alternatives(node)
        return [row for each in inner for row in self._values(each, scope, depth)] if inner else [(node, scope)]

    def _elements(self, node: ast.expr, scope: Scope, depth: int) -> list[Row]:
        """The expressions that iterating, or looking up, may give."""
        match node:
            case ast.Tuple(elts=rows) | ast.List(elts=rows) | ast.Set(elts=rows) | ast.Dict(values=rows):
                return [(row, scope) for row in rows]
            case ast.Call(func=ast.Attribute(attr="items", value=table)):
                return [row for value, where in self._values(table, scope, depth) for row in _pairs(value, where)]
            case ast.Call(func=ast.Attribute(attr="values", value=table)):
                return self._elements(table, scope, depth)
            case ast.Call(func=called):
                return self._yielded(called, scope)
            case ast.GeneratorExp(elt=row) | ast.ListComp(elt=row):
                return [(row, scope)]
            case ast.Name(id=name) if depth < _DEEP:
                bound = [(value, scope) for value in scope.bound(name)] + self._source.constant(name, scope.module)
                return [row for value, where in bound for row in self._elements(value, where, depth + 1)]
        return []

    def _yielded(self, called: ast.expr, scope: Scope) -> list[Row]:
        """Of a generator, or of those that a loop goes through: `for check in (_one, _other): yield from check()`."""
        looped = [value for value in scope.bound(bare(called)) if isinstance(value, Part)]
        names = [called, *(row for part in looped for row, _ in self._elements(part.of, scope, 0))]
        return [row for name in names for each in self._source.near(name, scope.module) for row in each.yielded]

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> list[str]:
        match node:
            case ast.Call(func=ast.Attribute(attr="join"), args=[rows]):
                for row, where in self._elements(rows, scope, depth):
                    self._emit(row, where)
                return [HOLE]
            case ast.Call(func=ast.Attribute(attr="get", value=table), args=arguments):
                found = self._of_rows(self._elements(table, scope, depth), depth)
                return found + self._of(arguments[1:], scope, depth) or [HOLE]
            case ast.Call(func=ast.Attribute(attr="format", value=template)):
                return [re.sub(r"\{\w*\}", HOLE, text) for text in self._texts(template, scope, depth)]
            case ast.Call(func=ast.Name(id="next"), args=[ast.GeneratorExp(elt=first), *rest]):
                return self._of([first, *rest], scope, depth)
            case ast.Call(func=ast.Attribute(attr=name, value=kept)) if name in _KEPT:
                return self._texts(kept, scope, depth)
            case ast.Call(func=ast.Name(id=name), args=[kept, *_]) if name in _KEPT:
                return self._texts(kept, scope, depth)
        called = self._source.near(node.func, scope.module)
        return self._of_rows((row for each in called for row in each.returned), depth) or [HOLE]


def _alternatives(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.IfExp(body=body, orelse=other):
            return [body, other]
        case ast.BoolOp(values=values):
            return values
        case ast.Subscript(value=value, slice=ast.Slice()):
            return [value]
        case ast.NamedExpr(value=value) | ast.Await(value=value) | ast.FormattedValue(value=value):
            return [value]
    return []


def _pairs(node: ast.expr, scope: Scope) -> Iterator[Row]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield ast.Tuple(elts=[key or ast.Constant(""), value], ctx=ast.Load()), scope


def _leaving(node: ast.AST, function: Function, errors: set[str]) -> list[ast.expr]:
    """The words of a `yield`, of a returned tuple, and of an exception of python's whose text is taken over."""
    match node:
        case ast.Raise(exc=ast.Call(func=called, args=[first, *_])):
            return [first] if bare(called) not in errors | _OURS else []
        case ast.Yield(value=ast.Tuple(elts=rows)) | ast.Return(value=ast.Tuple(elts=rows)):
            return rows
        case ast.Yield(value=ast.IfExp(body=ast.Tuple(elts=rows))):
            return rows
        case ast.Yield(value=row) if row is not None:
            return [row]
        case ast.Return(value=row) if row is not None and function.name == "available":
            return [row]
    return []
