"""`python -m image_builder`: build the concretes and serve."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

import uvicorn
from starlette.types import Scope

from image_builder.access import check_reach
from image_builder.api_token import token_of
from image_builder.app import create_app, face
from image_builder.build_queue import BuildQueue, Maker
from image_builder.build_store import BuildStore
from image_builder.cache_keeper import CacheKeeper
from image_builder.clock import SystemClock
from image_builder.edge.connection import Connection
from image_builder.engines.choose import engines_of
from image_builder.engines.engine import Engine
from image_builder.errors import BuildError
from image_builder.folder_lock import folder_lock
from image_builder.kept_image import is_whole
from image_builder.metrics import Metrics
from image_builder.network import registry_client
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.plan import make_plan
from image_builder.request_log import RequestLog, log_to_stderr
from image_builder.settings import Settings
from image_builder.size_estimate import Estimator
from image_builder.web.app import create_web_app
from image_builder.web.manager_client import ManagerClient
from image_builder.web.parts import WebParts
from image_builder.web.server import Gui
from image_builder.workshop import Network, Workshop

log = logging.getLogger(__name__)

_GRACE = 5  # seconds that open connections have to end; what runs is stopped after that


class Server(uvicorn.Server):
    """Says where it listens, and lets those go who listen to events before it waits for their connections."""

    def __init__(self, config: uvicorn.Config, queue: BuildQueue, gui: Gui) -> None:
        super().__init__(config)
        self._queue, self._gui = queue, gui

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers[:1]:
            host, port = server.sockets[0].getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            sys.stdout.write(f"image builder: http://{where}:{port} (API: http://{where}:{port}/docs)\n")
            sys.stdout.flush()
        if self.started:
            self._gui.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._queue.end_streams()
        await self._gui.stop()
        await super().shutdown(sockets)


async def serve(settings: Settings, workshop: Workshop, maker: Maker, metrics: Metrics | None = None) -> None:
    """Until a signal. Builds that run then go on at the next start."""
    token, metrics = access_token(settings), metrics or Metrics()
    for engine in workshop.engines:
        await engine.sweep()
    own = settings.state_dir / "builder"
    store = BuildStore(own / "builds")
    workers, size = settings.build_workers, settings.build_queue_size
    queue = BuildQueue(store, maker, SystemClock(), workers=workers, size=size, told=metrics.build_ended)
    bound, history = settings.cache_max_bytes, settings.build_history
    keeper = CacheKeeper(workshop.folder, queue, bound=bound, history=history, own=own)
    config = uvicorn.Config(
        face(create_app(queue, workshop.layout, keeper, metrics=metrics, token=token)),
        host=settings.image_builder_host,
        port=settings.image_builder_port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        timeout_graceful_shutdown=_GRACE,
    )
    server = Server(config, queue, gui_of(settings, queue, workshop, token))
    await server.serve()
    if not server.started:
        raise SystemExit(3)  # the log says why


def begin_log(settings: Settings) -> None:
    """Raises BuildError."""
    try:
        log_to_stderr(settings.log_level, settings.log_format)
    except ValueError as error:
        raise BuildError(str(error), "Set it to DEBUG, INFO, WARNING or ERROR.", code="bad_setting") from error


def access_token(settings: Settings) -> str:
    """Raises BuildError."""
    token = token_of(settings.api_token, settings.api_token_file)
    hosts = {"IMAGE_BUILDER_HOST": settings.image_builder_host, "WEB_HOST": settings.web_host}
    for setting, host in hosts.items():
        if check_reach(setting, host, token, allowed=settings.allow_no_token):
            log.warning("%s=%s: other machines need no token to come in; set API_TOKEN", setting, host)
    return token


def gui_of(settings: Settings, queue: BuildQueue, workshop: Workshop, token: str) -> Gui:
    layout = Layout(workshop.layout.folder)  # one that tells nobody: being looked at is no use of an image
    parts = WebParts(ManagerClient(settings.cloud_manager_url, token), queue, layout, Estimator(workshop))
    hosts = tuple(name.strip() for name in settings.web_hosts.split(",") if name.strip())
    app = RequestLog(create_web_app(parts, hosts, token), _uncounted)
    return Gui(app, parts.streams, settings.web_host, settings.web_port)


def _uncounted(scope: Scope, status: int, seconds: float) -> None:
    """Pages are for people; what is measured is the API."""


def network_of(settings: Settings, metrics: Metrics) -> Network:
    insecure = tuple(name.strip() for name in settings.insecure_registries.split(",") if name.strip())
    return Network(insecure, metrics.counting(registry_client), shares_layers=settings.layer_notes)


def workshop_of(settings: Settings, engines: Callable[[Layout], Sequence[Engine]], metrics: Metrics) -> Workshop:
    network = network_of(settings, metrics)
    return Workshop.open(settings.state_dir, os.environ, network, engines, cache_dir=settings.cache_dir)


def maker_of(settings: Settings, workshop: Workshop) -> Maker:
    compiler_of = workshop.interpreters.find if settings.compile_bytecode else None
    return Maker(
        plan=lambda request, flag: make_plan(
            request, settings.shared_root, workshop.hashes, flag, compiler_of=compiler_of
        ),
        build=lambda plan, report: build(plan, workshop, report),
        # What was published may be gone there: asking again looks, and sends what is missing.
        has_image=lambda image: image.pushed is None and is_whole(workshop.layout, image.digest),
    )


def main() -> int:
    if sys.getfilesystemencoding() != "utf-8":  # else a project's file names mean something else than on other machines
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    settings = Settings()
    # Layers are made in threads that mostly compute outside the interpreter: at python's 5 ms they wait for each other.
    sys.setswitchinterval(0.001)
    # uvicorn raises the signal anew once it has stopped; this way what is open is closed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    own = settings.state_dir / "builder"
    engines, metrics = engines_of(own, os.environ, settings.build_network), Metrics()
    try:
        begin_log(settings)
        with folder_lock(own), closing(workshop_of(settings, engines, metrics)) as workshop:
            asyncio.run(serve(settings, workshop, maker_of(settings, workshop), metrics))
    except KeyboardInterrupt:
        return 0
    except BuildError as error:
        sys.stderr.write(f"image builder: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
