"""Service accounts and their keys. They lie in the state, so that a key file is good after a restart, too."""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gcp_emulator.state import State

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  an address
_CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"


@dataclass(frozen=True)
class Account:
    """`email` may be one that no service account has: the key that Google itself signs with is kept the same way."""

    email: str
    key_id: str
    private_key: str

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(self.private_key.encode(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError(f"the key of {self.email} is not RSA")
        return key

    @property
    def public_key(self) -> str:
        """PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def unique_id(self) -> str:
        """Twenty-one digits: the `sub` of its tokens."""
        return f"1{zlib.crc32(self.email.encode()):020d}"


class Accounts:
    def __init__(self, state: State) -> None:
        self._table = state.json_table("accounts")
        self._read: dict[str, Account] = {}

    def ensure(self, email: str) -> Account:
        """The account; made, with a key, where it is not there."""
        found = self.get(email)
        if found is None:
            found = new_account(email)
            self.keep(found)
        return found

    def keep(self, account: Account) -> None:
        """From now on this account is known."""
        self._table.put(account.email, {"key_id": account.key_id, "private_key": account.private_key})

    def get(self, email: str) -> Account | None:
        if email not in self._read:
            row = self._table.get(email)
            if row is None:
                return None
            self._read[email] = Account(email, row["key_id"], row["private_key"])
        return self._read[email]


def new_account(email: str) -> Account:
    """With a new key; takes a good part of a second."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
    return Account(email, secrets.token_hex(20), pem)


def key_file(account: Account, project: str) -> dict[str, Any]:
    """What the console gives for download: https://cloud.google.com/iam/docs/keys-create-delete"""
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": account.key_id,
        "private_key": account.private_key,
        "client_email": account.email,
        "client_id": account.unique_id,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
        "auth_provider_x509_cert_url": _CERTIFICATES,
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{quote(account.email)}",
        "universe_domain": "googleapis.com",
    }
