"""Faults on demand: which call, the how-manieth, on which resource, fails how. Services ask `strike` once a call.

The name of a call is `google.cloud.run.v2.Services.CreateService` for gRPC, `POST storage.googleapis.com/upload/…`
(verb, host, path without query) for HTTP. A service may also ask at points of its own, with names that it documents,
e.g. `operation` or `revision`: there `seconds` and `forever` make a slow and a never-ending operation, and `reason`
says which way a revision fails.

Rules are kept in memory: a restart of the emulator forgets them.
"""

from __future__ import annotations

import threading
from collections import Counter
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Code = Literal[
    "OK",
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNKNOWN",
]
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
HTTP_STATUS: dict[str, int] = {
    "OK": 200,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "CANCELLED": 499,
    "DEADLINE_EXCEEDED": 504,
    "FAILED_PRECONDITION": 400,
    "INTERNAL": 500,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
}
# As Google words them where a rule has no words of its own; `{call}` and `{resource}` are filled in.
_WORDS: dict[str, str] = {
    "ABORTED": "Conflict for resource '{resource}': version '1' was specified but current version is '2'.",
    "PERMISSION_DENIED": "Permission denied on resource '{resource}' (or it may not exist).",
    "RESOURCE_EXHAUSTED": (
        "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute per region'"
        " of service '{service}' for consumer 'project_number:{number}'."
    ),
    "UNAVAILABLE": "The service is currently unavailable.",
    "UNAUTHENTICATED": "Request had invalid authentication credentials.",
    "INTERNAL": "Internal error encountered.",
}


class Fault(BaseModel):
    """What happens. `code` OK: the call is only slow, or what `reason` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: Code = "OK"
    when: Literal["before", "after"] = Field(
        default="before", description="Before anything is done, or once all is done and only the answer is lost."
    )
    message: str = Field(default="", description="The words; else Google's usual ones for the code.")
    seconds: float = Field(default=0.0, ge=0, description="Wait this long first, by the emulator's clock.")
    forever: bool = Field(default=False, description="It never ends.")
    reason: str = Field(default="", description="For points of a service's own, e.g. HEALTH_CHECK_CONTAINER_ERROR.")

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self.code]

    def words(self, call: str, resource: str, project_number: str = "0") -> str:
        """The message of the error that the client sees."""
        if self.message:
            return self.message
        return _WORDS.get(self.code, f"{self.code}.").format(
            call=call, resource=resource, service=service_of(call), number=project_number
        )


class Rule(Fault):
    """When it happens: `call` and `resource` are patterns in which `*` stands for anything."""

    call: str
    resource: str = "*"
    nth: int = Field(default=1, ge=1, description="The first of the matching calls that is hit, counted from 1.")
    times: int = Field(default=1, ge=0, description="How many are hit from there on; 0: all.")

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if self.code == "OK" and not (self.seconds or self.forever or self.reason):
            raise ValueError("a rule needs a code, seconds, forever or a reason")
        return self

    def matches(self, call: str, resource: str) -> bool:
        return fnmatchcase(call, self.call) and fnmatchcase(resource, self.resource)

    def hits(self, count: int) -> bool:
        """Whether the call that is the `count`-th of those that match is hit."""
        return count >= self.nth and (self.times == 0 or count < self.nth + self.times)


class Faults:
    """The rules in force, and how often each call was made (also those that no rule names)."""

    def __init__(self, rules: list[Rule] | None = None) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[Rule, Counter[str]]] = []
        self.calls: Counter[str] = Counter()
        self.replace(rules or [])

    @property
    def rules(self) -> list[Rule]:
        return [rule for rule, _ in self._rules]

    def replace(self, rules: list[Rule]) -> None:
        """These and no others; each counts from now."""
        with self._lock:
            self._rules = [(rule, Counter()) for rule in rules]

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append((rule, Counter()))

    def strike(self, call: str, resource: str = "") -> Fault | None:
        """Count the call, and say what is to go wrong with it: the first rule that hits. Ask once a call.

        The caller waits `seconds` (or forever), fails `before` doing anything or does all of it and fails `after`.
        """
        with self._lock:
            self.calls[call] += 1
            struck: Fault | None = None
            for rule, seen in self._rules:
                if rule.matches(call, resource):
                    seen["calls"] += 1
                    if struck is None and rule.hits(seen["calls"]):
                        struck = rule
            return struck


def service_of(call: str) -> str:
    """Host of the service, as Google's messages name it: `run.googleapis.com`."""
    if " " in call:
        return call.split(" ", 1)[1].split("/", 1)[0]
    for part, host in (("cloudbuild", "cloudbuild"), ("logging", "logging"), ("artifactregistry", "artifactregistry")):
        if part in call:
            return f"{host}.googleapis.com"
    return "run.googleapis.com"
