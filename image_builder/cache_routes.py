"""The builder's API: what is kept in its folder, and clearing it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from image_builder.cache_keeper import CacheKeeper
from image_builder.contract import CacheCleared, CacheView, PinRequest
from image_builder.routes import BODY, DENIED, ErrorAnswer


def _keeper(request: Request) -> CacheKeeper:
    keeper: CacheKeeper = request.app.state.keeper
    return keeper


Keeper = Annotated[CacheKeeper, Depends(_keeper)]
_IMAGE: dict[str, Any] = {
    "kind": "image",
    "name": "builds/4f2a9d0c31b7e6584f2a9d0c31b7e658",
    "size": 183_500_800,
    "used": 1_767_225_600.0,
    "why": "least recently used",
}
_VIEW = {
    "bound": 21_474_836_480,
    "size": 21_600_000_000,
    "in_use": 0,
    "kinds": [
        {"kind": "blob", "count": 212, "size": 15_300_000_000},
        {"kind": "wheel", "count": 140, "size": 6_300_000_000},
    ],
    "images": 23,
    "would_go": [_IMAGE],
}
_CLEARED = {
    "dry_run": False,
    "verified": 0,
    "bound": 21_474_836_480,
    "before": 21_600_000_000,
    "after": 21_416_499_200,
    "gone": [_IMAGE],
}


def _example(value: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


router = APIRouter(
    tags=["cache"],
    responses={
        **DENIED,
        422: {"model": ErrorAnswer, "description": "A parameter is not right."},
        500: {"model": ErrorAnswer, "description": "The folder cannot be used, or a fault of the builder."},
    },
)


@router.get("/cache", summary="What is kept, and what would go", responses=_example(_VIEW))
async def view(keeper: Keeper) -> CacheView:
    """Looking is no use: it keeps nothing from going."""
    return await keeper.view()


@router.put("/pins", summary="Keep images, whatever the bound", status_code=204, responses=BODY)
async def pin(body: PinRequest, keeper: Keeper) -> None:
    """For one owner, instead of what was kept for it before. The manager says what serves and what ran well before."""
    await keeper.pin(body)


@router.post("/gc", summary="Clear the cache down to its bound", responses=_example(_CLEARED))
async def clear(
    keeper: Keeper,
    dry_run: Annotated[bool, Query(description="Say what would go, and remove nothing.")] = False,
    verify: Annotated[bool, Query(description="Read all blobs and wheels; what is corrupt goes, too.")] = False,
) -> CacheCleared:
    """The builder does so by itself at its start and after each build. What a running build uses stays."""
    return await keeper.clear(dry_run=dry_run, verified=verify)
