"""TANGO's dialect of deployment.yaml in our words, each translation with a note. Pure.

Everything that TANGO's tools really write is accepted: keys under two names, '' and 0 for what nobody has said, words
such as `x86` and `cuda`, command lines as text, package lists as `dialect_packages.py` describes. Positions stay those
of the file, so that an error about a translated value points to what was written.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cloud_manager.deployment_spec import (
    Build,
    Components,
    Deploy,
    Health,
    K8s,
    Network,
    OptionalFiles,
    Resources,
    Scaling,
)
from cloud_manager.dialect_packages import components
from cloud_manager.dialect_words import ACCELERATORS, ARCHITECTURES, NO_ARCHITECTURE, NOT_SAID, cpus, memory_mib
from cloud_manager.finding import Finding, quoted
from cloud_manager.translation import Translation, as_written, flat, listed, number, text, unsaid
from cloud_manager.yaml_source import Entry, Mapping, Node, Scalar, Sequence

ALIASES: dict[str, dict[str, str]] = {
    "build": {"target_name": "image_uri"},
    "build.components.custom_packages": {"atp": "apt"},
    "deploy": {"work_dir": "workdir"},
    "deploy.k8s": {"nfsip": "nfs_ip", "nfspath": "nfs_path"},
    "deploy.data": {"nfsip": "nfs_ip", "nfspath": "nfs_path"},
}
"""Section -> TANGO's key -> our key."""


@dataclass(frozen=True, slots=True)
class Translated:
    root: Mapping
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def translate(root: Mapping, file: str) -> Translated:
    """The tree in our words. What it cannot make sense of stays as it is, for the schema to name."""
    t = Translation(file)
    root = t.section(root, "build", "build", Build, _build)
    root = t.section(root, "deploy", "deploy", Deploy, _deploy)
    root = t.section(root, "optional", "optional", OptionalFiles, _optional)
    return Translated(root, t.notes, tuple(t.findings))


def _build(t: Translation, node: Mapping, path: str) -> Mapping:
    node = _renamed(t, node, path)
    node = _architecture(t, node, path)
    node = _accelerator(t, node, path)
    node = _texts(node, "os", "image_uri", "base_image")
    own_base = not unsaid(node.get("base_image"))
    return t.section(node, "components", f"{path}.components", Components, partial(components, own_base=own_base))


def _renamed(t: Translation, node: Mapping, path: str) -> Mapping:
    for alias, name in ALIASES[path].items():
        node = t.rename(node, path, alias, name)
    return node


def _texts(node: Mapping, *keys: str) -> Mapping:
    """Values such as `os: 20.04` that YAML takes for numbers."""
    for key in keys:
        value = node.get(key)
        if value is not None:
            node = node.put(key, as_written(value))
    return node


def _architecture(t: Translation, node: Mapping, path: str) -> Mapping:
    written = node.get("architecture")
    if not isinstance(written, Scalar):
        return node
    word = written.text.strip().lower()
    if word not in NOT_SAID | NO_ARCHITECTURE:
        return t.word(node, path, "architecture", ARCHITECTURES)
    why = "not said" if word in NOT_SAID else f"{quoted(written.text.strip())} is no architecture"
    t.note(written.position, f"{path}.architecture", f"{why}; linux/amd64 is assumed")
    return node.without("architecture")


def _accelerator(t: Translation, node: Mapping, path: str) -> Mapping:
    written = node.get("accelerator")
    if not isinstance(written, Scalar):
        return node
    word = written.text.strip().lower()
    if word in NOT_SAID:
        t.note(written.position, f"{path}.accelerator", "not said; cpu is assumed")
        return node.without("accelerator")
    if word == "opencl":
        t.note(written.position, f"{path}.accelerator", "opencl is not served; the program runs on the cpu")
        return node.put("accelerator", text(written, "cpu"))
    return t.word(node, path, "accelerator", ACCELERATORS)


def _deploy(t: Translation, node: Mapping, path: str) -> Mapping:
    node = _renamed(t, node, path)
    node = _type(t, node, path)
    node = _entrypoint(t, node, path)
    node = _pre_exec(t, node, path)
    node = _variables(t, node, path, "env")
    node = _variables(t, node, path, "secrets")
    node = t.section(node, "network", f"{path}.network", Network, _network)
    node = t.section(node, "resources", f"{path}.resources", Resources, _resources)
    node = t.section(node, "k8s", f"{path}.k8s", K8s, _renamed)
    node = t.section(node, "scaling", f"{path}.scaling", Scaling, _whole_numbers)
    node = t.section(node, "health", f"{path}.health", Health, _whole_numbers)
    node = _measured(node, "timeout_seconds", _whole)
    return _data(t, node, path)


def _whole_numbers(t: Translation, node: Mapping, path: str) -> Mapping:
    for key in node.entries:
        node = _measured(node, key, _whole)
    return node


