"""oauth2.googleapis.com, and the public keys at www.googleapis.com."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcp_emulator.tokens import InvalidGrant, Tokens

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def create_app(tokens: Tokens) -> Starlette:
    async def token(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        if form.get("grant_type") != [_JWT_BEARER]:
            return _error("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', [''])[0]}")
        try:
            return JSONResponse(tokens.grant(form.get("assertion", [""])[0]))
        except InvalidGrant as error:
            return _error("invalid_grant", str(error))

    async def information(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        [token] = form.get("access_token", [""])[:1]
        told = tokens.information(request.query_params.get("access_token", token))
        return _error("invalid_token", "Invalid Value") if told is None else JSONResponse(told)

    async def certificates(_: Request) -> Response:
        return JSONResponse(tokens.certificates())

    routes = [
        Route("/token", token, methods=["POST"]),
        Route("/oauth2/v4/token", token, methods=["POST"]),
        Route("/tokeninfo", information, methods=["GET", "POST"]),
        Route("/oauth2/v1/certs", certificates),
    ]
    return Starlette(routes=routes)


def _error(code: str, words: str) -> Response:
    """https://www.rfc-editor.org/rfc/rfc6749#section-5.2"""
    return JSONResponse({"error": code, "error_description": words}, status_code=400)
