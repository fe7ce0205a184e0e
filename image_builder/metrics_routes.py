"""What Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from image_builder.metrics import CONTENT_TYPE, Metrics
from image_builder.routes import DENIED

_EXAMPLE = 'image_builder_builds{state="succeeded"} 23.0\nimage_builder_layer_bytes_total{how="reused"} 1.84e+09\n'

router = APIRouter(tags=["service"], responses=DENIED)


@router.get(
    "/metrics",
    summary="Counts and durations, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
)
async def metrics(request: Request) -> Response:
    """From memory; nobody is named in it."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE)
