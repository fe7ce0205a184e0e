"""Before anything is spent: questions about a target, asked at the same time, and what became of each.

A question that fails stops no other; one that cannot be put (nobody answers, we may not ask) says so and is `skipped`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError

log = logging.getLogger(__name__)
Outcome = Literal["passed", "failed", "skipped"]
DEADLINE = 30.0
"""Seconds for a question with all that it waits for. Each call to the outside has a shorter one of its own."""


@dataclass(frozen=True, slots=True)
class Found:
    """cause: what was found, one line. commands: for a shell, as they are; together with `fix` they mend it."""

    outcome: Outcome
    cause: str
    fix: str = ""
    commands: tuple[str, ...] = ()


def passed(cause: str) -> Found:
    return Found("passed", cause)


def failed(cause: str, fix: str, *commands: str) -> Found:
    return Found("failed", cause, fix, commands)


def skipped(why: str, fix: str = "", *commands: str) -> Found:
    return Found("skipped", why, fix, commands)


class Unasked(Exception):
    """The question cannot be put; `found` says why."""

    def __init__(self, found: Found) -> None:
        super().__init__(found.cause)
        self.found = found


@dataclass(frozen=True, slots=True)
class Question:
    """ask: raises Unasked; a DeployError is an answer, too: what it says is wrong."""

    name: str
    ask: Callable[[], Awaitable[Found]]


class Preflight(Protocol):
    """What one kind of target must be asked. It stands beside `Target` and has the same name in the catalogue.

    Promises: nothing is created or changed; each call to the outside has a deadline of its own; no answer holds a
    credential or a secret's value.
    """

    def questions(self, spec: DeploymentSpec | None) -> Sequence[Question]:
        """About the file; without one, about the settings. Nothing is asked yet."""
        ...

    async def aclose(self) -> None: ...


_EXAMPLES: list[JsonValue] = [
    {
        "target": "gcp-cloudrun",
        "ok": False,
        "checks": [
            {
                "name": "credentials",
                "outcome": "passed",
                "cause": "serviceAccount:cloud-deploy@my-project.iam.gserviceaccount.com",
                "fix": "",
                "commands": [],
            },
            {
                "name": "apis",
                "outcome": "failed",
                "cause": "not enabled in my-project: run.googleapis.com",
                "fix": "enable what is missing, and wait a minute",
                "commands": ["gcloud services enable run.googleapis.com --project=my-project"],
            },
            {
                "name": "accelerator",
                "outcome": "skipped",
                "cause": "no GPU is asked for",
                "fix": "",
                "commands": [],
            },
        ],
    }
]


class Check(BaseModel):
    """One question and its answer."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="e.g. `credentials`, `apis`, `secret:api-key`.")
    outcome: Outcome
    cause: str = Field(description="What was found; for `skipped`, why it was not asked.")
    fix: str = Field(default="", description="What to do about it.")
    commands: tuple[str, ...] = Field(default=(), description="Shell commands that mend it, as they are.")


class Report(BaseModel):
    """`ok` unless a check has failed."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": _EXAMPLES})

    target: str = Field(description="`deploy.type` that was asked about.")
    ok: bool
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, target: str, checks: Iterable[Check]) -> Report:
        rows = tuple(checks)
        return cls(target=target, ok=all(row.outcome != "failed" for row in rows), checks=rows)


async def answers(questions: Iterable[Question], *, seconds: float = DEADLINE) -> list[Check]:
    """In the order of the questions, which are all asked at the same time."""
    return list(await asyncio.gather(*(_answer(question, seconds) for question in questions)))


async def _answer(question: Question, seconds: float) -> Check:
    found = await _found(question, seconds)
    return Check(name=question.name, outcome=found.outcome, cause=found.cause, fix=found.fix, commands=found.commands)


async def _found(question: Question, seconds: float) -> Found:
    try:
        async with asyncio.timeout(seconds):
            return await question.ask()
    except Unasked as error:
        return error.found
    except DeployError as error:
        return failed(error.problem.cause, error.problem.fix)
    except TimeoutError:
        return skipped(f"no answer within {seconds:g} s", "ask again, or look at the network and the proxy")
    except Exception as error:  # a mistake of ours in one question must not cost the other answers
        log.exception("the question %s cannot be answered", question.name)
        return skipped(f"a mistake of ours: {type(error).__name__}", "report it; the log has the whole story")
