"""REGION-docker.pkg.dev: the OCI distribution API as Artifact Registry speaks it.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md. As at Google, uploads go to an address of their
own, and a blob is fetched from another one, which needs no credentials.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gcp_emulator import registry_errors as errors
from gcp_emulator.api_gate import HttpGate
from gcp_emulator.grants import Grants
from gcp_emulator.http_faults import HttpFaults
from gcp_emulator.public_images import is_public, publish
from gcp_emulator.registry_access import Access
from gcp_emulator.registry_errors import RegistryError
from gcp_emulator.registry_manifest import parts_of
from gcp_emulator.registry_names import DIGEST, TAG, ImageName, parse
from gcp_emulator.registry_store import Manifest, RegistryStore, Upload
from gcp_emulator.twin import Twin

_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/\S+)?")
_UPLOADS = "/artifacts-uploads/namespaces/{project}/repositories/{repository}/uploads/{upload}"
_DOWNLOADS = "/artifacts-downloads/namespaces/{project}/repositories/{repository}/downloads/{ticket}"
_MOST_TICKETS = 10_000


def create_app(twin: Twin) -> ASGIApp:
    registry = _Registry(twin)
    image = "/v2/{name:path}"
    routes = [
        Route("/v2/", registry.version),
        Route("/v2/token", registry.token),
        Route(f"{image}/blobs/uploads/", registry.begin, methods=["POST"]),
        Route(_UPLOADS, registry.progress, methods=["GET"]),
        Route(_UPLOADS, registry.append, methods=["PATCH"]),
        Route(_UPLOADS, registry.finish, methods=["PUT"]),
        Route(_UPLOADS, registry.abandon, methods=["DELETE"]),
        Route(f"{image}/blobs/{{digest}}", registry.blob, methods=["GET"]),
        Route(_DOWNLOADS, registry.download, methods=["GET"]),
        Route(f"{image}/manifests/{{reference}}", registry.manifest, methods=["GET"]),
        Route(f"{image}/manifests/{{reference}}", registry.put_manifest, methods=["PUT"]),
        Route(f"{image}/manifests/{{reference}}", registry.delete_manifest, methods=["DELETE"]),
        Route(f"{image}/tags/list", registry.tags),
    ]
    handlers = {RegistryError: _error, 404: _unknown, 405: _unknown, ClientDisconnect: _gone}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    gated = HttpGate(app, Grants(twin.state, twin.settings.project_number), errors.disabled)
    return HttpFaults(gated, twin.faults, twin.clock, errors.fault_response, twin.settings.project_number)


class _Registry:
    def __init__(self, twin: Twin) -> None:
        self._clock = twin.clock
        self._access = Access(twin)
        self._store = RegistryStore(twin.state)
        publish(self._store, twin.clock.now())
        self._tickets: dict[str, str] = {}

    async def version(self, request: Request) -> Response:
        self._access.caller(request)
        return JSONResponse({})

    async def token(self, request: Request) -> Response:
        return JSONResponse(self._access.token(request))

    # -- push --------------------------------------------------------------------------------------------------

    async def begin(self, request: Request) -> Response:
        """An upload; or the blob at once, mounted from another image or with all its bytes in this call."""
        image = self._image(request, "upload")
        mount, source = request.query_params.get("mount"), request.query_params.get("from", "")
        other = parse(request.headers["host"], source)
        if mount and other and other.project == image.project and self._store.mount(image, mount, other):
            return _created(image, "blobs", mount)
        upload = self._store.begin(image)
        if "digest" in request.query_params:
            return await self._take(request, upload)
        return _accepted(upload)

    async def progress(self, request: Request) -> Response:
        upload = self._upload(request)
        async with upload.lock:  # a call that broke off may still be on its way out
            answer = _accepted(upload)
        answer.status_code = 204
        return answer

    async def append(self, request: Request) -> Response:
        upload = self._upload(request)
        said = _CONTENT_RANGE.fullmatch(request.headers.get("content-range", ""))
        async with upload.lock:
            if said and int(said[1]) != upload.size:
                answer = _accepted(upload)
                answer.status_code = 416
                return answer
            await _receive(request, upload)
            return _accepted(upload)

    async def finish(self, request: Request) -> Response:
        return await self._take(request, self._upload(request))

    async def abandon(self, request: Request) -> Response:
        self._store.abandon(self._upload(request))
        return Response(status_code=204)

    async def put_manifest(self, request: Request) -> Response:
        image = self._image(request, "upload")
        reference, data = request.path_params["reference"], await request.body()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        parts = parts_of(data, media_type)
        if ":" in reference and reference != digest:
            raise errors.bad_digest(reference, digest)
        if ":" not in reference and not TAG.fullmatch(reference):
            raise RegistryError(400, "TAG_INVALID", f"{reference!r} is no tag.")
        for missing in (part for part in parts.blobs if self._store.blob(image, part) is None):
            raise errors.no_part(missing)
        for missing in (part for part in parts.manifests if self._store.manifest(image, part) is None):
            raise errors.no_part(missing)
        tag = None if ":" in reference else reference
        self._store.put_manifest(image, Manifest(digest, media_type, data), tag, self._clock.now(), parts.size)
        return _created(image, "manifests", digest)

    # -- pull --------------------------------------------------------------------------------------------------

    async def blob(self, request: Request) -> Response:
        image, digest = self._image(request, "download"), _digest(request.path_params["digest"])
        path = self._store.blob(image, digest)
        if path is None:
            raise errors.no_blob(digest)
        if request.method == "HEAD":
            size = (await asyncio.to_thread(path.stat)).st_size
            headers = {"Docker-Content-Digest": digest, "Content-Length": str(size), "Accept-Ranges": "bytes"}
            return Response(headers=headers, media_type="application/octet-stream")
        where = _DOWNLOADS.format(project=image.project, repository=image.repository, ticket=self._ticket(digest))
        return Response(status_code=302, headers={"Location": where, "Docker-Content-Digest": digest})

    async def download(self, request: Request) -> Response:
        digest = self._tickets.get(request.path_params["ticket"])
        if digest is None:
            raise errors.denied("download", request.url.path, anonymous=True)
        path = self._store.any_blob(digest)
        return FileResponse(path, headers={"Docker-Content-Digest": digest}, media_type="application/octet-stream")

    async def manifest(self, request: Request) -> Response:
        image, reference = self._image(request, "download"), request.path_params["reference"]
        found = self._store.manifest(image, reference)
        if found is None:
            raise errors.no_manifest(reference, request.url.path)
        headers = {"Docker-Content-Digest": found.digest, "Content-Type": found.media_type}
        return Response(found.data, headers=headers)

    async def tags(self, request: Request) -> Response:
        """With Google's own `manifest`, which tells when each came: `gcloud` shows that."""
        image = self._image(request, "download")
        tags, digests = self._store.tags(image), self._store.digests(image)
        if not digests:
            raise RegistryError(404, "NAME_UNKNOWN", f'Failed to fetch "{image}"')
        shown = [tag for tag in tags if tag > request.query_params.get("last", "")]
        headers = {}
        most = request.query_params.get("n", "")
        if most.isdigit() and int(most) < len(shown):
            shown = shown[: int(most)]
            last = f"&last={shown[-1]}" if shown else ""
            headers["Link"] = f'</v2/{image}/tags/list?n={most}{last}>; rel="next"'
        about = {
            digest: {
                "imageSizeBytes": str(row["size"]),
                "layerId": "",
                "mediaType": row["type"],
                "tag": [tag for tag, of in tags.items() if of == digest],
                "timeCreatedMs": str(int(row["uploaded"] * 1000)),
                "timeUploadedMs": str(int(row["uploaded"] * 1000)),
            }
            for digest, row in digests.items()
        }
        return JSONResponse({"child": [], "manifest": about, "name": str(image), "tags": shown}, headers=headers)

    async def delete_manifest(self, request: Request) -> Response:
        """A tag, or a manifest that no tag names any more."""
        image, reference = self._image(request, "upload"), request.path_params["reference"]
        if ":" not in reference:
            deleted = self._store.delete_tag(image, reference)
        else:
            tags = [tag for tag, digest in self._store.tags(image).items() if digest == reference]
            if tags:
                raise errors.tagged(reference, tags)
            deleted = self._store.delete_manifest(image, reference)
        if not deleted:
            raise errors.no_manifest(reference, request.url.path)
        return Response(status_code=202)

    # -- in common ---------------------------------------------------------------------------------------------

    def _image(self, request: Request, action: str) -> ImageName:
        """The image that is asked for, once it is known that the caller may."""
        image = parse(request.headers["host"], request.path_params["name"])
        if image and is_public(image) and action == "download":
            return image
        self._access.caller(request)
        if image is None:
            raise errors.bad_name(request.path_params["name"])
        self._access.check(image, action)
        return image

    def _upload(self, request: Request) -> Upload:
        self._access.caller(request)
        upload = self._store.upload(request.path_params["upload"])
        if upload is None:
            raise errors.no_upload()
        return upload

    async def _take(self, request: Request, upload: Upload) -> Response:
        """The rest of the bytes, and all of them compared with what was promised."""
        said = _digest(request.query_params.get("digest", ""))
        async with upload.lock:
            await _receive(request, upload)
            found = await asyncio.to_thread(upload.digest)
            if found != said:
                self._store.abandon(upload)
                raise errors.bad_digest(said, found)
            self._store.finish(upload, said)
        return _created(upload.image, "blobs", said)

    def _ticket(self, digest: str) -> str:
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = digest
        while len(self._tickets) > _MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        return ticket


async def _receive(request: Request, upload: Upload) -> None:
    """A call that breaks off leaves what came: the next goes on from there."""
    async for chunk in request.stream():
        if chunk:
            upload.append(chunk)


def _digest(said: str) -> str:
    if not DIGEST.fullmatch(said):
        raise RegistryError(400, "DIGEST_INVALID", f"{said!r} is no sha256 digest.")
    return said


def _accepted(upload: Upload) -> Response:
    image = upload.image
    where = _UPLOADS.format(project=image.project, repository=image.repository, upload=upload.name)
    headers = {"Location": where, "Range": f"0-{max(0, upload.size - 1)}", "Docker-Upload-UUID": upload.name}
    return Response(status_code=202, headers=headers)


def _created(image: ImageName, kind: str, digest: str) -> Response:
    headers = {"Location": f"/v2/{image}/{kind}/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


async def _error(_: Request, error: Exception) -> Response:
    return cast(RegistryError, error).response()


async def _unknown(request: Request, error: Exception) -> Response:
    status = cast(HTTPException, error).status_code
    return errors.unsupported(status, request.method, request.url.path).response()


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read it."""
    return Response(status_code=499)
