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

from image_builder.app import create_app
from image_builder.build_queue import BuildQueue, Maker
from image_builder.build_store import BuildStore
from image_builder.cache_keeper import CacheKeeper
from image_builder.clock import SystemClock
from image_builder.engines.choose import engines_of
from image_builder.engines.engine import Engine
from image_builder.errors import BuildError
from image_builder.folder_lock import folder_lock
from image_builder.kept_image import is_whole
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.plan import make_plan
from image_builder.settings import Settings
from image_builder.web.app import create_web_app
from image_builder.web.manager_client import ManagerClient
from image_builder.web.parts import WebParts
from image_builder.web.server import Gui
from image_builder.workshop import Network, Workshop

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


async def serve(settings: Settings, workshop: Workshop, maker: Maker) -> None:
    """Until a signal. Builds that run then go on at the next start."""
    for engine in workshop.engines:
        await engine.sweep()
    own = settings.state_dir / "builder"
    store = BuildStore(own / "builds")
    queue = BuildQueue(store, maker, SystemClock(), workers=settings.build_workers, size=settings.build_queue_size)
    bound, history = settings.cache_max_bytes, settings.build_history
    keeper = CacheKeeper(workshop.folder, queue, bound=bound, history=history, own=own)
    config = uvicorn.Config(
        create_app(queue, workshop.layout, keeper),
        host=settings.image_builder_host,
        port=settings.image_builder_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = Server(config, queue, gui_of(settings, queue))
    await server.serve()
    if not server.started:
        raise SystemExit(3)  # the log says why


def gui_of(settings: Settings, queue: BuildQueue) -> Gui:
    parts = WebParts(ManagerClient(settings.cloud_manager_url), queue)
    hosts = tuple(name.strip() for name in settings.web_hosts.split(",") if name.strip())
    return Gui(create_web_app(parts, hosts), parts.streams, settings.web_host, settings.web_port)


def network_of(settings: Settings) -> Network:
    insecure = tuple(name.strip() for name in settings.insecure_registries.split(",") if name.strip())
    return Network(insecure, shares_layers=settings.layer_notes)


def workshop_of(settings: Settings, engines: Callable[[Layout], Sequence[Engine]]) -> Workshop:
    network = network_of(settings)
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
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # uvicorn raises the signal anew once it has stopped; this way what is open is closed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    own = settings.state_dir / "builder"
    engines = engines_of(own, os.environ, settings.build_network)
    try:
        with folder_lock(own), closing(workshop_of(settings, engines)) as workshop:
            asyncio.run(serve(settings, workshop, maker_of(settings, workshop)))
    except KeyboardInterrupt:
        return 0
    except BuildError as error:
        sys.stderr.write(f"image builder: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
