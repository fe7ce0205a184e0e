"""`python -m cloud_manager`: builds the concretes from the environment and serves them."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AsyncExitStack

from pydantic import ValidationError
from uvicorn.loops.auto import auto_loop_factory

from cloud_manager.access import check_reach
from cloud_manager.api_token import token_of
from cloud_manager.app import create_app, face
from cloud_manager.board import Board
from cloud_manager.builder_client import BuilderClient
from cloud_manager.clock import SystemClock
from cloud_manager.controller import Controller, fill_board
from cloud_manager.drafts import Drafts
from cloud_manager.errors import BadRequest, DeployError
from cloud_manager.metrics import Metrics
from cloud_manager.preflights import Preflights
from cloud_manager.request_log import log_to_stderr
from cloud_manager.routes.parts import Collaborators
from cloud_manager.server import Server, listen, url_of
from cloud_manager.settings import Settings
from cloud_manager.store.open import open_store
from cloud_manager.targets.catalog import Catalog
from cloud_manager.use_cases import Deployments

log = logging.getLogger(__name__)


def main() -> int:
    """Exit code: 0 after a signal; 1 if it could not start, or the controller died."""
    try:
        settings = Settings()
        _begin_log(settings)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            return runner.run(serve(settings))
    except ValidationError as error:
        return _refuse("; ".join(f"{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors()))
    except DeployError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:  # Before the server took the signals over.
        return 0
    except OSError as error:
        return _refuse(f"{error.filename or 'the system'}: {error.strerror or error}")


async def serve(settings: Settings) -> int:
    """Runs until a signal comes or the controller dies; then closes what it opened, in reverse order."""
    token = _token(settings)
    async with AsyncExitStack() as opened:
        listener = opened.enter_context(listen(settings.cloud_manager_host, settings.cloud_manager_port))
        url = url_of(listener)
        parts = await _build(settings, token, opened)
        # Before the first request: a word that is not known yet would be an error for the project manager.
        await fill_board(parts.board, parts.store)
        deaths: list[str] = []

        def on_death() -> None:
            deaths.append("controller")
            server.should_exit = True

        guarded = bool(token) and settings.tango_gets_need_token
        app = create_app(parts, on_death=on_death, token=token, tango_needs_token=guarded)
        server = Server(face(app, parts, tango_needs_token=guarded), parts.streams.close)
        sys.stdout.write(f"cloud_manager listens at {url}\n")
        sys.stdout.flush()
        await server.serve(sockets=[listener])
    return 1 if deaths else 0


async def _build(settings: Settings, token: str, opened: AsyncExitStack) -> Collaborators:
    clock, board, metrics = SystemClock(), Board(), Metrics()
    store = await open_store(settings.database_url, settings.state_dir, clock, told=metrics.store_call)
    opened.push_async_callback(store.aclose)
    builder = BuilderClient(settings.image_builder_url, token)
    opened.push_async_callback(builder.aclose)
    targets = Catalog(settings, builder, clock, told=metrics.cloud_call)
    opened.push_async_callback(targets.aclose)
    root = settings.shared_root
    controller = Controller(
        store, board, builder, targets, clock, shared_root=root, resync_seconds=settings.resync_seconds, watch=metrics
    )
    deployments = Deployments(store, board, controller, targets, clock, root)
    preflights = Preflights(settings, targets, builder)
    return Collaborators(
        deployments,
        controller,
        store,
        board,
        targets,
        builder,
        clock,
        metrics=metrics,
        preflights=preflights,
        drafts=Drafts(targets, root),
    )


def _token(settings: Settings) -> str:
    token = token_of(settings.api_token, settings.api_token_file)
    if check_reach("CLOUD_MANAGER_HOST", settings.cloud_manager_host, token, allowed=settings.allow_no_token):
        host = settings.cloud_manager_host
        log.warning("CLOUD_MANAGER_HOST=%s: other machines need no token to come in; set API_TOKEN", host)
    return token


def _refuse(reason: str) -> int:
    sys.stderr.write(f"cloud_manager cannot start: {' '.join(reason.split())}\n")
    return 1


def _begin_log(settings: Settings) -> None:
    try:
        log_to_stderr(settings.log_level, settings.log_format)
    except ValueError as error:
        raise BadRequest(str(error), "Set it to DEBUG, INFO, WARNING or ERROR") from error


if __name__ == "__main__":
    sys.exit(main())
