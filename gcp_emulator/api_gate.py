"""An API that is not enabled answers nothing: before gRPC's methods and before any ASGI application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gcp_emulator.grants import Grants, api_of
from gcp_emulator.grpc_server import refusing
from gcp_emulator.run_errors import Refused


class GrpcGate(grpc.aio.ServerInterceptor):
    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        try:
            self._grants.check_enabled(api_of(details.method))
        except Refused as refused:
            return grpc.unary_unary_rpc_method_handler(refusing(refused))
        return await continuation(details)


class HttpGate:
    def __init__(self, app: ASGIApp, grants: Grants, render: Callable[[Refused], Response]) -> None:
        """render: the error in the form of this service."""
        self._app = app
        self._grants = grants
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "").partition(":")[0]
            try:
                self._grants.check_enabled(api_of(host))
            except Refused as refused:
                await self._render(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)
