"""What the pages of one project are made of, apart from HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from image_builder.contract import BuildStatus
from image_builder.errors import BuildNotFound
from image_builder.web.histories import Story
from image_builder.web.languages import Language
from image_builder.web.manager_models import Deployment, Phase, Revision
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of
from image_builder.web.problems import PageProblem
from image_builder.web.spec_diff import Difference, differences
from image_builder.web.timeline import chapters

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
TABS = ("overview", "log", "yaml", "revisions")


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody looks at one project. key: `7/42`, fit for a path."""

    parts: WebParts
    language: Language
    key: str

    @classmethod
    def of(cls, request: Request) -> Visit:
        """Raises HTTPException: 404 for what cannot be a project's name."""
        ids = request.path_params["user"], request.path_params["project"]
        if not all(_ID.fullmatch(part) for part in ids):
            raise HTTPException(404)
        return cls(parts_of(request), language_of(request), "/".join(ids))

    @property
    def path(self) -> str:
        return f"/deployments/{self.key}"

    async def deployment(self) -> Deployment | None:
        """As the feed has it, else as the manager says; None if it was never started.

        Raises:
            PageProblem: the manager does not answer.
        """
        known = self.parts.feeds[self.language].get(self.key)
        if known:
            return known
        try:
            return await self.parts.manager.deployment(self.language, self.key)
        except PageProblem as error:
            if error.status == 404:
                return None
            raise

    def frame(self, deployment: Deployment | None, tab: str) -> dict[str, Any]:
        """What the head and the tabs are made of."""
        user, _, project = self.key.partition("/")
        return {
            "row": deployment,
            "path": self.path,
            "user": user,
            "project": project,
            "tab": tab,
            "tabs": TABS,
            "away": self.parts.feeds[self.language].problem,
        }

    async def story(self, deployment: Deployment) -> Story:
        return await self.parts.histories[self.language].of(deployment)


async def overview(visit: Visit, deployment: Deployment) -> dict[str, Any]:
    story = await visit.story(deployment)
    told = chapters(story.events, deployment)
    return {"chapters": told, "changed": latest_changes(story.revisions), "build": await build_of(visit, deployment)}


async def build_of(visit: Visit, deployment: Deployment) -> BuildStatus | None:
    """The status of the build that is under way; None if there is none, or this builder does not know it."""
    if deployment.build_id is None or deployment.phase is not Phase.BUILDING:
        return None
    try:
        found = await visit.parts.queue.status(deployment.build_id)
    except BuildNotFound:  # another builder's
        return None
    return None if found.state.done else found


def latest_changes(revisions: tuple[Revision, ...]) -> tuple[Difference, ...]:
    """What the newest good revision changed."""
    return changes_of(revisions[0], revisions[1]) if len(revisions) > 1 else ()


def changes_of(revision: Revision, before: Revision) -> tuple[Difference, ...]:
    """The image, and the specification's values by their paths."""
    old, new = _image(before), _image(revision)
    image = () if old == new else (Difference("image", old, new),)
    return image + differences(before.spec, revision.spec)


def _image(revision: Revision) -> str:
    if revision.image:
        return revision.image.digest[:19]
    return revision.resolved_uri or revision.image_uri or "-"
