"""A certificate authority of the twin's own, and the certificates it gives to Google's host names.

It lies in the state folder and stays the same, so that who trusts it need not be told anew. Its key leaves the folder
never, and it signs for no host that the twin does not serve.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gcp_emulator: trusted by nobody else")])
_DAY = datetime.timedelta(days=1)
_CA_DAYS, _HOST_DAYS = 3650, 397  # clients of Apple's accept no more for a host


class Authority:
    """`certificate` is the file to trust."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key, self._own = self._read() if self.certificate.exists() else self._make()
        self._contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}

    def context(self, host: str, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """A server's, with a certificate for this host, that agrees upon one of the protocols (ALPN)."""
        if (host, protocols) not in self._contexts:
            self._contexts[host, protocols] = self._new_context(host, protocols)
        return self._contexts[host, protocols]

    def _new_context(self, host: str, protocols: tuple[str, ...]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(list(protocols))
        file = self._folder / "host.pem"  # the standard library reads certificates from files alone
        _write(file, self._issue(host))
        context.load_cert_chain(file)
        file.unlink()
        return context

    def _issue(self, host: str) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(host if len(host) <= 64 else "host", _HOST_DAYS, key.public_key())
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return _pem(key) + builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _read(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = serialization.load_pem_private_key((self._folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._folder / 'ca.key'} is no key of this authority")
        return key, x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def _make(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        self._folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates
        own = (
            _builder(None, _CA_DAYS, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self._folder / "ca.key", _pem(key))
        _write(self.certificate, own.public_bytes(serialization.Encoding.PEM))
        return key, own


def _builder(host: str | None, days: int, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    subject = _NAME if host is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_NAME)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + days * _DAY)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for nobody else to read."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(data)
    part.replace(path)
