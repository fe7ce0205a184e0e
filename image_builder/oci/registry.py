"""The OCI distribution API, pull and push: https://github.com/opencontainers/distribution-spec/blob/main/spec.md"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from image_builder.errors import BuildError
from image_builder.oci.credentials import CredentialStore
from image_builder.oci.reference import Reference
from image_builder.oci.registry_auth import Authenticator
from image_builder.oci.registry_calls import Body, Call, Calls, Sleep, location
from image_builder.oci.registry_uploads import CHUNK, Sent, Uploads, push_scope

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_TAGS = 1000
"""Asked for in one call; some registries give no more, some refuse to."""

Bring = Callable[[], Awaitable[Path]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index as the registry keeps it: `digest` is that of exactly these bytes."""

    digest: str
    media_type: str
    data: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.data)
        return parsed


@dataclass(frozen=True, slots=True)
class Tags:
    """Those of a repository. complete: False if it has more."""

    names: frozenset[str]
    complete: bool


class Registry:
    """One registry. Calls may run side by side; each is tried again where that may help, as `Retry-After` says."""

    def __init__(
        self,
        reference: Reference,
        client: httpx.AsyncClient,
        credentials: CredentialStore,
        *,
        insecure: Sequence[str] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        plain = reference.loopback or reference.registry in insecure
        base = f"{'http' if plain else 'https'}://{reference.host}/v2/"
        auth = Authenticator(client, reference.registry, credentials)
        self._calls = Calls(reference.registry, base, client, auth, sleep)
        self._uploads = Uploads(self._calls)

    # -- pull --------------------------------------------------------------------------------------------------

    async def manifest(self, reference: Reference) -> Manifest:
        """Raises:
        BuildError: code `image_not_found`, `registry_auth`, `registry_unreachable`, or `wrong_digest`.
        """
        url = f"{reference.repository}/manifests/{reference.version}"
        answer = await self._calls.patient(
            Call("GET", url, _pull(reference), headers={"Accept": ", ".join(MANIFEST_TYPES)})
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise BuildError(
                f"the registry has no image {reference}",
                f"Check the name and the tag; a private image needs docker login {reference.registry}.",
                code="image_not_found",
            )
        self._calls.expect(answer, reference, 200)
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if reference.digest and digest != reference.digest:
            raise _wrong_digest(str(reference), digest)
        return Manifest(digest, answer.headers.get("content-type", "").split(";")[0], answer.content)

    async def tags(self, reference: Reference) -> Tags:
        """What one call tells of the tags of a repository, which need not be there.

        Raises:
            BuildError: code `registry_auth`, `registry_refused` or `registry_unreachable`.
        """
        answer = await self._calls.patient(Call("GET", f"{reference.repository}/tags/list?n={_TAGS}", _pull(reference)))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Tags(frozenset(), complete=True)
        self._calls.expect(answer, reference, 200)
        try:
            names = frozenset(map(str, answer.json()["tags"] or ()))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise BuildError(
                f"the registry {reference.registry} gives no list of the tags of {reference.repository}",
                "Check that it is a registry of images, and that no proxy answers in its place.",
                code="registry_refused",
            ) from error
        return Tags(names, complete="link" not in answer.headers)

    async def blob_size(self, reference: Reference, digest: str) -> int | None:
        """Bytes of a blob, asked by one who may only read; None if it is not there, or the registry does not say."""
        answer = await self._calls.patient(Call("HEAD", f"{reference.repository}/blobs/{digest}", _pull(reference)))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        said = self._calls.expect(answer, reference, 200).headers.get("content-length", "")
        return int(said) if said.isdigit() else None

    async def blob(self, reference: Reference, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob; a broken connection is taken up where it broke. The digest is checked at the end.

        Raises:
            BuildError: code `wrong_digest` (also when it ends early), and as `manifest`.
        """
        seen = hashlib.sha256()
        done = tries = 0
        complete = False
        while not complete:
            try:
                async for chunk in self._read(reference, digest, done):
                    seen.update(chunk)
                    done += len(chunk)
                    yield chunk
                complete = True
            except httpx.TransportError as error:
                tries += 1
                await self._calls.pause(tries, error=error)
        if f"sha256:{seen.hexdigest()}" != digest:
            found = f"sha256:{seen.hexdigest()} after {done} bytes"
            raise _wrong_digest(f"{reference.repository}@{digest}", found)

    async def _read(self, reference: Reference, digest: str, offset: int) -> AsyncIterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = f"{reference.repository}/blobs/{digest}"
        answer = await self._calls.patient(Call("GET", url, _pull(reference), headers=headers, stream=True))
        try:
            self._calls.expect(answer, reference, 200, 206)
            # A registry may ignore the range and send everything again.
            skip = offset if answer.status_code == httpx.codes.OK else 0
            async for chunk in answer.aiter_bytes(CHUNK):
                if skip < len(chunk):
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))
        finally:
            await answer.aclose()

    # -- push --------------------------------------------------------------------------------------------------

    async def has_blob(self, reference: Reference, digest: str) -> bool:
        answer = await self._calls.patient(
            Call("HEAD", f"{reference.repository}/blobs/{digest}", push_scope(reference))
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        self._calls.expect(answer, reference, 200)
        return True

    async def push_blob(
        self,
        reference: Reference,
        digest: str,
        path: Path | Bring,
        *,
        mount_from: str | None = None,
        sent: Sent | None = None,
    ) -> Literal["reused", "mounted", "uploaded"]:
        """Make a blob be there, with as few bytes as can be.

        Args:
            path: the file, or what fetches it once it is needed.
            mount_from: a repository of the same registry that has the blob.
            sent: told the bytes sent so far; fewer after a restart.

        Raises:
            BuildError: as `manifest`; `registry_refused` if the file is not what the digest says.
        """
        if await self.has_blob(reference, digest):
            return "reused"
        opened = await self._uploads.open(reference, digest, mount_from)
        if opened.status_code == httpx.codes.CREATED:
            return "mounted"
        self._calls.expect(opened, reference, 202)
        file = path if isinstance(path, Path) else await path()
        await self._uploads.send(reference, location(opened), digest, file, sent or _nobody)
        return "uploaded"

    async def follow(self, reference: Reference, body: Body) -> str | None:
        """Send a blob whose digest is not known yet; the upload that `finish` closes. None if that did not work out."""
        return await self._uploads.follow(reference, body)

    async def finish(self, reference: Reference, upload: str, digest: str) -> bool:
        """Whether an upload became the blob. If it did not, the registry throws it away by and by."""
        return await self._uploads.finish(reference, upload, digest)

    async def push_bytes(self, reference: Reference, data: bytes) -> str:
        """Store what is too small to ask for first; its digest. Raises as `manifest`."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        opened = self._calls.expect(await self._uploads.open(reference), reference, 202)
        await self._uploads.send_bytes(reference, location(opened), data, digest)
        return digest

    async def mount(self, reference: Reference, digest: str, source: str) -> bool:
        """Have a blob taken over from another repository of this registry, without a byte; False if it does not do so.

        Raises as `manifest`.
        """
        answer = self._calls.expect(await self._uploads.mount(reference, digest, source), reference, 201, 202)
        return answer.status_code == httpx.codes.CREATED

    async def manifest_digest(self, reference: Reference) -> str | None:
        """What a tag or digest names now; None if nothing, or if the registry does not say."""
        url = f"{reference.repository}/manifests/{reference.version}"
        answer = await self._calls.patient(
            Call("HEAD", url, push_scope(reference), headers={"Accept": ", ".join(MANIFEST_TYPES)})
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        said = self._calls.expect(answer, reference, 200).headers.get("docker-content-digest")
        return str(said) if said else None

    async def push_manifest(self, reference: Reference, data: bytes, media_type: str) -> str:
        """Publish a manifest under the reference's digest or tag; its digest.

        Raises:
            BuildError: as `manifest`; `wrong_digest` if the registry understood something else.
        """
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        url = f"{reference.repository}/manifests/{reference.version}"
        answer = await self._calls.patient(
            Call("PUT", url, push_scope(reference), headers={"Content-Type": media_type}, content=data)
        )
        self._calls.expect(answer, reference, 201, 200, 204)
        understood = answer.headers.get("docker-content-digest", digest)
        if understood != digest:
            raise _wrong_digest(f"{reference.repository}@{digest}", understood)
        return digest


def _pull(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def _nobody(_done: int) -> None:
    """Nobody wants to hear of progress."""


def _wrong_digest(what: str, found: str) -> BuildError:
    return BuildError(
        f"{what} came with other bytes: {found}",
        "Something between here and the registry changes or cuts what is sent; try again, then check the proxy.",
        code="wrong_digest",
        retryable=True,
    )
