"""The whole twin: what serves which host, started together and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from gcp_emulator import artifact_registry, control, storage, token_endpoint
from gcp_emulator.build_backend import WithBuilds, cloud_build, cloud_logging
from gcp_emulator.certificates import Authority
from gcp_emulator.environment import variables, write_files
from gcp_emulator.grants import Grants
from gcp_emulator.hosts import Backend
from gcp_emulator.http_server import HttpServer, Server
from gcp_emulator.management_backend import management_app
from gcp_emulator.onward import Onward
from gcp_emulator.proxy import Proxy
from gcp_emulator.rest import WithRest
from gcp_emulator.run_backend import Located, RunServer, cloud_run, grpc_server, runtime_of
from gcp_emulator.run_locations import locations_service
from gcp_emulator.settings import Host
from gcp_emulator.state import State
from gcp_emulator.twin import Twin


class PortInUse(Exception):
    """A port that clients know already, or that was asked for, is another process's."""


@dataclass(frozen=True)
class Running:
    """variables: what makes a process (or a shell) speak to the twin; `environment` is the same as a file."""

    variables: Mapping[str, str]
    environment: Path
    ports: Mapping[str, int]


def servers_of(twin: Twin) -> dict[Backend, Server]:
    """Those that stand behind the proxy. A service is one line here."""
    registry = Located(HttpServer(artifact_registry.create_app(twin)))
    run = cloud_run(twin, runtime_of(twin, registry))
    apps: dict[Backend, ASGIApp] = {
        "storage": storage.create_app(
            twin.state, twin.faults, twin.clock, twin.tokens.caller_of, twin.settings.project_number
        ),
        "tokens": token_endpoint.create_app(twin.tokens),
        "ingress": run.ingress,
        "management": management_app(twin),
    }
    served: dict[Backend, Server] = {name: HttpServer(app) for name, app in apps.items()}
    # the registry first: what ran before a restart runs again when Cloud Run starts
    builds = cloud_build(twin, run.operations, lambda: registry.port, twin.settings.docker)
    services = (*run.services, locations_service(twin.settings), *builds.services, cloud_logging(twin))
    both = WithRest(WithBuilds(RunServer(run, grpc_server(twin, services)), builds.runner), services)
    return {"registry": registry, **served, "grpc": both, "rest": both.rest}


@asynccontextmanager
async def running(twin: Twin, servers: Mapping[Backend, Server], host: Host) -> AsyncIterator[Running]:
    """All of it listens, and the files are written, while the block runs. Raises PortInUse, OSError."""
    settings = twin.settings
    authority = Authority(settings.state)
    started: list[Server] = []
    try:
        backends = {name: ("127.0.0.1", await _start(started, server)) for name, server in servers.items()}
        proxy = Proxy(authority, backends, Onward(host.proxy) if settings.forward else None, settings.listen)
        controls = HttpServer(control.create_app(twin.faults, Grants(twin.state, settings.project_number)), https=False)
        ports: dict[str, int] = {
            "proxy": await _start_known(started, twin.state, "proxy", proxy, settings.port),
            "control": await _start_known(started, twin.state, "control", controls, settings.control_port),
        }
        ports.update({name: port for name, (_, port) in backends.items()})
        account = twin.accounts.ensure(settings.service_account)
        environment = write_files(settings, host, account, authority.certificate, ports)
        yield Running(variables(settings, host, ports, settings.state.absolute()), environment, ports)
    finally:
        await asyncio.gather(*(server.stop() for server in started))


async def _start(started: list[Server], server: Server, port: int = 0) -> int:
    started.append(server)
    return await server.start(port)


async def _start_known(started: list[Server], state: State, name: str, server: Server, asked: int) -> int:
    """The port asked for, else that of last time: clients that run have it in their environment."""
    ports = state.json_table("ports")
    wanted = asked or ports.get(name) or 0
    try:
        port = await _start(started, server, wanted)
    except OSError as error:
        option = "--port" if name == "proxy" else "--control-port"
        raise PortInUse(f"port {wanted} cannot be had ({error.strerror}): give another {option}") from error
    ports.put(name, port)
    return port
