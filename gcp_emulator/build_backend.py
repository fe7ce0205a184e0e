"""Cloud Build and Cloud Logging, put together: what gRPC serves for them, and what starts and stops with it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from gcp_emulator.build_engine import Programs
from gcp_emulator.build_runner import BuildRunner
from gcp_emulator.build_service import Builds
from gcp_emulator.build_store import BuildStore
from gcp_emulator.grpc_server import Service
from gcp_emulator.http_server import Server
from gcp_emulator.logging_entries import ServiceLogs
from gcp_emulator.logging_service import Logging
from gcp_emulator.operations import Operations
from gcp_emulator.run_project import Project
from gcp_emulator.run_store import RunStore
from gcp_emulator.storage_store import Store
from gcp_emulator.twin import Twin


@dataclass(frozen=True)
class CloudBuild:
    runner: BuildRunner
    services: Sequence[Service]


class WithBuilds:
    """A gRPC server, and the builds that it takes."""

    def __init__(self, server: Server, runner: BuildRunner) -> None:
        self._server = server
        self._runner = runner

    async def start(self, port: int = 0) -> int:
        """Raises OSError."""
        await self._runner.start()
        return await self._server.start(port)

    async def stop(self) -> None:
        await self._server.stop()
        await self._runner.stop()


def cloud_build(twin: Twin, operations: Operations, registry_port: Callable[[], int], docker_host: str) -> CloudBuild:
    """Args:
    registry_port: of Artifact Registry; asked for at each use, for it is known late.
    docker_host: as DOCKER_HOST.
    """
    settings = twin.settings
    identity = twin.state.json_table("build")
    identity.create("identity", secrets.token_hex(8))
    folder = settings.state / "build"
    folder.mkdir(parents=True, exist_ok=True)

    def client(host: str) -> httpx.AsyncClient:
        token = twin.tokens.issue(settings.compute_account, "build", lifetime=600)
        headers = {"Authorization": f"Bearer {token}", "Host": host}
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{registry_port()}", headers=headers, trust_env=False, timeout=60
        )

    store = BuildStore(twin.state, operations, twin.clock)
    objects = Store(twin.state, twin.clock, settings.project_number)
    runner = BuildRunner(
        store=store,
        objects=objects,
        programs=Programs(str(identity.get("identity")), folder, docker_host),
        client=client,
        folder=folder / "work",
        clock=twin.clock,
        faults=twin.faults,
    )
    project = Project(settings.project, settings.project_number, settings.compute_account)
    builds = Builds(store=store, runner=runner, objects=objects, project=project)
    operations.may_cancel("google.devtools.cloudbuild.v1.BuildOperationMetadata", builds.cancel_operation)
    return CloudBuild(runner, (builds.service(),))


def cloud_logging(twin: Twin) -> Service:
    settings = twin.settings
    logs = ServiceLogs(settings.state / "run" / "logs", RunStore(twin.state), settings.project, settings.region)
    return Logging(logs.entries, (settings.project, settings.project_number)).service()
