"""Cloud Run, put together: the gRPC server behind run.googleapis.com, and the ingress behind *.run.app."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx
from starlette.types import ASGIApp

from gcp_emulator import ingress
from gcp_emulator.api_gate import GrpcGate
from gcp_emulator.grants import Grants
from gcp_emulator.grpc_server import Authentication, FaultInjection, GrpcServer, Service
from gcp_emulator.operations import Operations
from gcp_emulator.run_buckets import Buckets
from gcp_emulator.run_controller import RunController
from gcp_emulator.run_exports import Exports, export_of
from gcp_emulator.run_gpu_checks import Quotas
from gcp_emulator.run_iam import Policies
from gcp_emulator.run_instances import Instances
from gcp_emulator.run_launch import Secrets, Sources
from gcp_emulator.run_project import Project
from gcp_emulator.run_revisions import Revisions
from gcp_emulator.run_services import Services
from gcp_emulator.run_store import RunStore
from gcp_emulator.runtime_docker import DockerRuntime, EitherRuntime
from gcp_emulator.runtime_image import Images
from gcp_emulator.runtime_process import ProcessRuntime
from gcp_emulator.runtime_protocol import Runtime
from gcp_emulator.storage_store import Store
from gcp_emulator.twin import Twin

PACE = 0.2
"""Seconds of each step of a change."""


@dataclass(frozen=True)
class Run:
    controller: RunController
    services: Sequence[Service]
    entry: ingress.Ingress
    ingress: ASGIApp
    operations: Operations


class Server(Protocol):
    async def start(self, port: int = 0) -> int: ...

    async def stop(self) -> None: ...


class RunServer:
    """What the emulator starts and stops: what was under way goes on with the start, nothing is left by the stop."""

    def __init__(self, run: Run, server: GrpcServer) -> None:
        self._run = run
        self._server = server

    async def start(self, port: int = 0) -> int:
        """The port. Raises OSError."""
        await self._run.controller.start()
        return await self._server.start(port)

    async def stop(self) -> None:
        await self._server.stop()
        await self._run.controller.stop()
        await self._run.entry.close()


class Located:
    """A server of which others must know where it listens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = 0

    async def start(self, port: int = 0) -> int:
        """Raises OSError."""
        self.port = await self._server.start(port)
        return self.port

    async def stop(self) -> None:
        await self._server.stop()


def runtime_of(twin: Twin, registry: Located) -> Runtime:
    """Images of layers only run over a python of this machine, those with a base in the Engine, where there is one."""
    folder = twin.settings.state / "run"
    identity = twin.state.json_table("run")
    identity.create("identity", secrets.token_hex(8))

    def client(host: str) -> httpx.AsyncClient:
        token = twin.tokens.issue(twin.settings.compute_account, "pull", lifetime=600)
        headers = {"Authorization": f"Bearer {token}", "Host": host}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{registry.port}", headers=headers, trust_env=False)

    images = Images(folder / "images", client)
    own = str(identity.get("identity"))
    return EitherRuntime(images, ProcessRuntime(folder, own), DockerRuntime(folder, own, twin.settings.docker))


def cloud_run(
    twin: Twin,
    runtime: Runtime,
    *,
    quotas: Quotas | None = None,
    pace: float = PACE,
) -> Run:
    """Args:
    runtime: what runs containers.
    """
    settings = twin.settings
    project = Project(settings.project, settings.project_number, settings.compute_account)
    store, operations = RunStore(twin.state), Operations(twin.state, twin.clock)
    buckets = Buckets(Store(twin.state, twin.clock, settings.project_number))
    volumes = settings.state / "run" / "volumes"
    exports = Exports(map(export_of, settings.nfs))
    instances = Instances(runtime, project, Sources(Secrets(settings.secrets), volumes, buckets.lay_out, exports))
    controller = RunController(
        store=store,
        operations=operations,
        instances=instances,
        project=project,
        clock=twin.clock,
        faults=twin.faults,
        pace=pace,
    )
    policies = Policies(store, project)
    services = Services(
        store=store,
        operations=operations,
        controller=controller,
        policies=policies,
        project=project,
        quotas=quotas or Quotas(),
    )
    revisions = Revisions(store=store, operations=operations, controller=controller, project=project)
    entry = ingress.Ingress(
        store=store,
        controller=controller,
        policies=policies,
        project=project,
        identity=twin.tokens.identity,
        owner=settings.service_account,
        chance=random.Random(),  # noqa: S311 - a share of traffic is no secret
    )
    served = (services.service(), revisions.service(), operations.service())
    return Run(controller, served, entry, ingress.create_app(entry), operations)


def grpc_server(twin: Twin, services: Sequence[Service]) -> GrpcServer:
    """For the services of every part of the twin that speaks gRPC."""
    number = twin.settings.project_number
    gate = GrpcGate(Grants(twin.state, number))
    guards = (Authentication(twin.tokens.caller_of), gate, FaultInjection(twin.faults, twin.clock, number))
    return GrpcServer(services, guards)
