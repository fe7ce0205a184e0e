"""JSON and query parameters as messages of protobuf, and back. Pure.

https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# https://cloud.google.com/apis/docs/system-parameters
_SYSTEM = frozenset({"access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser"})


class BadRequest(Exception):
    """Its words say what cannot be read."""


def fill(message: Message, body_field: str, body: bytes, parameters: Iterable[tuple[str, str]]) -> None:
    """Put the body, then what path and query say, into the request. Raises BadRequest."""
    try:
        if body_field and body:
            parsed = json.loads(body)
            json_format.ParseDict(parsed if body_field == "*" else {body_field: parsed}, message)
        wanted = [(name, value) for name, value in parameters if not _is_system(name)]
        json_format.ParseDict(_tree(wanted, message.DESCRIPTOR), message)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise BadRequest(f"Invalid JSON payload received. {error}") from error


def shown(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = json_format.MessageToDict(message)
    return result


def _is_system(name: str) -> bool:
    return name.startswith("$") or name in _SYSTEM


def _tree(parameters: Iterable[tuple[str, str]], descriptor: Any) -> dict[str, Any]:
    """`a.b=c` as {"a": {"b": "c"}}, with the kinds of value that JSON has for the fields of a message's descriptor."""
    tree: dict[str, Any] = {}
    for name, value in parameters:
        _put(tree, name.split("."), value, descriptor)
    return tree


def _put(tree: dict[str, Any], path: list[str], value: str, descriptor: Any) -> None:
    found = _field(descriptor, path[0])
    if found is None:
        raise BadRequest(f'Invalid JSON payload received. Unknown name "{path[0]}": Cannot bind query parameter.')
    if len(path) > 1 and found.message_type is not None:
        _put(tree.setdefault(found.name, {}), path[1:], value, found.message_type)
    elif found.is_repeated:
        tree.setdefault(found.name, []).append(_value(found, value))
    else:
        tree[found.name] = _value(found, value)


def _value(field: FieldDescriptor, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return value.lower() == "true"
    if field.type == FieldDescriptor.TYPE_ENUM and value.lstrip("-").isdigit():
        return int(value)
    return value


def _field(descriptor: Any, name: str) -> FieldDescriptor | None:
    """By its own name or by that of JSON."""
    names: Mapping[str, FieldDescriptor] = descriptor.fields_by_name
    return names.get(name) or descriptor.fields_by_camelcase_name.get(name)
