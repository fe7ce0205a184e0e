"""Who we are to a registry: ~/.docker/config.json, its credential helpers, and google-auth for Google's registries."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from image_builder.errors import BuildError

HUB_KEY = "https://index.docker.io/v1/"
"""The name under which `docker login` keeps Docker Hub's entry."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a password; with `identity_token` set, an OAuth2 refresh token instead of a password."""

    username: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.username!r}, …)"


class CredentialStore(Protocol):
    async def find(self, registry: str) -> Credential | None:
        """The credential for a registry (`docker.io`, `localhost:5000`), None for an anonymous call."""
        ...


class DockerConfig:
    """What `docker login` left: https://docs.docker.com/reference/cli/docker/login/#credential-stores"""

    def __init__(self, environ: Mapping[str, str]) -> None:
        folder = environ.get("DOCKER_CONFIG")
        self._path = (
            Path(folder) / "config.json"
            if folder
            else Path(environ.get("HOME", "~")).expanduser() / ".docker/config.json"
        )
        self._environ = dict(environ)

    async def find(self, registry: str) -> Credential | None:
        """Raises:
        BuildError: code `registry_credentials`: the file is no JSON, or its helper fails.
        """
        config = await asyncio.to_thread(self._read)
        keys = (
            [HUB_KEY, "index.docker.io", "docker.io"] if registry == "docker.io" else [registry, f"https://{registry}"]
        )
        for key in keys:
            helper = config.get("credHelpers", {}).get(key)
            if helper:
                return await self._ask(helper, key)
        for key in keys:
            entry = config.get("auths", {}).get(key)
            if entry and (entry.get("auth") or entry.get("identitytoken")):
                return _decode(entry)
        store = config.get("credsStore")
        return await self._ask(store, keys[0]) if store else None

    def _read(self) -> dict[str, Any]:
        try:
            config = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BuildError(
                f"{self._path} cannot be read: {error}",
                "Mend the file, or run docker login again.",
                code="registry_credentials",
            ) from error
        return config if isinstance(config, dict) else {}

    async def _ask(self, helper: str, server: str) -> Credential | None:
        program = f"docker-credential-{helper}"
        try:
            process = await asyncio.create_subprocess_exec(
                program, "get", env=self._environ, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise BuildError(
                f"{self._path} names the credential helper {program}, which is not installed",
                f"Install {program}, or remove its line from the file and run docker login again.",
                code="registry_credentials",
            ) from error
        output, _ = await process.communicate(server.encode())
        if process.returncode:
            # By the helpers' protocol this sentence means: nobody logged in there.
            if b"credentials not found" in output:
                return None
            reason = output.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise BuildError(
                f"{program} failed for {server}: {reason[0]}",
                "Log in to the registry again.",
                code="registry_credentials",
            )
        found = json.loads(output)
        if found["Username"] == "<token>":
            return Credential("", "", identity_token=found["Secret"])
        return Credential(found["Username"], found["Secret"])


def _decode(entry: dict[str, str]) -> Credential:
    username, _, password = base64.b64decode(entry.get("auth", "")).decode(errors="replace").partition(":")
    return Credential(username, password.strip("\0"), identity_token=entry.get("identitytoken", ""))
