"""Google's registries take a token of the application default credentials in place of a password.

https://cloud.google.com/artifact-registry/docs/docker/authentication#token
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from image_builder.errors import BuildError
from image_builder.oci.credentials import Credential, CredentialStore

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_USER = "oauth2accesstoken"


def is_google(registry: str) -> bool:
    return registry == "gcr.io" or registry.endswith((".pkg.dev", ".gcr.io"))


class GoogleCredentials:
    """What `logins` knows; for Google's hosts without a login, a token by google-auth, where that is installed."""

    def __init__(self, logins: CredentialStore, environ: Mapping[str, str]) -> None:
        """environ: this process's own, which google-auth reads, too."""
        self._logins = logins
        self._key_file = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        self._lock = threading.Lock()
        self._found: Any = None

    async def find(self, registry: str) -> Credential | None:
        """Raises:
        BuildError: code `registry_credentials`: the credentials cannot be read, or Google refuses them.
        """
        known = await self._logins.find(registry)
        if known is not None or not is_google(registry):
            return known
        token = await asyncio.to_thread(self._token)
        return Credential(_USER, token) if token else None

    def _token(self) -> str | None:
        """Blocking. None where there is no google-auth, or nobody is logged in."""
        try:
            import google.auth
            import google.auth.exceptions
            import google.auth.transport.requests
        except ImportError:
            return None
        try:
            with self._lock:
                found = self._found or google.auth.default(scopes=[_SCOPE])[0]
                self._found = found
                if not found.valid:
                    found.refresh(google.auth.transport.requests.Request())
                return str(found.token)
        except google.auth.exceptions.DefaultCredentialsError as error:
            if self._key_file is None:
                return None
            raise self._refused(error) from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> BuildError:
        where = self._key_file or "the application default credentials"
        return BuildError(
            f"{where} cannot be used for Google's registry: {' '.join(str(error).split())[:300]}",
            "Correct GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login.",
            code="registry_credentials",
        )
