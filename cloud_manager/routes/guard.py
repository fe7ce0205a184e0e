"""What is refused before a call that acts: calls that no person and no program of TANGO meant."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import Headers

from cloud_manager.errors import DeployError, Forbidden

BODY_LIMIT = 64 * 1024
"""Bytes. No call of ours needs a body at all."""

_FOREIGN = frozenset({"cross-site", "same-site"})
"""A page of another origin; programs send no such header. https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header"""

_AHEAD_OF_TIME = ("sec-purpose", "purpose", "x-purpose", "x-moz")
"""https://fetch.spec.whatwg.org/#sec-purpose-header and its older spellings."""


class BodyTooLarge(DeployError):
    code = "body_too_large"
    http_status = 413

    def __init__(self, limit: int = BODY_LIMIT) -> None:
        fix = "Send no body: this call needs none" if limit == BODY_LIMIT else "Send less"
        super().__init__(f"the body is larger than {limit // 1024} KiB", fix)


def check_meant(headers: Headers) -> None:
    """Refuse what a foreign page or a browser's guess sends.

    Raises:
        Forbidden: says which header gave it away.
    """
    site = headers.get("sec-fetch-site", "").strip().lower()
    if site in _FOREIGN:
        raise Forbidden(
            f"a page of another origin made this request (Sec-Fetch-Site: {site})",
            "Call it from TANGO, from cloud-deploy on the command line, or from the address line of the browser",
            code="cross_site",
        )
    for name in _AHEAD_OF_TIME:
        purpose = headers.get(name, "").lower()
        if any(word in purpose for word in ("prefetch", "prerender", "preview")):
            raise Forbidden(
                f"a browser made this request ahead of time ({name}: prefetch), and it would act",
                "Open the address yourself if it is meant",
                code="prefetch",
            )


async def meant(request: Request) -> None:
    """`check_meant` as a dependency of FastAPI."""
    check_meant(request.headers)


async def small_body(request: Request) -> None:
    """Take in and forget the body that some clients send with a POST. A dependency of FastAPI.

    Raises:
        BodyTooLarge: it is not taken in.
    """
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > BODY_LIMIT:
            raise BodyTooLarge
