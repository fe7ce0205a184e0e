"""The only reader of the builder's environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def byte_count(value: Any) -> Any:
    """`20Gi`, `500 MB` or a plain number as bytes; ValueError for what is none. Other types are left to pydantic."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", value.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{value!r} is no size; write e.g. 20Gi, 500M or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


class Settings(BaseSettings):
    """Every setting is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    shared_root: Path = Field(default=Path("/shared"), description="The disk that all TANGO containers share.")
    state_dir: Path = Field(
        default=Path("/var/lib/cloud-deploy"), description="Images, caches and build records live in STATE_DIR/builder."
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Images and caches, where several builders share them; each has a STATE_DIR of its own.",
    )
    image_builder_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    image_builder_port: int = Field(default=7007, ge=0, le=65535)
    web_host: str = Field(default="127.0.0.1", description="Address on which the GUI listens.")
    web_port: int = Field(default=8080, ge=0, le=65535)
    web_hosts: str = Field(
        default="", description="`NAME,…` under which the GUI is reached, if they have a dot: others are refused."
    )
    cloud_manager_url: str = Field(default="http://127.0.0.1:8890", description="Where the manager listens.")
    build_workers: int = Field(default=2, ge=1, le=64, description="Builds that run at a time.")
    build_queue_size: int = Field(default=256, ge=1, description="Builds that may wait; one more is refused.")
    build_network: Literal["host", "bridge"] = Field(
        default="bridge",
        description="Network in which docker runs apt-get and the steps of a Dockerfile; buildah takes the host's.",
    )
    insecure_registries: str = Field(
        default="", description="`host:port,…` of registries that are spoken to without TLS; loopback always is."
    )
    layer_notes: bool = Field(
        default=True,
        description="Note packages' layers in `cloud-deploy-layers` beside what is published, and use those of others.",
    )
    cache_max_bytes: Annotated[int, BeforeValidator(byte_count)] = Field(
        default=20 * 2**30,
        ge=0,
        description="How large the cache may become, e.g. `20Gi`; 0: no bound. What builds use just now stays.",
    )
    build_history: int = Field(
        default=200, ge=0, description="Builds that are remembered once they are done, besides those with an image."
    )
    compile_bytecode: bool = Field(
        default=False, description="Compile the packages' modules into the image, so that services start sooner."
    )
    api_token: SecretStr | None = Field(
        default=None, description="Whoever calls must send it, the manager too; /healthz needs none."
    )
    api_token_file: Path | None = Field(default=None, description="A file that holds it, instead.")
    allow_no_token: bool = Field(
        default=False, description="Listen beyond loopback without a token: something else keeps others out."
    )
    log_level: str = Field(default="INFO")
    log_format: Literal["json", "text"] = Field(
        default="text", description="`text`: lines for people; `json`: one object each."
    )
