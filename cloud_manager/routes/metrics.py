"""What Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from cloud_manager.metrics import CONTENT_TYPE
from cloud_manager.routes.api import OTHER
from cloud_manager.routes.parts import Parts

_EXAMPLE = 'cloud_deploy_deployments{phase="running",target="docker"} 17.0\ncloud_deploy_status_words_total 48210.0\n'

router = APIRouter(tags=["health"], responses=OTHER)


@router.get(
    "/metrics",
    summary="Counts and durations, for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
)
async def metrics(parts: Parts) -> Response:
    """From memory; no project is named in it."""
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE)
