"""Google's REST APIs, read only: what no client of ours speaks gRPC to. Imported in a thread, when first asked.

All of it blocks. Proxy and certificates are those of the environment, as for Google's own clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession, Request

from cloud_manager.preflight import Unasked, skipped

CALL_SECONDS = 10.0
_TOKEN_INFORMATION = "https://oauth2.googleapis.com/tokeninfo"  # noqa: S105 - an address
_SERVICE_ACCOUNT = ".gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Mapping[str, Any]

    @property
    def words(self) -> str:
        """Of an error, in one line."""
        error = self.body.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        return " ".join(str(message or f"HTTP {self.status}").split())[:300]

    @property
    def disabled(self) -> str | None:
        """The API that is not enabled, if that is what is wrong: https://google.aip.dev/193#errorinfo."""
        for one in self._details():
            if one.get("reason") == "SERVICE_DISABLED":
                return str((one.get("metadata") or {}).get("service") or "")
        return "storage.googleapis.com" if any(one.get("reason") == _STORAGE for one in self._old_details()) else None

    def _details(self) -> Sequence[Mapping[str, Any]]:
        error = self.body.get("error")
        return error.get("details") or () if isinstance(error, dict) else ()

    def _old_details(self) -> Sequence[Mapping[str, Any]]:
        """As Cloud Storage has them: https://cloud.google.com/storage/docs/json_api/v1/status-codes"""
        error = self.body.get("error")
        return error.get("errors") or () if isinstance(error, dict) else ()


_STORAGE = "accessNotConfigured"


class GoogleRest:
    """Calls with one credential; several threads may make them once `renew` has returned."""

    def __init__(self, own: Credentials) -> None:
        self._own: Any = own
        self._session: Any = AuthorizedSession(own)  # type: ignore[no-untyped-call]

    def renew(self) -> str:
        """A fresh token; the answer is whose it is, as IAM writes it, empty where nobody says.

        Raises GoogleAuthError, retryable or not.
        """
        self._own.refresh(_Limited())
        email = str(getattr(self._own, "service_account_email", "") or "")
        return _member(email if "@" in email else self._told_email())

    def get(self, url: str, params: Sequence[tuple[str, str]] = ()) -> Answer:
        """Raises Unasked: nobody answers, or what answers is not Google."""
        return self._call("GET", url, params=list(params))

    def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """For questions that Google takes as POST. Raises Unasked."""
        return self._call("POST", url, json=dict(body))

    def close(self) -> None:
        self._session.close()

    def _call(self, verb: str, url: str, **more: Any) -> Answer:
        try:
            answer = self._session.request(verb, url, timeout=CALL_SECONDS, max_allowed_time=CALL_SECONDS, **more)
            body = answer.json()
        except (requests.RequestException, GoogleAuthError, ValueError) as error:
            host = url.split("/")[2]
            words = " ".join(str(error).split())[:200]
            raise Unasked(skipped(f"{host} does not answer: {words}", "ask again; see to the network")) from error
        return Answer(answer.status_code, body if isinstance(body, dict) else {})

    def _told_email(self) -> str:
        """Of a person's credentials. In the body: what stands in an address is written into logs."""
        try:
            told = requests.post(_TOKEN_INFORMATION, data={"access_token": self._own.token}, timeout=CALL_SECONDS)
            return str(told.json().get("email") or "") if told.ok else ""
        except (requests.RequestException, ValueError):
            return ""  # then the commands have MEMBER in the place of a name


class _Limited(Request):
    """google-auth's own waits two minutes."""

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return super().__call__(*arguments, **{**more, "timeout": CALL_SECONDS})  # type: ignore[no-untyped-call]


def is_passing(error: GoogleAuthError) -> bool:
    """Whether nothing is said against the credential itself."""
    return isinstance(error, TransportError) or bool(getattr(error, "retryable", False))


def _member(email: str) -> str:
    if not email:
        return ""
    return f"{'serviceAccount' if email.endswith(_SERVICE_ACCOUNT) else 'user'}:{email}"
