"""The peer: a Starlette route that answers a constant, served with the manager's own uvicorn settings."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.loops.auto import auto_loop_factory

from cloud_manager.server import Server, listen, url_of


async def _status(_: Request) -> PlainTextResponse:
    return PlainTextResponse("running")


def main() -> None:
    app = Starlette(routes=[Route("/status_request", _status)])
    with listen("127.0.0.1", 0) as listener, asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        print(f"bare route listens at {url_of(listener)}", flush=True)
        runner.run(Server(app, close_streams=lambda: None).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
