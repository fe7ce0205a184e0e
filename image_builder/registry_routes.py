"""A read-only OCI registry over the builder's own images: the pull part of the distribution specification.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from image_builder.build_queue import BuildQueue
from image_builder.errors import BuildNotFound
from image_builder.kept_image import blobs_of
from image_builder.oci.layout import Layout

_NAME = re.compile(r"builds/([0-9a-f]{32})")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json")
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": _MANIFESTS[0],
    "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": "sha256:" + "f0" * 32,
        "size": 240,
    },
    "layers": [],
}
_HEADERS = {"Docker-Distribution-Api-Version": "registry/2.0"}


def _described(description: str, code: str, message: str) -> dict[str, Any]:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
    example = {"errors": [{"code": code, "message": message, "detail": None}]}
    content = {"application/json": {"schema": {"type": "object", "required": ["errors"]}, "example": example}}
    return {"description": description, "content": content}


def _very_bytes(schema: dict[str, str], example: Any, *media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {kind: {"schema": schema, "example": example} for kind in media_types}
    return {200: {"description": "Its very bytes, which the digest is of.", "content": content}}


def _json(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


router = APIRouter(
    tags=["registry"],
    responses={
        401: _described(
            "API_TOKEN is set, and was not sent as the password.", "UNAUTHORIZED", "this call needs a token"
        ),
        404: _described("There is no such image or blob.", "NAME_UNKNOWN", "there is no such build"),
        422: {"description": "Never answered."},
    },
)


class RegistryError(Exception):
    """Answered in the words of the distribution specification."""

    def __init__(self, code: str, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


async def answer_registry_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RegistryError):
        raise error
    return registry_answer(error)


def registry_answer(error: RegistryError) -> JSONResponse:
    body = {"errors": [{"code": error.code, "message": str(error), "detail": None}]}
    return JSONResponse(body, status_code=error.status, headers=_HEADERS)


async def _manifest_digest(name: str, request: Request) -> str:
    """The image of a repository `builds/<id>`. Raises RegistryError."""
    queue: BuildQueue = request.app.state.queue
    match = _NAME.fullmatch(name)
    if match is None:
        raise RegistryError("NAME_UNKNOWN", "repositories are named builds/<id>")
    try:
        status = await queue.status(match[1])
    except BuildNotFound as error:
        raise RegistryError("NAME_UNKNOWN", "there is no such build") from error
    if status.image is None:
        raise RegistryError("NAME_UNKNOWN", f"the build has no image, it is {status.state}")
    return status.image.digest


Manifest = Annotated[str, Depends(_manifest_digest)]


@router.head("/v2/", include_in_schema=False)
@router.get("/v2/", summary="Is this a registry?", responses=_json({}))
async def version() -> JSONResponse:
    return JSONResponse({}, headers=_HEADERS)


@router.get(
    "/v2/{name:path}/tags/list",
    summary="The one tag of an image",
    dependencies=[Depends(_manifest_digest)],
    responses=_json({"name": "builds/4f2a9d0c31b7e6584f2a9d0c31b7e658", "tags": ["latest"]}),
)
async def tags(name: str) -> JSONResponse:
    return JSONResponse({"name": name, "tags": ["latest"]}, headers=_HEADERS)


@router.head("/v2/{name:path}/manifests/{reference:path}", include_in_schema=False)
@router.get(
    "/v2/{name:path}/manifests/{reference:path}",
    summary="The manifest, by digest or as `latest`",
    response_class=Response,
    responses=_very_bytes({"type": "object"}, _MANIFEST, *_MANIFESTS),
)
async def manifest(reference: str, manifest: Manifest, request: Request) -> FileResponse:
    layout: Layout = request.app.state.layout
    kinds = await asyncio.to_thread(blobs_of, layout, manifest)
    if reference not in ("latest", manifest) or manifest not in kinds:
        raise RegistryError("MANIFEST_UNKNOWN", "the image has no such manifest")
    return _file(layout, manifest, kinds[manifest])


@router.head("/v2/{name:path}/blobs/{digest:path}", include_in_schema=False)
@router.get(
    "/v2/{name:path}/blobs/{digest:path}",
    summary="A configuration or layer; ranges are served",
    response_class=Response,
    responses=_very_bytes({"type": "string", "format": "binary"}, "(a gzip)", "application/octet-stream"),
)
async def blob(digest: str, manifest: Manifest, request: Request) -> FileResponse:
    layout: Layout = request.app.state.layout
    if digest not in await asyncio.to_thread(blobs_of, layout, manifest) or not layout.has(digest):
        raise RegistryError("BLOB_UNKNOWN", "the image has no such blob")
    return _file(layout, digest, "application/octet-stream")


def _file(layout: Layout, digest: str, media_type: str) -> FileResponse:
    """The digest is one that a manifest of ours names: no path can be made up by who asks."""
    headers = _HEADERS | {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    return FileResponse(layout.path(digest), media_type=media_type, headers=headers)
