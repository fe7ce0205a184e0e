"""The only reader of the manager's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from image_builder.problem_words.language import of_locale


class Settings(BaseSettings):
    """Every setting is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    shared_root: Path = Field(default=Path("/shared"), description="The disk that all TANGO containers share.")
    state_dir: Path = Field(
        default=Path("/var/lib/cloud-deploy"), description="What must outlive a restart: database, services."
    )
    database_url: str = Field(
        default="", description="postgresql://… for several managers; empty: SQLite in STATE_DIR."
    )
    image_builder_url: str = Field(default="http://127.0.0.1:7007", description="Where the image builder listens.")
    cloud_manager_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    cloud_manager_port: int = Field(default=8890, ge=0, le=65535)
    local_target: bool = Field(
        default=False, description="Allow `deploy.type: local`: programs run as this user, unconfined."
    )
    secrets_dir: Path | None = Field(
        default=None, description="Folder with one file per secret, for the `local` and `docker` targets."
    )
    docker_host: str = Field(
        default="",
        description="The Docker Engine of the `docker` target: unix://… or tcp://…; empty: the usual socket.",
    )
    docker_tls_verify: str = Field(default="", description="Anything: tcp:// is spoken with TLS, as docker does.")
    docker_cert_path: Path | None = Field(
        default=None, description="Folder with ca.pem, cert.pem and key.pem for it; empty: ~/.docker."
    )
    docker_config: Path | None = Field(
        default=None,
        description="Folder with what `docker login` left, for the Engine's pulls; empty: .docker of this user.",
    )
    docker_owner: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = Field(
        default="cloud-deploy",
        description="Name of this installation on the Engine, in names and labels; two on one Engine need two.",
    )
    front_image: str = Field(
        default="",
        description="Image with python3, on the Engine, that holds the services' public ports while revisions come "
        "and go, e.g. the manager's own; empty: the project's image does.",
    )
    gcp_project: str = Field(
        default="",
        validation_alias=AliasChoices("gcp_project", "google_cloud_project"),
        description="The Google Cloud project of `deploy.type: gcp-cloudrun`; empty: GOOGLE_CLOUD_PROJECT.",
    )
    gcp_region: str = Field(default="", description="Region of services whose file names none, e.g. asia-northeast3.")
    gcp_regions: str = Field(
        default="", description="Further regions that files may name, with commas. Each is looked at, file or not."
    )
    gcp_owner: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = Field(
        default="cloud-deploy",
        description="Name of this installation in the Google project, in names and labels; two in one need two.",
    )
    gcp_network: str = Field(default="default", description="VPC network over which services reach NFS servers.")
    artifact_repository: str = Field(
        default="cloud-deploy",
        description="Docker repository of Artifact Registry, in the service's region, for what names no image_uri.",
    )
    api_token: SecretStr | None = Field(
        default=None, description="Whoever calls must send it; TANGO's four GETs and /healthz need none."
    )
    api_token_file: Path | None = Field(default=None, description="A file that holds it, instead.")
    tango_gets_need_token: bool = Field(default=False, description="TANGO's four GETs need it, too.")
    allow_no_token: bool = Field(
        default=False, description="Listen beyond loopback without a token: something else keeps others out."
    )
    cloud_build_bucket: str = Field(
        default="", description="The builder's bucket for Google Cloud Build, for the preflight to look at."
    )
    resync_seconds: float = Field(default=180.0, gt=0, description="How often a healthy service is looked at again.")
    log_level: str = Field(default="INFO")
    log_format: Literal["json", "text"] = Field(
        default="text", description="`text`: lines for people; `json`: one object each."
    )


class ClientSettings(BaseSettings):
    """What the command line needs."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    cloud_manager_url: str = Field(default="http://127.0.0.1:8890", description="Where the manager listens.")
    api_token: SecretStr | None = Field(default=None, description="What both ask for, if they do.")
    api_token_file: Path | None = Field(default=None, description="A file that holds it, instead.")
    image_builder_url: str = Field(default="http://127.0.0.1:7007", description="Where the image builder listens.")
    lc_all: str = Field(default="", description="The locale, e.g. ko_KR.UTF-8; the first of these three that is set.")
    lc_messages: str = ""
    lang: str = ""

    @property
    def language(self) -> str:
        """Of what is said to people: `en` or `ko`."""
        return of_locale((self.lc_all, self.lc_messages, self.lang))
