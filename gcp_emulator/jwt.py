"""JSON Web Tokens with RS256, as Google's clients sign them: https://www.rfc-editor.org/rfc/rfc7519"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey


@dataclass(frozen=True)
class Jwt:
    """A token that can be read; whether it is genuine, `signed_by` says."""

    key_id: str
    claims: Mapping[str, Any]
    _signed: bytes
    _signature: bytes

    def signed_by(self, key: RSAPublicKey) -> bool:
        try:
            key.verify(self._signature, self._signed, PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def sign(key: RSAPrivateKey, key_id: str, claims: Mapping[str, Any]) -> str:
    signed = f"{_encode({'alg': 'RS256', 'typ': 'JWT', 'kid': key_id})}.{_encode(claims)}"
    signature = key.sign(signed.encode(), PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_text(signature)}"


def read(token: str) -> Jwt:
    """ValueError for what is no RS256 token."""
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    head, claims = json.loads(_bytes(header)), json.loads(_bytes(payload))
    if not isinstance(head, dict) or not isinstance(claims, dict) or head.get("alg") != "RS256":
        raise ValueError("no RS256 token")
    return Jwt(str(head.get("kid", "")), claims, signed.encode(), _bytes(signature))


def _encode(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
