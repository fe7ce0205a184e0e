"""The source of packages, by name: functions, calls, constants, fields, imports. Pure."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Bindings = dict[str, list[ast.expr]]
_ROOTS = frozenset(("DeployError", "BuildError"))


@dataclass
class Module:
    path: str
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)
    """Name -> the end of the path of the file that it comes from."""

    def source_of(self, name: str) -> str:
        return self.imports.get(name, self.path)


@dataclass(eq=False)
class Function:
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    module: Module
    method: bool
    outer: Function | None
    ends: list[ast.AST] = field(default_factory=list)
    """Its `return`, `yield` and `raise`, and the mappings in it."""

    @property
    def parameters(self) -> list[str]:
        spec = self.node.args
        names = [each.arg for each in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
        return names[1:] if self.method and names[:1] in (["self"], ["cls"]) else names

    @cached_property
    def bindings(self) -> Bindings:
        return _bindings(ast.walk(self.node))

    @cached_property
    def scope(self) -> Scope:
        return Scope(self.module, self)

    @cached_property
    def returned(self) -> list[Row]:
        return [(node.value, self.scope) for node in self.ends if isinstance(node, ast.Return) and node.value]

    @cached_property
    def yielded(self) -> list[Row]:
        return [(node.value, self.scope) for node in self.ends if isinstance(node, ast.Yield) and node.value]


@dataclass(frozen=True, eq=False)
class Scope:
    """Where an expression stands."""

    module: Module
    function: Function | None = None

    def bound(self, name: str) -> list[ast.expr]:
        return self.function.bindings.get(name, []) if self.function else []


Row = tuple[ast.expr, Scope]
Call = tuple[ast.Call, Scope]


class Part(ast.Name):
    """Stands for a component of a value, or of what iterating over it gives: `for name, text in rows`."""

    def __init__(self, of: ast.expr, index: int | None, *, each: bool) -> None:
        super().__init__(id="", ctx=ast.Load())
        self.of, self.index, self.each = of, index, each


class Source:
    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        """files: (name to show, text)."""
        self.modules = [Module(name, ast.parse(text)) for name, text in files]
        self.functions: dict[str, list[Function]] = defaultdict(list)
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.classes: dict[str, list[tuple[ast.ClassDef, Module]]] = defaultdict(list)
        self._constants: dict[str, list[tuple[Module, ast.expr]]] = defaultdict(list)
        for module in self.modules:
            self._read(module)
        self.errors = self._errors()

    def _read(self, module: Module) -> None:
        module.imports = _imports(module.tree)
        for name, values in _bindings(iter(module.tree.body)).items():
            self._constants[name] += [(module, value) for value in values]
        self._descend(module, module.tree, None)

    def _descend(self, module: Module, node: ast.AST, inside: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            here = inside
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                here = Function(child.name, child, module, isinstance(node, ast.ClassDef), inside)
                self.functions[child.name].append(here)
            elif isinstance(child, ast.ClassDef):
                self.classes[child.name].append((child, module))
            elif isinstance(child, ast.Call):
                self.calls[bare(child.func)].append((child, Scope(module, inside)))
            elif inside is not None and isinstance(child, (ast.Return, ast.Yield, ast.Raise, ast.Dict)):
                inside.ends.append(child)
            self._descend(module, child, here)

    def _errors(self) -> set[str]:
        """The names of the classes of both error trees."""
        found = set(_ROOTS)
        while True:
            more = {
                name
                for name, rows in self.classes.items()
                if any(ast.unparse(base).split(".")[-1] in found for node, _ in rows for base in node.bases)
            }
            if more <= found:
                return found
            found |= more

    def near(self, called: ast.expr, module: Module) -> list[Function]:
        """The functions that a call may mean: of its file, of the one it is imported from, else a few of that name."""
        name = bare(called)
        found = self.functions.get(name, [])
        owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else name
        if owner in module.imports:
            return [each for each in found if each.module.path.endswith(module.imports[owner])]
        here = [each for each in found if each.module is module]
        return here or (found if isinstance(called, ast.Attribute) and len(found) < 4 else [])

    def constant(self, name: str, module: Module) -> list[Row]:
        source = module.source_of(name)
        return [(value, Scope(where)) for where, value in self._constants.get(name, []) if where.path.endswith(source)]

    @cached_property
    def fields(self) -> dict[str, list[tuple[str, int]]]:
        """Name of an annotated field -> (class that has it, its place there)."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for name, rows in self.classes.items():
            for node, _ in rows:
                targets = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
                for index, target in enumerate(target for target in targets if isinstance(target, ast.Name)):
                    found[target.id].append((name, index))
        return found


def bare(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def files(root: Path, packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def _bindings(nodes: Iterator[ast.AST]) -> Bindings:
    found: Bindings = defaultdict(list)
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _bind(found, target, node.value, each=False)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value is not None:
            _bind(found, node.target, node.value, each=False)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            _bind(found, node.target, node.iter, each=True)
    return found


def _bind(found: Bindings, target: ast.AST, value: ast.expr, *, each: bool) -> None:
    if isinstance(target, ast.Name):
        found[target.id].append(Part(value, None, each=True) if each else value)
    elif isinstance(target, ast.Tuple):
        for index, name in enumerate(target.elts):
            if isinstance(name, ast.Name):
                found[name.id].append(Part(value, index, each=each))


def _imports(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            source = node.module.replace(".", "/")
            for name in node.names:
                of_package = "/" not in source and name.name.islower() and not name.name.startswith("_")
                path = (
                    f"{source}/{name.name}.py" if of_package or _is_module(node.module, name.name) else f"{source}.py"
                )
                found[name.asname or name.name] = path
    return found


def _is_module(package: str, name: str) -> bool:
    return Path(*package.split("."), f"{name}.py").is_file()
