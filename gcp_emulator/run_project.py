"""The one project that there is, and what follows from its names."""

from __future__ import annotations

from dataclasses import dataclass

from gcp_emulator.run_conditions import Where
from gcp_emulator.run_errors import Refused, denied, no_region
from gcp_emulator.run_names import Name, host, is_region, short


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    number: str
    compute_account: str

    def name(self, text: str, permission: str, *, revision: bool = False, service: bool = False) -> Name:
        """A full name with the project's id, where it may be called by its number, too.

        Raises Refused: not such a name, a region that is none, or another project.
        """
        name = Name.parse(text)
        if name is None or bool(name.service) != (service or revision) or bool(name.revision) != revision:
            raise Refused("INVALID_ARGUMENT", f"Invalid resource name: '{text}'.")
        if name.project not in (self.id, self.number):
            raise denied(permission, text)
        if not is_region(name.region):
            raise no_region(name.region)
        return Name(self.id, name.region, name.service, name.revision)

    def uri_of_tag(self, name: Name, tags: set[str]) -> dict[str, str]:
        return {tag: f"https://{host(name.service, name.region, self.number, tag)}" for tag in {"", *tags}}

    def where(self, revision: str) -> Where:
        service = revision.split("/revisions/", 1)[0]
        return Where(self.id, self.number, short(service), short(revision))
