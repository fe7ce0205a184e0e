"""How a registry is told who asks: https://distribution.github.io/distribution/spec/auth/token/"""

from __future__ import annotations

import base64
import re

import httpx

from image_builder.errors import BuildError
from image_builder.oci.credentials import Credential, CredentialStore

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Authenticator:
    """Answers one registry's challenges and remembers the answers, one per scope.

    A scope is `repository:<name>:pull` or `repository:<name>:pull,push`; for a mount two of them, space-separated.
    """

    def __init__(self, client: httpx.AsyncClient, registry: str, credentials: CredentialStore) -> None:
        self._client = client
        self._registry = registry
        self._credentials = credentials
        self._headers: dict[str, str] = {}

    def header(self, scope: str) -> str | None:
        """The Authorization header that was accepted for this scope before."""
        return self._headers.get(scope)

    async def answer(self, challenge: str, scope: str) -> str | None:
        """The header that answers `WWW-Authenticate: <challenge>`, or None where we have nothing to say.

        Raises:
            BuildError: code `registry_auth`: the token service refuses.
        """
        kind, _, rest = challenge.partition(" ")
        credential = await self._credentials.find(self._registry)
        if kind.lower() == "bearer":
            header = f"Bearer {await self._token(dict(_PARAMETER.findall(rest)), scope, credential)}"
        elif kind.lower() == "basic" and credential:
            header = _basic(credential)
        else:
            return None
        self._headers[scope] = header
        return header

    def forget(self, scope: str) -> None:
        """Tokens expire, often after five minutes: the next call asks for a new one."""
        self._headers.pop(scope, None)

    async def _token(self, challenge: dict[str, str], scope: str, credential: Credential | None) -> str:
        realm = challenge.get("realm", "")
        form = {"service": challenge.get("service", ""), "scope": scope}
        try:
            if credential and credential.identity_token:
                form |= {
                    "grant_type": "refresh_token",
                    "client_id": "cloud-deploy",
                    "refresh_token": credential.identity_token,
                }
                answer = await self._client.post(realm, data=form)
            else:
                auth = (credential.username, credential.password) if credential else None
                answer = await self._client.get(realm, params=_scopes(form), auth=auth)
        except httpx.HTTPError as error:
            raise self._refused(f"its token service {realm} does not answer: {error}", retryable=True) from error
        if answer.status_code != httpx.codes.OK:
            raise self._refused(
                f"its token service answers {answer.status_code}",
                retryable=answer.status_code >= 500 or answer.status_code == 429,
            )
        body = answer.json()
        return str(body.get("token") or body.get("access_token"))

    def _refused(self, why: str, *, retryable: bool) -> BuildError:
        return BuildError(
            f"the registry {self._registry} gives no token: {why}",
            f"Log in with: docker login {self._registry}",
            code="registry_auth",
            retryable=retryable,
        )


def _scopes(form: dict[str, str]) -> list[tuple[str, str | int | float | bool | None]]:
    return [("service", form["service"]), *[("scope", scope) for scope in form["scope"].split(" ")]]


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
