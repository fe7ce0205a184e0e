"""Who calls: the tokens that Google would issue and accept.

Three kinds say who somebody is: opaque access tokens that the token endpoint issued, self-signed tokens that gRPC
clients make of a service account's key without asking anybody (https://google.aip.dev/auth/4111), and identity tokens,
which open private services of Cloud Run.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from gcp_emulator import jwt
from gcp_emulator.accounts import TOKEN_URI, Account, Accounts
from gcp_emulator.clock import Clock
from gcp_emulator.state import State

LIFETIME = 3600
_SKEW = 300  # seconds that a client's clock may differ
_GOOGLE = "google"  # whose key signs identity tokens
_ISSUER = "https://accounts.google.com"


class InvalidGrant(Exception):
    """Its words are Google's."""


class Tokens:
    def __init__(self, state: State, accounts: Accounts, clock: Clock) -> None:
        self._table = state.json_table("tokens")
        self._accounts = accounts
        self._clock = clock

    def caller(self, bearer: str) -> str | None:
        """E-mail address of whom this access token (opaque or self-signed) stands for; None: nobody's, or expired."""
        if bearer.count(".") == 2 and bearer.startswith("eyJ"):
            return self._self_signed(bearer)
        row = self._table.get(bearer)
        if row is None or row["expires"] <= self._clock.now():
            return None
        return str(row["email"])

    def caller_of(self, authorization: str | None) -> str | None:
        """The same for the value of an `Authorization` header."""
        scheme, _, bearer = (authorization or "").partition(" ")
        return self.caller(bearer.strip()) if scheme.lower() == "bearer" else None

    def identity(self, token: str, audience: str) -> str | None:
        """E-mail address in an identity token that was issued for this audience; None: not genuine, or expired."""
        read = _read(token)
        if read is None or not read.signed_by(self._google().key.public_key()) or read.claims.get("aud") != audience:
            return None
        return str(read.claims["email"]) if self._now_within(read.claims) else None

    def grant(self, assertion: str) -> dict[str, Any]:
        """Answer to a signed assertion: an access token, or an identity token where `target_audience` is claimed.

        https://developers.google.com/identity/protocols/oauth2/service-account#httprest
        Raises InvalidGrant.
        """
        account, claims = self._asserted(assertion)
        if "target_audience" in claims:
            return {"id_token": self._identity_token(account, str(claims["target_audience"]))}
        token = self.issue(account.email, str(claims.get("scope", "")))
        return {"access_token": token, "expires_in": LIFETIME - 1, "token_type": "Bearer"}

    def issue(self, email: str, scope: str, lifetime: float = LIFETIME) -> str:
        """An opaque access token; those that have expired are forgotten."""
        now = self._clock.now()
        for old, row in self._table.list():
            if row["expires"] <= now:
                self._table.delete(old)
        token = f"ya29.c.{secrets.token_urlsafe(48)}"
        self._table.put(token, {"email": email, "scope": scope, "expires": now + lifetime})
        return token

    def information(self, token: str) -> dict[str, str] | None:
        """What /tokeninfo tells of an access token; None: not valid."""
        row = self._table.get(token)
        if row is None or row["expires"] <= self._clock.now():
            return None
        left = int(row["expires"] - self._clock.now())
        return {
            "scope": row["scope"],
            "exp": str(int(row["expires"])),
            "expires_in": str(left),
            "email": row["email"],
            "email_verified": "true",
            "access_type": "online",
        }

    def certificates(self) -> dict[str, str]:
        """Public keys of identity tokens, PEM by key id."""
        google = self._google()
        return {google.key_id: google.public_key}

    def _google(self) -> Account:
        return self._accounts.ensure(_GOOGLE)

    def _identity_token(self, account: Account, audience: str) -> str:
        now = int(self._clock.now())
        who = {"azp": account.email, "email": account.email, "email_verified": True, "sub": account.unique_id}
        claims = {"iss": _ISSUER, "aud": audience, "iat": now, "exp": now + LIFETIME, **who}
        google = self._google()
        return jwt.sign(google.key, google.key_id, claims)

    def _asserted(self, assertion: str) -> tuple[Account, Mapping[str, Any]]:
        read = _read(assertion)
        if read is None:
            raise InvalidGrant("Bad Request")
        account = self._accounts.get(str(read.claims.get("iss")))
        if account is None:
            raise InvalidGrant("Invalid grant: account not found")
        if not read.signed_by(account.key.public_key()):
            raise InvalidGrant("Invalid JWT Signature.")
        if read.claims.get("aud") != TOKEN_URI:
            raise InvalidGrant(f"Invalid JWT: Failed audience check. The right audience is {TOKEN_URI}")
        if not self._now_within(read.claims):
            raise InvalidGrant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
                " Check your iat and exp values in the JWT claim."
            )
        return account, read.claims

    def _self_signed(self, bearer: str) -> str | None:
        read = _read(bearer)
        if read is None or read.claims.get("iss") != read.claims.get("sub"):
            return None
        if not ("scope" in read.claims or str(read.claims.get("aud", "")).startswith("https://")):
            return None
        account = self._accounts.get(str(read.claims.get("iss")))
        if account is None or not read.signed_by(account.key.public_key()):
            return None
        return account.email if self._now_within(read.claims) else None

    def _now_within(self, claims: Mapping[str, Any]) -> bool:
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(expires, int) or expires - issued > LIFETIME:
            return False
        return issued - _SKEW <= self._clock.now() < expires


def _read(token: str) -> jwt.Jwt | None:
    try:
        return jwt.read(token)
    except ValueError:
        return None
