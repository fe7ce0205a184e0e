"""Uploads to a registry: begun, sent in one call or piece by piece, taken up where they broke, closed.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx

from image_builder.errors import BuildError
from image_builder.oci.reference import Reference
from image_builder.oci.registry_calls import AGAIN, Body, Call, Calls, location

CHUNK = 1 << 20
_BYTES = {"Content-Type": "application/octet-stream"}

Sent = Callable[[int], None]


class Uploads:
    """Of one registry; several may run side by side. Errors are those of `Registry`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def open(self, reference: Reference, digest: str = "", mount_from: str | None = None) -> httpx.Response:
        """Begin an upload (202), or have the blob mounted (201). Who may not read the other repository uploads."""
        if mount_from:
            answer = await self.mount(reference, digest, mount_from)
            if answer.status_code in (httpx.codes.CREATED, httpx.codes.ACCEPTED):
                return answer
        return await self._calls.patient(Call("POST", f"{reference.repository}/blobs/uploads/", push_scope(reference)))

    async def mount(self, reference: Reference, digest: str, source: str) -> httpx.Response:
        scope = f"{push_scope(reference)} repository:{source}:pull"
        url = f"{reference.repository}/blobs/uploads/?mount={digest}&from={source}"
        return await self._calls.patient(Call("POST", url, scope))

    async def send(self, reference: Reference, url: str, digest: str, path: Path, sent: Sent) -> None:
        """Send a file whole; it is the blob then."""
        if (await asyncio.to_thread(path.stat)).st_size <= CHUNK:
            await self.send_bytes(reference, url, await asyncio.to_thread(path.read_bytes), digest)
            return
        url = location(await self._pieces(reference, url, path, sent))
        answer = await self._calls.patient(Call("PUT", _closing(url, digest), push_scope(reference)))
        if answer.status_code == httpx.codes.NOT_FOUND and await self._is_there(reference, digest):
            return  # a try whose answer was lost has closed it
        self._calls.expect(answer, reference, 201, 204)

    async def _is_there(self, reference: Reference, digest: str) -> bool:
        asked = Call("HEAD", f"{reference.repository}/blobs/{digest}", push_scope(reference))
        return (await self._calls.patient(asked)).status_code == httpx.codes.OK

    async def send_bytes(self, reference: Reference, url: str, data: bytes, digest: str) -> None:
        """In one call; one that broke may have left a part of it there, so the next begins another upload."""
        tries = 0
        while True:
            call = Call("PUT", _closing(url, digest), push_scope(reference), headers=_BYTES, content=data)
            try:
                answer = await self._calls.once(call)
                if answer.status_code not in AGAIN:
                    self._calls.expect(answer, reference, 201, 204)
                    return
                tries += 1
                await self._calls.pause(tries, answer)
            except httpx.TransportError as error:
                tries += 1
                await self._calls.pause(tries, error=error)
            url = location(self._calls.expect(await self.open(reference), reference, 202))

    async def follow(self, reference: Reference, body: Body) -> str | None:
        """Send a blob whose digest is not known yet; the upload that `finish` closes. None if it broke.

        Whatever goes wrong is of no account here: whoever sends the blob will meet it again.
        """
        try:
            opened = await self.open(reference)
            if opened.status_code != httpx.codes.ACCEPTED:
                return None
            call = Call("PATCH", location(opened), push_scope(reference), headers=_BYTES, content=body)
            answer = await self._calls.once(call)
        except (httpx.TransportError, BuildError):
            return None
        return location(answer) if answer.status_code in (201, 202, 204) else None

    async def finish(self, reference: Reference, upload: str, digest: str) -> bool:
        """Whether an upload became the blob. If it did not, the registry throws it away by and by."""
        answer = await self._calls.patient(Call("PUT", _closing(upload, digest), push_scope(reference)))
        return answer.status_code in (httpx.codes.CREATED, httpx.codes.NO_CONTENT)

    async def _pieces(self, reference: Reference, url: str, path: Path, sent: Sent) -> httpx.Response:
        """Send the file in one piece; after a broken connection, the rest of it."""
        size = (await asyncio.to_thread(path.stat)).st_size
        offset = tries = 0
        while True:
            headers = _BYTES | {"Content-Length": str(size - offset), "Content-Range": f"{offset}-{size - 1}"}
            try:
                answer = await self._calls.once(
                    Call("PATCH", url, push_scope(reference), headers=headers, content=_file(path, offset, sent))
                )
                if answer.status_code not in AGAIN:
                    return self._calls.expect(answer, reference, 202, 201, 204)
                tries += 1
                await self._calls.pause(tries, answer)
            except httpx.TransportError as error:
                tries += 1
                await self._calls.pause(tries, error=error)
            url, offset = await self._resume(reference, url)

    async def _resume(self, reference: Reference, url: str) -> tuple[str, int]:
        """How far an upload has come; one that the registry forgot begins anew."""
        answer = await self._calls.patient(Call("GET", url, push_scope(reference)))
        if answer.status_code == httpx.codes.NO_CONTENT:
            last = int(answer.headers.get("range", "0-0").rpartition("-")[2])
            # `0-0` is said both of nothing and of one byte; one byte sent twice would spoil the blob.
            if last > 0:
                return location(answer, url), last + 1
        opened = await self._calls.patient(
            Call("POST", f"{reference.repository}/blobs/uploads/", push_scope(reference))
        )
        self._calls.expect(opened, reference, 202)
        return location(opened), 0


def push_scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull,push"


def _closing(url: str, digest: str) -> str:
    """Where an upload ends."""
    return f"{url}{'&' if '?' in url else '?'}digest={digest}"


def _file(path: Path, offset: int, sent: Sent) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        done = offset
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
                done += len(chunk)
                sent(done)

    return chunks
