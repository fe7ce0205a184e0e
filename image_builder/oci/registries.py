"""The registries that a build talks to: one client for each, over one pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import httpx

from image_builder.oci.credentials import CredentialStore
from image_builder.oci.reference import Reference
from image_builder.oci.registry import Registry
from image_builder.oci.registry_calls import Sleep


class Registries:
    """Use it as a context manager; connections are opened when the first registry is asked for.

    Args:
        connect: makes the HTTP client.
        insecure: names of registries (`host:port`) that are spoken to without TLS; those on loopback always are.
    """

    def __init__(
        self,
        connect: Callable[[], httpx.AsyncClient],
        credentials: CredentialStore,
        *,
        insecure: Sequence[str] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._client: httpx.AsyncClient | None = None
        self._credentials = credentials
        self._insecure = tuple(insecure)
        self._sleep = sleep
        self._known: dict[str, Registry] = {}

    def of(self, reference: Reference) -> Registry:
        """The registry that a reference names; it keeps its tokens from one call to the next."""
        if self._client is None:
            self._client = self._connect()
        if reference.registry not in self._known:
            self._known[reference.registry] = Registry(
                reference, self._client, self._credentials, insecure=self._insecure, sleep=self._sleep
            )
        return self._known[reference.registry]

    async def __aenter__(self) -> Registries:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.aclose()
