"""Who may call: a token that Google would refuse must be refused here, or tests prove nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gcp_emulator import jwt
from gcp_emulator.accounts import TOKEN_URI, Account, Accounts, new_account
from gcp_emulator.clock import ManualClock
from gcp_emulator.state import State
from gcp_emulator.tokens import InvalidGrant, Tokens

EMAIL = "me@project.iam.gserviceaccount.com"


@cache
def account() -> Account:
    return new_account(EMAIL)


class Issuer:
    """A token endpoint, and the one account that it knows."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.clock = ManualClock(time.time())
        self.accounts = Accounts(state)
        self.account = account()
        self.accounts.keep(self.account)
        self.tokens = Tokens(state, self.accounts, self.clock)

    def claims(self, **others: Any) -> dict[str, Any]:
        now = int(self.clock.now())
        return {"iss": EMAIL, "aud": TOKEN_URI, "scope": "all", "iat": now, "exp": now + 3600, **others}

    def signed(self, account: Account | None = None, **others: Any) -> str:
        signer = account or self.account
        return jwt.sign(signer.key, signer.key_id, self.claims(**others))


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    state = State(tmp_path)
    yield Issuer(state)
    state.close()


async def test_an_access_token_is_good_for_an_hour_and_no_longer(issuer: Issuer) -> None:
    token = issuer.tokens.grant(issuer.signed())["access_token"]
    assert issuer.tokens.caller(token) == EMAIL
    assert issuer.tokens.caller_of(f"Bearer {token}") == EMAIL
    await issuer.clock.advance(3600)
    assert issuer.tokens.caller(token) is None
    assert issuer.tokens.information(token) is None


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"iss": "nobody@project.iam.gserviceaccount.com"}, "account not found"),
        ({"aud": "https://run.googleapis.com/"}, "audience"),
        ({"exp": int(time.time()) - 10, "iat": int(time.time()) - 3000}, "reasonable timeframe"),
        ({"exp": int(time.time()) + 9000}, "short-lived"),
        ({"exp": None}, "short-lived"),
    ],
)
def test_a_wrong_assertion_is_refused_in_googles_words(issuer: Issuer, others: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidGrant, match=words):
        issuer.tokens.grant(issuer.signed(**others))


def test_a_forged_signature_is_refused(issuer: Issuer) -> None:
    other = issuer.accounts.ensure("other@project.iam.gserviceaccount.com")
    with pytest.raises(InvalidGrant, match="Invalid JWT Signature"):
        issuer.tokens.grant(issuer.signed(other))
    assert issuer.tokens.caller(issuer.signed(other, sub=EMAIL)) is None
    for nonsense in ("", "x", "a.b.c", "eyJ.eyJ.x", issuer.signed()[:-8]):
        with pytest.raises(InvalidGrant):
            issuer.tokens.grant(nonsense)


async def test_self_signed_tokens_of_grpc_clients_are_taken_until_they_expire(issuer: Issuer) -> None:
    """They ask no endpoint: a twin that knew only its own tokens would refuse every stock client."""
    token = issuer.signed(sub=EMAIL, aud="https://run.googleapis.com/")
    assert issuer.tokens.caller(token) == EMAIL
    assert issuer.tokens.caller(issuer.signed(sub="another")) is None
    await issuer.clock.advance(3601)
    assert issuer.tokens.caller(token) is None


async def test_an_identity_token_opens_one_audience_for_an_hour(issuer: Issuer) -> None:
    token = issuer.tokens.grant(issuer.signed(target_audience="https://a.run.app"))["id_token"]
    assert issuer.tokens.identity(token, "https://a.run.app") == EMAIL
    assert issuer.tokens.identity(token, "https://b.run.app") is None
    assert issuer.tokens.identity(issuer.signed(aud="https://a.run.app", email=EMAIL), "https://a.run.app") is None
    await issuer.clock.advance(3601)
    assert issuer.tokens.identity(token, "https://a.run.app") is None


def test_a_key_is_the_same_after_a_restart(issuer: Issuer) -> None:
    token = issuer.tokens.grant(issuer.signed())["access_token"]
    again = Accounts(issuer.state)
    assert again.ensure(EMAIL).private_key == issuer.account.private_key
    assert Tokens(issuer.state, again, issuer.clock).caller(token) == EMAIL
