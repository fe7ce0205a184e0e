"""`build.components`: the package lists as TANGO's code generator writes them. Pure.

What it really writes (deploy_codegen in https://github.com/ML-TANGO/TANGO): lines of a requirements.txt under `atp`,
`python3.9` among Debian's packages, modules of the standard library (`time`) among PyPI's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from cloud_manager.deployment_spec import DEBIAN_PACKAGE, CustomPackages
from cloud_manager.finding import quoted
from cloud_manager.translation import Translation, flat, listed, text
from cloud_manager.yaml_source import Mapping, Node, Scalar, Sequence

_INTERPRETER = re.compile(r"python(3\.[0-9]{1,2})")
_COMMENT = re.compile(r"(^|\s)#.*")


def components(t: Translation, node: Mapping, path: str, *, own_base: bool = False) -> Mapping:
    """`own_base`: the file names its base image, in which `python3.9` may well be a Debian package."""
    node = t.section(node, "custom_packages", f"{path}.custom_packages", CustomPackages, _custom_packages)
    engine = node.get("engine")
    if isinstance(engine, Scalar) and isinstance(engine.value, str):
        node = node.put("engine", text(engine, engine.text.strip().lower()))
    node = _python_list(t, node, path, "libs")
    return node if own_base else _interpreter(t, node, path)


def _custom_packages(t: Translation, node: Mapping, path: str) -> Mapping:
    merged = _both_spellings(t, node, path)
    return _requirements_under_apt(t, _python_list(t, merged, path, "pypi"), path)


def _both_spellings(t: Translation, node: Mapping, path: str) -> Mapping:
    """`atp` means `apt`; where both are written their lists are joined."""
    alias = node.entries.get("atp")
    if alias is None:
        return node
    items = (*flat(node.get("apt")), *flat(alias.value))
    t.note(alias.position, f"{path}.atp", "read as `apt`")
    return node.without("atp").put("apt", listed(items, alias.value.position), alias.position)


def _python_list(t: Translation, node: Mapping, path: str, key: str) -> Mapping:
    """Without comments, empty lines, and modules that python brings along."""
    written = node.get(key)
    if written is None or isinstance(written, Mapping):
        return node
    kept: list[Node] = []
    for item in map(_without_comment, flat(written)):
        if isinstance(item, Scalar) and item.text in sys.stdlib_module_names:
            t.note(item.position, f"{path}.{key}", f"{item.text} is a part of python itself; nothing to install")
        elif not isinstance(item, Scalar) or item.text:
            kept.append(item)
    return node.put(key, listed(kept, written.position))


def _requirements_under_apt(t: Translation, node: Mapping, path: str) -> Mapping:
    """The code generator puts its list of python requirements under `atp`; what apt cannot mean goes to `pypi`."""
    written = node.get("apt")
    if written is None or isinstance(written, Mapping):
        return node
    items = _once(item for item in map(_without_comment, flat(written)) if not isinstance(item, Scalar) or item.text)
    moved = [item for item in items if isinstance(item, Scalar) and _only_python(item)]
    for item in moved:
        t.note(item.position, f"{path}.apt", f"{quoted(item.text)} is a python requirement; read as one of `pypi`")
    node = node.put("apt", listed((item for item in items if item not in moved), written.position))
    pypi = node.get("pypi")
    if not moved or isinstance(pypi, Mapping):
        return node
    return node.put("pypi", listed((*flat(pypi), *moved), pypi.position if pypi else written.position))


def _once(items: Iterable[Node]) -> list[Node]:
    """Without a package that is named again."""
    named: set[object] = set()
    kept: list[Node] = []
    for item in items:
        name = (item.value, item.text) if isinstance(item, Scalar) else id(item)
        if name not in named:
            named.add(name)
            kept.append(item)
    return kept


def _only_python(item: Scalar) -> bool:
    if not isinstance(item.value, str) or re.fullmatch(DEBIAN_PACKAGE, item.text) or len(item.text) > 500:
        return False
    try:
        Requirement(item.text)
    except InvalidRequirement:
        return False
    return True


def _interpreter(t: Translation, node: Mapping, path: str) -> Mapping:
    """`python3.9` under apt picks the interpreter, as `python==3.9` does: the official images hold no Debian package
    of another python than their own."""
    packages = node.get("custom_packages")
    apt = packages.get("apt") if isinstance(packages, Mapping) else None
    if not isinstance(packages, Mapping) or not isinstance(apt, Sequence):
        return node
    found = [item for item in apt.items if isinstance(item, Scalar) and _INTERPRETER.fullmatch(item.text)]
    if not found:
        return node
    rest = listed((item for item in apt.items if item not in found), apt.position)
    node = node.put("custom_packages", packages.put("apt", rest))
    libs = flat(node.get("libs"))
    pinned = any(isinstance(lib, Scalar) and re.match(r"python\s*[=<>!~]", lib.text) for lib in libs)
    for item in found:
        t.note(item.position, f"{path}.custom_packages.apt", _interpreter_note(item.text, pinned))
    if pinned:
        return node
    pins = [text(item, _INTERPRETER.sub(r"python==\1", item.text)) for item in found]
    return node.put("libs", listed((*libs, *pins), found[0].position))


def _interpreter_note(package: str, pinned: bool) -> str:
    if pinned:
        return f"{package} is not installed by apt; `libs` picks the interpreter"
    return f"{package} is not installed by apt; it picks the interpreter"


def _without_comment(node: Node) -> Node:
    """A line of a requirements.txt without what follows `#`."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return text(node, _COMMENT.sub("", node.text).strip())
    return node