def _type(t: Translation, node: Mapping, path: str) -> Mapping:
    written = node.get("type")
    if unsaid(written):
        k8s = node.entries.get("k8s")
        if k8s is None:
            return node.without("type")  # the schema says that it is missing
        t.note(k8s.position, f"{path}.type", "not said; the `k8s` section is there, so it is k8s")
        return node.put("type", Scalar("k8s", "k8s", k8s.position))
    if not isinstance(written, Scalar) or not isinstance(written.value, str):
        return node
    word = written.text.strip().lower().replace("_", "-")
    if word != written.text:
        t.note(written.position, f"{path}.type", f"{quoted(written.text)} read as {word}")
    return node.put("type", text(written, word))


def _entrypoint(t: Translation, node: Mapping, path: str) -> Mapping:
    written = node.get("entrypoint")
    if isinstance(written, Scalar) and not unsaid(written):
        words = _argv(t, written, f"{path}.entrypoint")
        t.note(written.position, f"{path}.entrypoint", f"read as [{', '.join(word.text for word in words)}]"[:200])
        return node.put("entrypoint", listed(words, written.position))
    if isinstance(written, Sequence):
        return node.put("entrypoint", listed(map(as_written, written.items), written.position))
    return node


def _argv(t: Translation, written: Scalar, path: str) -> tuple[Scalar, ...]:
    """The words of a command line, as a shell would split it."""
    try:
        return tuple(text(written, word) for word in shlex.split(written.text))
    except ValueError:
        t.wrong(written.position, path, f"a quote is not closed in {quoted(written.text)}")
        return (text(written),)


def _pre_exec(t: Translation, node: Mapping, path: str) -> Mapping:
    written, path = node.get("pre_exec"), f"{path}.pre_exec"
    if isinstance(written, Scalar) and not unsaid(written):
        written = listed((written,), written.position)
    if not isinstance(written, Sequence):
        return node
    items = tuple(item for item in written.items if not unsaid(item))
    if items and all(isinstance(item, Scalar) for item in items):
        commands = [listed(_argv(t, item, path), item.position) for item in items if isinstance(item, Scalar)]
        shown = "; ".join(
            " ".join(word.text for word in command.items if isinstance(word, Scalar)) for command in commands
        )
        t.note(written.position, path, f"each text is read as one command: {shown}"[:200])
        return node.put("pre_exec", listed(commands, written.position))
    return node.put("pre_exec", listed((_command(t, item, path) for item in items), written.position))


def _command(t: Translation, item: Node, path: str) -> Node:
    if isinstance(item, Sequence):
        return listed(map(as_written, item.items), item.position)
    if isinstance(item, Scalar):
        t.wrong(item.position, path, f"write every command as a list, as the others: [{item.text}]"[:200])
        return listed((text(item),), item.position)
    return item


def _variables(t: Translation, node: Mapping, path: str, key: str) -> Mapping:
    """Values as they are written (`8`, `yes`); a list of {name, value} as Cloud Run's own files have it."""
    written = node.get(key)
    if isinstance(written, Sequence) and written.items:
        pairs = [_named(item) for item in written.items]
        rows = {pair[0]: pair[1] for pair in pairs if pair}
        if len(rows) < len(pairs):
            message = "expected a mapping `NAME: value`, or a list of {name: …, value: …} with different names"
            t.wrong(written.position, f"{path}.{key}", message)
        written = Mapping(rows, written.position)
    if not isinstance(written, Mapping):
        return node.without(key) if isinstance(written, Sequence) else node
    rows = {name: Entry(as_written(entry.value), entry.position) for name, entry in written.entries.items()}
    return node.put(key, Mapping(rows, written.position))


def _named(item: Node) -> tuple[str, Entry] | None:
    if not isinstance(item, Mapping) or set(item.entries) != {"name", "value"}:
        return None
    name, value = item.entries["name"].value, item.entries["value"].value
    return (name.text, Entry(value, name.position)) if isinstance(name, Scalar) else None


def _network(t: Translation, node: Mapping, path: str) -> Mapping:
    for key in ("service_host_port", "service_container_port"):
        node = _measured(node, key, _whole)
        value = node.get(key)
        if isinstance(value, Scalar) and value.value == 0 and value.value is not False:
            node = node.without(key)
    return node


def _resources(t: Translation, node: Mapping, path: str) -> Mapping:
    node = _measured(node, "memory", memory_mib)
    return _measured(_measured(node, "cpu", cpus), "gpu", _whole)


def _measured(node: Mapping, key: str, measure: Callable[[str], float | None]) -> Mapping:
    """A number written as text (`'8088'`, `8Gi`); what is none stays, for the schema to name."""
    value = node.get(key)
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        return node
    meant = measure(value.text)
    return node if meant is None else node.put(key, number(value, meant))


def _whole(words: str) -> int | None:
    words = words.strip()
    return int(words) if words.isascii() and words.isdigit() and len(words) < 10 else None


def _data(t: Translation, node: Mapping, path: str) -> Mapping:
    written = node.get("data")
    if not isinstance(written, Sequence):
        return node
    items = (_renamed(t, item, f"{path}.data") if isinstance(item, Mapping) else item for item in written.items)
    return node.put("data", listed(items, written.position))


def _optional(t: Translation, node: Mapping, path: str) -> Mapping:
    """Names of files; an empty list is not said either."""
    weights = node.get("weight_file")
    if isinstance(weights, Sequence):
        files = flat(weights)
        node = node.put("weight_file", listed(files, weights.position)) if files else node.without("weight_file")
    return node
