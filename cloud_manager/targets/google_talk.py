"""One conversation with Google about one project: who asks, what a refusal means, what is asked only once.

A refusal to answer is no failure of what is asked about: it says so, and what would let us ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from cloud_manager.preflight import Unasked, skipped
from cloud_manager.targets import cloud_run_preflight_spec as want
from cloud_manager.targets.cloud_run_preflight_spec import gcloud
from cloud_manager.targets.google_rest import Answer, GoogleRest

MANAGER = "https://cloudresourcemanager.googleapis.com/v3"


class Talk:
    """member: whose credentials they are, as IAM writes it; empty: not known."""

    def __init__(self, rest: GoogleRest, project: str, member: str) -> None:
        self._rest = rest
        self.project = project
        self.member = member
        self._known: dict[str, asyncio.Task[Any]] = {}

    async def aclose(self) -> None:
        for task in self._known.values():
            task.cancel()
        await asyncio.gather(*self._known.values(), return_exceptions=True)
        self._rest.close()

    @property
    def who(self) -> str:
        return self.member.partition(":")[2] or "the manager's account"

    @property
    def said_member(self) -> str:
        """For a command."""
        return self.member or "MEMBER"

    def grant(self, permission: str) -> str:
        """The command that lets whose credentials these are do it, in the whole project."""
        return self.bind(want.role_for(permission))

    def bind(self, role: str) -> str:
        member = f"--member={self.said_member}"
        # None: with conditions in the policy, gcloud would ask which one is meant.
        always = ("--condition=None", member, f"--role={role}")
        return gcloud("projects", "add-iam-policy-binding", self.project, *always)

    async def default_account(self) -> str:
        """Which programs run as whose file names none. Raises Unasked."""
        return f"{await self.once('number', self._number)}-compute@developer.gserviceaccount.com"

    async def _number(self) -> str:
        answer = await self.get(f"{MANAGER}/projects/{self.project}")
        if answer.status != 200:
            raise Unasked(skipped("waits for the project, whose number names the account that runs programs"))
        return number_of(answer)

    async def missing(self, base: str, names: Sequence[str], permission: str) -> list[str]:
        """Permissions that are not held on the resource at this address. Raises Unasked."""
        answer = await self.post(f"{base}:testIamPermissions", {"permissions": list(names)})
        self.check(answer, permission)
        held = answer.body.get("permissions") or ()
        return [name for name in names if name not in held]

    def check(self, answer: Answer, permission: str) -> None:
        """Raises Unasked: Google does not answer the question. permission: what it takes to ask it."""
        if answer.status == 200:
            return
        if answer.disabled is not None:
            command = gcloud("services", "enable", answer.disabled, f"--project={self.project}")
            raise Unasked(skipped(f"cannot be asked: {answer.disabled} is not enabled", "enable it to know", command))
        if answer.status == 403:
            why = f"{self.who} may not ask ({permission}): {answer.words}"
            raise Unasked(skipped(why, "let it ask", self.grant(permission)))
        if answer.status == 401:
            raise Unasked(skipped(f"Google refuses the credentials here: {answer.words}", "log in anew"))
        raise Unasked(skipped(f"Google answers {answer.status}: {answer.words}", "ask again in a while"))

    async def get(self, url: str, params: Iterable[tuple[str, str]] = ()) -> Answer:
        return await asyncio.to_thread(partial(self._rest.get, url, list(params)))

    async def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        return await asyncio.to_thread(partial(self._rest.post, url, body))

    async def once(self, name: str, ask: Any) -> Any:
        """What several questions need is asked once."""
        if name not in self._known:
            self._known[name] = asyncio.create_task(ask())
        return await asyncio.shield(self._known[name])


def number_of(project: Answer) -> str:
    return last(project.body.get("name"))


def last(name: object) -> str:
    return str(name or "").rsplit("/", 1)[-1]
