"""The API's answers about what is in an image."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from image_builder import sbom
from image_builder.build_context import context_of, context_tar
from image_builder.build_queue import BuildQueue
from image_builder.contents import ImageFacts
from image_builder.contents_store import ContentsStore
from image_builder.oci.layout import Layout
from image_builder.routes import ANY, ErrorAnswer


def _layout(request: Request) -> Layout:
    return Layout(request.app.state.layout.folder)  # one that tells nobody: being looked at is no use of an image


def _queue(request: Request) -> BuildQueue:
    queue: BuildQueue = request.app.state.queue
    return queue


Images = Annotated[Layout, Depends(_layout)]
Queue = Annotated[BuildQueue, Depends(_queue)]
Digest = Annotated[
    str, Path(pattern=r"^sha256:[0-9a-f]{64}$", description="Of the manifest.", examples=[f"sha256:{'0' * 64}"])
]
BuildId = Annotated[str, Path(description="The id of a build, 32 hex digits.")]

_SBOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [{"type": "library", "name": "flask", "version": "3.1.0", "purl": "pkg:pypi/flask@3.1.0"}],
}

router = APIRouter(responses=ANY)


@router.get(
    "/images/{digest}",
    summary="What is in an image",
    responses={404: {"model": ErrorAnswer, "description": "There is no such image."}},
    tags=["images"],
)
async def show_image(digest: Digest, layout: Images) -> ImageFacts:
    """Layers from the lowest up, and every python package with the hash of its wheel."""
    return await asyncio.to_thread(ContentsStore(layout).facts, digest)


@router.get(
    "/images/{digest}/sbom",
    summary="An image's bill of materials",
    response_class=Response,
    responses={
        200: {
            "description": "CycloneDX 1.6. The same image has the same bytes.",
            "content": {sbom.MEDIA_TYPE: {"schema": {"type": "object"}, "example": _SBOM}},
        },
        404: {"model": ErrorAnswer, "description": "There is no such image."},
    },
    tags=["images"],
)
async def show_sbom(
    digest: Digest,
    layout: Images,
    format: Annotated[Literal["cyclonedx"], Query(description="The one format there is.")] = "cyclonedx",
) -> Response:
    """Every python package with its purl, the hash of its wheel and its license, and the base image."""
    text = await asyncio.to_thread(lambda: sbom.cyclonedx(ContentsStore(layout).facts(digest)))
    return Response(text, media_type=sbom.MEDIA_TYPE)


@router.get(
    "/builds/{build_id}/dockerfile",
    summary="The equivalent Dockerfile",
    response_class=Response,  # without a media type of its own: errors stay JSON
    responses={
        200: {
            "description": "The text, or its whole build context as a tar.",
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": "FROM python:3.11-slim\n…"},
                "application/x-tar": {"schema": {"type": "string", "format": "binary"}, "example": "(a tar)"},
            },
        },
        404: {"model": ErrorAnswer, "description": "There is no such build."},
        409: {"model": ErrorAnswer, "description": "The build has no image yet, or no Dockerfile can say it."},
    },
    tags=["builds"],
)
async def show_dockerfile(
    build_id: BuildId,
    layout: Images,
    queue: Queue,
    format: Annotated[
        Literal["text", "tar"],
        Query(description="`tar`: with the requirements by hash and the program, as `docker build -` takes it."),
    ] = "text",
) -> Response:
    """It builds the same program, with the same packages by hash, on the same base, with any engine."""
    status = await queue.status(build_id)
    context = await asyncio.to_thread(context_of, status, layout, ContentsStore(layout))
    if format == "text":
        return PlainTextResponse(context.dockerfile)
    headers = {"Content-Disposition": f'attachment; filename="{status.id}.tar"'}
    return StreamingResponse(context_tar(context), media_type="application/x-tar", headers=headers)
