"""What Cloud Run accepts as a container: ports, environment, sizes, probes. Pure.

https://cloud.google.com/run/docs/configuring/services/cpu, …/memory-limits, …/environment-variables, …/healthchecks
"""

from __future__ import annotations

import re

from google.cloud import run_v2

from gcp_emulator.run_checks import Violation, Violations, as_gi, cpu_of, memory_of

GPU = "nvidia.com/gpu"
RESERVED_ENV = ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION")

_GI = 2**30
_MI = 2**20
_WHOLE_CPUS = {1: (128 * _MI, 4 * _GI), 2: (128 * _MI, 8 * _GI), 4: (2 * _GI, 16 * _GI)}
_WHOLE_CPUS |= {6: (4 * _GI, 24 * _GI), 8: (4 * _GI, 32 * _GI)}
_LONGEST_ENV = 32768
_IMAGE = re.compile(r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?", re.ASCII)


def container_violations(at: str, container: run_v2.Container, template: run_v2.RevisionTemplate) -> Violations:
    if not container.image:
        yield Violation(f"{at}.image", "required field not present.")
    elif not _IMAGE.fullmatch(container.image):
        yield Violation(
            f"{at}.image",
            f"Expected an image path like [host/]repo-path[:tag and/or @digest], but obtained {container.image}",
        )
    yield from _ports(at, container)
    yield from _env(f"{at}.env", container)
    yield from _limits(f"{at}.resources.limits", container, template)
    if container.working_dir and not container.working_dir.startswith("/"):
        yield Violation(f"{at}.working_dir", "must be an absolute path.")
    yield from _probe(f"{at}.startup_probe", container.startup_probe, longest=240, startup=True)
    yield from _probe(f"{at}.liveness_probe", container.liveness_probe, longest=3600, startup=False)
    yield from _probe(f"{at}.readiness_probe", container.readiness_probe, longest=3600, startup=False)


def _ports(at: str, container: run_v2.Container) -> Violations:
    if len(container.ports) > 1:
        yield Violation(f"{at}.ports", "ports should contain 0 or 1 port.")
    for index, port in enumerate(container.ports):
        if not 0 < port.container_port < 65536:
            yield Violation(f"{at}.ports[{index}].container_port", "must be in the range 1 to 65535.")
        if port.name not in ("", "http1", "h2c"):
            yield Violation(f"{at}.ports[{index}].name", "must be one of http1, h2c.")


def _env(at: str, container: run_v2.Container) -> Violations:
    names = [variable.name for variable in container.env]
    if len(names) > 1000:
        yield Violation(at, "at most 1000 environment variables are allowed.")
    if reserved := sorted({name for name in names if name in RESERVED_ENV}):
        yield Violation(
            at,
            f"The following reserved env names were provided: {', '.join(reserved)}."
            " These values are automatically set by the system.",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield Violation(at, f"environment variables are given more than once: {', '.join(twice)}.")
    for index, variable in enumerate(container.env):
        yield from _variable(f"{at}[{index}]", variable)


def _variable(at: str, variable: run_v2.EnvVar) -> Violations:
    if not variable.name:
        yield Violation(f"{at}.name", "required field not present.")
    elif len(variable.name) > _LONGEST_ENV or re.search(r"[=\0]", variable.name):
        yield Violation(f"{at}.name", "must have at most 32768 characters, none of them '='.")
    if len(variable.value.encode()) > _LONGEST_ENV:
        yield Violation(f"{at}.value", "must have at most 32768 bytes.")
    if "value_source" in variable:
        reference = variable.value_source.secret_key_ref
        if not reference.secret:
            yield Violation(f"{at}.value_source.secret_key_ref.secret", "required field not present.")
        if not reference.version:
            yield Violation(f"{at}.value_source.secret_key_ref.version", "required field not present.")


def _limits(at: str, container: run_v2.Container, template: run_v2.RevisionTemplate) -> Violations:
    limits = dict(container.resources.limits)
    if unknown := sorted(set(limits) - {"cpu", "memory", GPU}):
        yield Violation(at, f"only 'cpu', 'memory' and '{GPU}' are supported, not {', '.join(unknown)}.")
    cpu, memory = cpu_of(limits.get("cpu", "1")), memory_of(limits.get("memory", "512Mi"))
    if cpu is None:
        yield Violation(f"{at}.cpu", "Invalid value specified for cpu.")
    if memory is None:
        yield Violation(f"{at}.memory", "Invalid value specified for memory.")
    if cpu is not None and memory is not None and GPU not in limits:
        yield from _size(at, cpu, memory)
        yield from _environment(at, cpu, memory, container, template)


def _size(at: str, cpu: float, memory: int) -> Violations:
    if cpu >= 1 and cpu not in _WHOLE_CPUS:
        yield Violation(
            f"{at}.cpu", "Invalid value specified for cpu. The supported values are 1, 2, 4, 6 and 8, and 0.08 to 1."
        )
    elif cpu < 0.08:
        yield Violation(f"{at}.cpu", "Invalid value specified for cpu. It must be at least 0.08.")
    else:
        low, high = _WHOLE_CPUS[int(cpu)] if cpu >= 1 else (128 * _MI, 512 * _MI if cpu < 0.5 else _GI)
        if not low <= memory <= high:
            yield Violation(
                f"{at}.memory",
                f"Invalid value specified for memory. For {cpu} CPU, memory must be between"
                f" {as_gi(low)} and {as_gi(high)} inclusive.",
            )


def _environment(
    at: str, cpu: float, memory: int, container: run_v2.Container, template: run_v2.RevisionTemplate
) -> Violations:
    gen2 = template.execution_environment == run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
    always = "resources" in container and not container.resources.cpu_idle
    if cpu < 1 and template.max_instance_request_concurrency > 1:
        yield Violation(f"{at}.cpu", "Total cpu < 1 is not supported with concurrency > 1.")
    for chosen, words in ((gen2, "gen2 execution environment"), (always, "cpu always allocated")):
        if chosen and cpu < 1:
            yield Violation(f"{at}.cpu", f"Total cpu < 1 is not supported with {words}.")
        if chosen and memory < 512 * _MI:
            yield Violation(f"{at}.memory", f"Total memory < 512 Mi is not supported with {words}.")


def _probe(at: str, probe: run_v2.Probe, *, longest: int, startup: bool) -> Violations:
    """0 is "not given" in proto3; then Google's defaults hold: period 10, timeout 1, threshold 3."""
    if not run_v2.Probe.pb(probe).ByteSize():
        return
    period, timeout, threshold = probe.period_seconds or 10, probe.timeout_seconds or 1, probe.failure_threshold or 3
    if not 0 <= probe.initial_delay_seconds <= longest:
        yield Violation(f"{at}.initial_delay_seconds", f"must be between 0 and {longest}.")
    if not 1 <= period <= longest:
        yield Violation(f"{at}.period_seconds", f"must be between 1 and {longest}.")
    if not 1 <= timeout <= 3600 or timeout > period:
        yield Violation(f"{at}.timeout_seconds", "must be at least 1 and must not be greater than period_seconds.")
    if threshold < 1:
        yield Violation(f"{at}.failure_threshold", "must be 1 or more.")
    if startup and period * threshold > 240:
        yield Violation(at, "period_seconds multiplied by failure_threshold must not exceed 240 seconds.")
    yield from _probe_type(at, probe)


def _probe_type(at: str, probe: run_v2.Probe) -> Violations:
    kind = run_v2.Probe.pb(probe).WhichOneof("probe_type")
    if kind is None:
        yield Violation(at, "exactly one of http_get, tcp_socket, or grpc must be specified.")
        return
    port = getattr(probe, kind).port
    if not 0 <= port < 65536:
        yield Violation(f"{at}.{kind}.port", "must be in the range 1 to 65535.")
    if kind == "http_get" and probe.http_get.path and not probe.http_get.path.startswith("/"):
        yield Violation(f"{at}.http_get.path", "must start with '/'.")
