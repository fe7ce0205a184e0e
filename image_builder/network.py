"""How the builder's HTTP clients reach the world: proxies and certificates by the usual environment variables."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import httpx

from image_builder.errors import BuildError
from image_builder.pip_settings import ca_bundle

TIMEOUT = httpx.Timeout(60.0, connect=20.0)
# What is sent is compressed already, and its hash is that of the bytes as they are.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "tango-cloud-deploy"}
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def registry_client(environ: Mapping[str, str]) -> httpx.AsyncClient:
    """For registries: without ~/.netrc, for their credentials have a place of their own; none on loopback is proxied.

    Raises:
        BuildError: code `bad_ca_bundle`.
    """
    direct = dict.fromkeys((f"all://{host}" for host in _LOOPBACK), None)
    return httpx.AsyncClient(verify=trust(environ), timeout=TIMEOUT, headers=HEADERS, mounts=direct)


def trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates to trust. Raises BuildError, code `bad_ca_bundle`."""
    bundle = ca_bundle(environ)
    if bundle is None:
        return _trusting(None, 0)
    try:
        return _trusting(bundle, Path(bundle).stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        raise BuildError(
            f"the CA bundle {bundle} cannot be read: {error}",
            "Correct SSL_CERT_FILE, REQUESTS_CA_BUNDLE or PIP_CERT.",
            code="bad_ca_bundle",
        ) from error


@cache
def _trusting(bundle: str | None, _changed: int) -> ssl.SSLContext:
    """Reading the certificates takes as long as a whole build in which one line was changed."""
    if bundle is None:
        return httpx.create_ssl_context()
    folder = Path(bundle).is_dir()
    return ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
