"""Who may use a repository: https://cloud.google.com/artifact-registry/docs/docker/authentication"""

from __future__ import annotations

import base64
import binascii
import json

from starlette.requests import Request

from gcp_emulator import registry_errors as errors
from gcp_emulator.public_images import is_public
from gcp_emulator.registry_errors import RegistryError
from gcp_emulator.registry_names import ImageName, parse
from gcp_emulator.repositories import Repositories
from gcp_emulator.twin import Twin

_LIFETIME = 3600
_TOKEN_USERS = ("oauth2accesstoken", "_token", "_dcgcloud_token")  # the others are of gcloud


class Access:
    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._repositories = Repositories(twin.settings, twin.state, twin.clock)

    def caller(self, request: Request) -> str:
        """E-mail address of the account. Raises RegistryError: UNAUTHORIZED, with the way to a token."""
        authorization = request.headers.get("authorization", "")
        found = self._twin.tokens.caller_of(authorization) or self._by_password(authorization)
        if found is None:
            host = request.headers.get("host", "")
            challenge = f'Bearer realm="https://{host}/v2/token",service="{host}"'
            raise RegistryError(401, "UNAUTHORIZED", "authentication failed", {"WWW-Authenticate": challenge})
        return found

    def token(self, request: Request) -> dict[str, object]:
        """For `docker login` and its like: a password becomes a token. Raises RegistryError."""
        authorization = request.headers.get("authorization", "")
        caller = self._by_password(authorization)
        if caller is None and authorization:
            raise RegistryError(401, "UNAUTHORIZED", "authentication failed")
        if caller is None:
            self._only_public(request.headers.get("host", ""), request.query_params.get("scope", ""))
            return {"token": "anonymous", "expires_in": _LIFETIME}  # nobody's: good for what needs none
        return {"token": self._twin.tokens.issue(caller, "registry", _LIFETIME), "expires_in": _LIFETIME}

    def check(self, image: ImageName, action: str) -> None:
        """Whether the repository is one of ours, and there. action: `download` or `upload`. Raises RegistryError."""
        if image.project != self._twin.settings.project:
            raise errors.denied(action, image.resource, anonymous=False)
        if not self._repositories.has(image.location, image.repository):
            raise errors.no_repository(image.repository)

    def _only_public(self, host: str, scope: str) -> None:
        """Nobody in particular may read what is public. Raises RegistryError."""
        name, _, actions = scope.removeprefix("repository:").partition(":")
        image = parse(host, name)
        if image is None or not is_public(image) or actions != "pull":
            action = "upload" if "push" in actions else "download"
            raise errors.denied(action, image.resource if image else name or "projects", anonymous=True)

    def _by_password(self, authorization: str) -> str | None:
        """A name of those for tokens with an access token, `_json_key` with a service account's key file."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            if user == "_json_key_base64":
                user, password = "_json_key", base64.b64decode(password, validate=True).decode()
            if user == "_json_key":
                return self._by_key(json.loads(password))
        except (binascii.Error, ValueError):
            return None
        return self._twin.tokens.caller(password) if user in _TOKEN_USERS else None

    def _by_key(self, key: object) -> str | None:
        if not isinstance(key, dict):
            return None
        account = self._twin.accounts.get(str(key.get("client_email")))
        return account.email if account and account.private_key == key.get("private_key") else None
