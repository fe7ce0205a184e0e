"""Who the Docker Engine is to a registry: what `docker login` left for this user, with its credential helpers.

The engine itself knows no passwords; each pull brings them along:
https://docs.docker.com/reference/api/engine/version/v1.41/#section/Authentication
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloud_manager.errors import TargetError
from cloud_manager.targets.docker_reference import HUB

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", HUB)
"""The names under which `docker login` keeps Docker Hub's entry."""
_PATIENCE = 30.0
"""Seconds that a credential helper gets; some ask their cloud."""


class BadCredentials(TargetError):
    code = "registry_credentials"


class DockerLogin:
    """https://docs.docker.com/reference/cli/docker/login/#credential-stores"""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: what docker calls DOCKER_CONFIG; None: `.docker` of this user."""
        self._path = (folder or Path.home() / ".docker") / "config.json"

    async def header(self, registry: str) -> str | None:
        """Value of `X-Registry-Auth` for a registry; None: nobody has logged in there.

        Raises:
            BadCredentials: the file cannot be read, or the helper that it names is missing or fails.
        """
        login = await self._find(registry)
        if login is None:
            return None
        return base64.urlsafe_b64encode(json.dumps(login | {"serveraddress": _server(registry)}).encode()).decode()

    async def _find(self, registry: str) -> dict[str, str] | None:
        config = await asyncio.to_thread(self._read)
        keys = _HUB_KEYS if registry == HUB else (registry, f"https://{registry}")
        for key in keys:
            if helper := _part(config, "credHelpers").get(key):
                return await self._ask(str(helper), key)
        for key in keys:
            if found := self._decoded(_part(config, "auths").get(key)):
                return found
        store = config.get("credsStore")
        return await self._ask(str(store), keys[0]) if store else None

    def _read(self) -> dict[str, Any]:
        try:
            config = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BadCredentials(
                f"{self._path} cannot be read: {error}", "mend the file, or run docker login again"
            ) from error
        return config if isinstance(config, dict) else {}

    def _decoded(self, entry: Any) -> dict[str, str] | None:
        """An entry of `auths`; an empty one says only that its password is in the store."""
        if not isinstance(entry, dict):
            return None
        if entry.get("identitytoken"):
            return {"identitytoken": str(entry["identitytoken"])}
        if not entry.get("auth"):
            return None
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (ValueError, TypeError) as error:
            raise BadCredentials(f"{self._path} holds a login that is not base64", "run docker login again") from error
        return {"username": username, "password": password.strip("\0")}

    async def _ask(self, helper: str, server: str) -> dict[str, str] | None:
        """https://github.com/docker/docker-credential-helpers#development"""
        program = f"docker-credential-{helper}"
        try:
            async with asyncio.timeout(_PATIENCE):
                status, output = await _run(program, server)
        except OSError as error:  # a TimeoutError is one, too
            reason = "does not answer" if isinstance(error, TimeoutError) else f"cannot be started ({error.strerror})"
            raise BadCredentials(
                f"{self._path} names the credential helper {program}, which {reason}",
                f"install {program} where the manager runs, or remove its line and run docker login again",
            ) from error
        if status and b"credentials not found" in output:
            return None  # by the helpers' protocol this sentence means: nobody logged in there
        try:
            if status:
                raise ValueError(f"it ended with {status}")
            found = json.loads(output)
            name, secret = str(found["Username"]), str(found["Secret"])
        except (ValueError, LookupError, TypeError) as error:  # its words may hold the secret: they are not told
            raise BadCredentials(
                f"{program} has no login for {server} ({type(error).__name__})", f"log in to {server} again"
            ) from error
        return {"identitytoken": secret} if name == "<token>" else {"username": name, "password": secret}


async def _run(program: str, given: str) -> tuple[int, bytes]:
    """Exit status and output. Cancelled, the program is killed and waited for."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program, "get", stdin=pipe, stdout=pipe, stderr=null)
    try:
        output, _ = await process.communicate(given.encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _server(registry: str) -> str:
    return _HUB_KEYS[0] if registry == HUB else registry
