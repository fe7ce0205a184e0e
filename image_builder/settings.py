"""The only reader of the builder's environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    shared_root: Path = Field(default=Path("/shared"), description="The disk that all TANGO containers share.")
    state_dir: Path = Field(
        default=Path("/var/lib/cloud-deploy"), description="Images, caches and build records live in STATE_DIR/builder."
    )
    image_builder_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    image_builder_port: int = Field(default=7007, ge=0, le=65535)
    build_workers: int = Field(default=2, ge=1, le=64, description="Builds that run at a time.")
    build_queue_size: int = Field(default=256, ge=1, description="Builds that may wait; one more is refused.")
    log_level: str = Field(default="INFO")
