"""What of the installed libraries is served: a new version of them shows here what is new."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import google.cloud.devtools.cloudbuild_v1.services as builds
import google.cloud.logging_v2.services as logging

from gcp_emulator.build_backend import cloud_build, cloud_logging
from gcp_emulator.grpc_server import served
from gcp_emulator.operations import Operations
from gcp_emulator.settings import Settings
from tests.gcp_emulator.run_stock import twin_of

_CLOUD_BUILD, _LOGGING = "google.devtools.cloudbuild.v1.CloudBuild", "google.logging.v2.LoggingServiceV2"
_NOT_SERVED = {
    _CLOUD_BUILD: {
        "ApproveBuild", "CreateBuildTrigger", "CreateWorkerPool", "DeleteBuildTrigger", "DeleteWorkerPool",
        "GetBuildTrigger", "GetWorkerPool", "ListBuildTriggers", "ListWorkerPools",
        "ReceiveTriggerWebhook", "RunBuildTrigger", "UpdateBuildTrigger", "UpdateWorkerPool",
    },
    _LOGGING: {"DeleteLog", "ListLogs", "ListMonitoredResourceDescriptors", "TailLogEntries", "WriteLogEntries"},
}  # fmt: skip
"""Answered with UNIMPLEMENTED and their name."""


def _carried(clients: ModuleType, service: str) -> set[str]:
    """Every method of the service that its installed client may call."""
    folder = Path(str(inspect.getfile(clients))).parent
    texts = (file.read_text() for file in folder.glob("*/transports/grpc_asyncio.py"))
    return {method for text in texts for method in re.findall(rf'"(/{service}/\w+)"', text)}


def test_every_method_is_served_or_named_as_not_served(tmp_path: Path) -> None:
    twin = twin_of(Settings(state=tmp_path))
    services = cloud_build(twin, Operations(twin.state, twin.clock), lambda: 0, "unix:///none").services
    ours = served((*services, cloud_logging(twin)))
    twin.state.close()
    carried = _carried(builds, _CLOUD_BUILD) | _carried(logging, _LOGGING)
    assert carried - ours == {f"/{name}/{method}" for name, methods in _NOT_SERVED.items() for method in methods}
    assert ours <= carried
