"""What Cloud Run fills in where a request says nothing. Pure; the messages are changed in place.

https://cloud.google.com/run/docs/reference/rpc/google.cloud.run.v2 and what `services describe` shows after a deploy.
"""

from __future__ import annotations

from datetime import timedelta

from google.api import launch_stage_pb2
from google.cloud import run_v2

from gcp_emulator.run_checks import cpu_of

DEFAULT_PORT = 8080
_STARTUP_SECONDS = 240
_Type = run_v2.TrafficTargetAllocationType


def fill_in(service: run_v2.Service, compute_account: str) -> None:
    if not service.ingress:
        service.ingress = run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL
    if not service.launch_stage:
        service.launch_stage = launch_stage_pb2.LaunchStage.GA
    if not service.traffic:
        latest = run_v2.TrafficTarget(type_=_Type.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent=100)
        service.traffic.append(latest)
    _fill_in_template(service.template, compute_account)


def _fill_in_template(template: run_v2.RevisionTemplate, compute_account: str) -> None:
    if not template.timeout:
        template.timeout = timedelta(seconds=300)
    if not template.service_account:
        template.service_account = compute_account
    only = len(template.containers) == 1
    for container in template.containers:
        _fill_in_container(container, serves=only or bool(container.ports))
    if not template.max_instance_request_concurrency:
        cpu = sum(cpu_of(one.resources.limits.get("cpu", "1")) or 1 for one in template.containers)
        template.max_instance_request_concurrency = 80 if cpu >= 1 else 1


def _fill_in_container(container: run_v2.Container, *, serves: bool) -> None:
    if "resources" not in container:
        container.resources = run_v2.ResourceRequirements(cpu_idle=True, startup_cpu_boost=False)
    for key, value in (("cpu", "1000m"), ("memory", "512Mi")):
        if key not in container.resources.limits:
            container.resources.limits[key] = value
    if not serves:
        return
    if not container.ports:
        container.ports.append(run_v2.ContainerPort(container_port=DEFAULT_PORT))
    if not container.ports[0].name:
        container.ports[0].name = "http1"
    _fill_in_probes(container, container.ports[0].container_port)


def _fill_in_probes(container: run_v2.Container, port: int) -> None:
    if "startup_probe" not in container:
        container.startup_probe = run_v2.Probe(
            timeout_seconds=_STARTUP_SECONDS,
            period_seconds=_STARTUP_SECONDS,
            failure_threshold=1,
            tcp_socket=run_v2.TCPSocketAction(port=port),
        )
    for name in ("startup_probe", "liveness_probe", "readiness_probe"):
        if name not in container:
            continue
        probe = getattr(container, name)
        probe.period_seconds = probe.period_seconds or 10
        probe.timeout_seconds = probe.timeout_seconds or 1
        probe.failure_threshold = probe.failure_threshold or 3
        kind = run_v2.Probe.pb(probe).WhichOneof("probe_type")
        getattr(probe, kind).port = getattr(probe, kind).port or port
        if kind == "http_get":
            probe.http_get.path = probe.http_get.path or "/"


def ingress_container(containers: list[run_v2.Container]) -> run_v2.Container:
    """The one that serves: with a port."""
    return next((one for one in containers if one.ports), containers[0])
