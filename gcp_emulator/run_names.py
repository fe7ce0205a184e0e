"""Names of Cloud Run: resources, hosts, revisions. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RESOURCE = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)"
    r"(?:/services/(?P<service>[^/]+)(?:/revisions/(?P<revision>[^/]+))?)?"
)
_REGION = re.compile(r"[a-z]+(-[a-z]+)+\d+")
_LETTERS = "bcdfghjkmnpqrstvwxz"


@dataclass(frozen=True, slots=True)
class Name:
    """`projects/P/locations/R[/services/S[/revisions/V]]`; parts that are not there are empty."""

    project: str
    region: str
    service: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> Name | None:
        match = _RESOURCE.fullmatch(text)
        return cls(*(part or "" for part in match.group("project", "region", "service", "revision"))) if match else None

    def __str__(self) -> str:
        parts = [f"projects/{self.project}/locations/{self.region}"]
        parts += [f"services/{self.service}"] if self.service else []
        parts += [f"revisions/{self.revision}"] if self.revision else []
        return "/".join(parts)

    @property
    def parent(self) -> str:
        """Of a service."""
        return str(Name(self.project, self.region))

    @property
    def of_service(self) -> str:
        return str(Name(self.project, self.region, self.service))

    def of_revision(self, revision: str) -> str:
        return str(Name(self.project, self.region, self.service, revision))

    def with_service(self, service: str) -> Name:
        return Name(self.project, self.region, service)


def is_region(text: str) -> bool:
    return _REGION.fullmatch(text) is not None


def short(name: str) -> str:
    """The last part: of a full name, or of one that is short already."""
    return name.rsplit("/", 1)[-1]


def host(service: str, region: str, project_number: str, tag: str = "") -> str:
    """https://cloud.google.com/run/docs/triggering/https-request#deterministic"""
    return (
        f"{tag}---{service}-{project_number}.{region}.run.app"
        if tag
        else f"{service}-{project_number}.{region}.run.app"
    )


def parse_host(text: str, project_number: str) -> tuple[str, str, str] | None:
    """(service, region, tag) of a host of ours, with or without a port."""
    pattern = (
        rf"(?:(?P<tag>[a-z0-9-]+?)---)?(?P<service>[a-z][a-z0-9-]*)-{project_number}\.(?P<region>[a-z0-9-]+)\.run\.app"
    )
    match = re.fullmatch(pattern, text.split(":", 1)[0].lower())
    return (match["service"], match["region"], match["tag"] or "") if match else None


def revision_name(service: str, generation: int, noise: int) -> str:
    """As Google generates them: `hello-00001-abc`. `noise` is any number."""
    letters = "".join(_LETTERS[noise // len(_LETTERS) ** place % len(_LETTERS)] for place in range(3))
    return f"{service}-{generation:05d}-{letters}"
