"""The body of a form as a browser sends it: application/x-www-form-urlencoded, bounded."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

_LARGEST = 256 * 1024


async def read_form(request: Request) -> dict[str, str]:
    """Field -> value, the last one of a name.

    Raises:
        HTTPException: 413, over 256 KiB; 400, not a form.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise HTTPException(413)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000))
    except ValueError as error:
        raise HTTPException(400) from error
