"""What of the installed libraries is served: a new version of them shows here what is new."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import google.cloud.run_v2.services as clients
from google.longrunning import operations_pb2_grpc

from gcp_emulator.grpc_server import served
from gcp_emulator.run_backend import cloud_run
from gcp_emulator.settings import Settings
from tests.gcp_emulator.run_stock import LoopbackRuntime, twin_of

_NOT_SERVED = {
    "google.cloud.run.v2.Builds": {"SubmitBuild"},
    "google.cloud.run.v2.Executions": {"GetExecution", "ListExecutions", "DeleteExecution", "CancelExecution"},
    "google.cloud.run.v2.Instances": {
        "CreateInstance", "GetInstance", "ListInstances", "DeleteInstance", "StartInstance", "StopInstance",
    },
    "google.cloud.run.v2.Jobs": {
        "CreateJob", "GetJob", "ListJobs", "UpdateJob", "DeleteJob", "RunJob",
        "GetIamPolicy", "SetIamPolicy", "TestIamPermissions",
    },
    "google.cloud.run.v2.Tasks": {"GetTask", "ListTasks"},
    "google.cloud.run.v2.WorkerPools": {
        "CreateWorkerPool", "GetWorkerPool", "ListWorkerPools", "UpdateWorkerPool", "DeleteWorkerPool",
        "GetIamPolicy", "SetIamPolicy", "TestIamPermissions",
    },
}  # fmt: skip
"""Answered with UNIMPLEMENTED and their name."""


def carried() -> set[str]:
    """Every method that a client of the installed google-cloud-run may call, and all of google.longrunning."""
    folder = Path(str(inspect.getfile(clients))).parent
    found: set[str] = set()
    for file in folder.glob("*/transports/grpc_asyncio.py"):
        found |= set(re.findall(r'"(/google\.[\w.]+/\w+)"', file.read_text()))

    class Recorder:
        def unary_unary(self, method: str, **_: Any) -> None:
            found.add(method)

    operations_pb2_grpc.OperationsStub(Recorder())
    return found


def test_every_method_is_served_or_named_as_not_served(tmp_path: Path) -> None:
    twin = twin_of(Settings(state=tmp_path))
    ours = served(cloud_run(twin, LoopbackRuntime()).services)
    twin.state.close()
    known = {f"/{service}/{method}" for service, methods in _NOT_SERVED.items() for method in methods}
    assert carried() - ours == known
    assert ours <= carried()
