"""What the emulator is started with, and what it must know of this machine. The environment is read here alone."""

from __future__ import annotations

import re
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gcp_emulator.run_exports import export_of

_PROJECT = re.compile(
    r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
)  # https://cloud.google.com/resource-manager/docs/creating-managing-projects


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Path = Field(description="Folder that outlives the emulator.")
    port: int = Field(default=0, ge=0, le=65535, description="Of the proxy; 0: any, the same ever after.")
    listen: str = Field(
        default="127.0.0.1",
        description="Address of the proxy. Another is for clients in containers beside it: there is no login to it.",
    )
    control_port: int = Field(default=0, ge=0, le=65535, description="Of /faults; 0: any, the same ever after.")
    project: str = Field(default="twin-project", description="The one project that there is.")
    region: str = Field(default="us-central1", description="Written to the environment file; every region is served.")
    repositories: tuple[str, ...] = Field(
        default=("cloud-deploy",),
        description="Docker repositories that exist in Artifact Registry, in every region; others are not found.",
    )
    docker: str = Field(
        default="unix:///var/run/docker.sock",
        description="The Engine for images with a base, as DOCKER_HOST; where none answers, all run as processes.",
    )
    secrets: Path | None = Field(default=None, description="Folder of Secret Manager: SECRET/VERSION or SECRET.")
    nfs: tuple[str, ...] = Field(
        default=(), description="Exports of NFS servers, each SERVER:/PATH=FOLDER; volumes of others cannot be mounted."
    )
    forward: bool = Field(
        default=False,
        description="Pass on what is meant for hosts that are not Google's, by the https_proxy of this environment if "
        "there is one; else such hosts are refused.",
    )

    @field_validator("project")
    @classmethod
    def _is_a_project(cls, value: str) -> str:
        if not _PROJECT.fullmatch(value):
            raise ValueError("6 to 30 lower-case letters, digits and hyphens; a letter first, no hyphen last")
        return value

    @field_validator("nfs")
    @classmethod
    def _are_exports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for written in value:
            export_of(written)
        return value

    @property
    def project_number(self) -> str:
        """Twelve digits, always the same for a project."""
        return str(100_000_000_000 + zlib.crc32(self.project.encode()))

    @property
    def service_account(self) -> str:
        """The generated account whose key lies in the state folder."""
        return f"cloud-deploy@{self.project}.iam.gserviceaccount.com"

    @property
    def compute_account(self) -> str:
        """The account that services run as by default."""
        return f"{self.project_number}-compute@developer.gserviceaccount.com"


@dataclass(frozen=True)
class Host:
    """What this machine's clients use without the twin, and go on using for hosts that are not proxied."""

    trusted: Path | None = None
    no_proxy: str = ""
    proxy: str = ""


def host_of(environ: Mapping[str, str], state: Path) -> Host:
    """trusted: the CA bundle in use, else that of the package certifi, never one that the twin wrote into its state.

    proxy: for HTTPS; none where this environment is a twin's own, which would ask itself.
    """
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
    candidates = [*(environ.get(name) for name in names), ssl.get_default_verify_paths().cafile, certifi.where()]
    files = [Path(name).absolute() for name in candidates if name]
    others = (file for file in files if file.is_file() and not file.is_relative_to(state.absolute()))
    proxy = "" if "GCP_EMULATOR_CONTROL" in environ else environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    return Host(next(others, None), environ.get("no_proxy") or environ.get("NO_PROXY") or "", proxy)
