"""GPUs: which sizes go with which, and how many there are. Pure.

https://cloud.google.com/run/docs/configuring/services/gpu
"""

from __future__ import annotations

from dataclasses import dataclass

from google.cloud import run_v2

from gcp_emulator.run_checks import Violation, Violations, as_gi, cpu_of, memory_of
from gcp_emulator.run_container_checks import GPU

_GI = 2**30
MINIMUM = {"nvidia-l4": (4, 16 * _GI), "nvidia-rtx-pro-6000": (20, 80 * _GI)}
_QUOTA = {"nvidia-l4": "NvidiaL4GpuAlloc", "nvidia-rtx-pro-6000": "NvidiaRtxPro6000GpuAlloc"}
_MODE = "service.template.containers"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a region grants a project: CPUs in thousandths, memory in bytes, GPUs of each kind."""

    cpu: int = 200_000
    memory: int = 400 * _GI
    gpus: int = 3
    zonal_gpus: int = 0
    """With zonal redundancy, which is what a service has that does not disable it."""


def gpu_violations(template: run_v2.RevisionTemplate) -> Violations:
    accelerator = template.node_selector.accelerator
    with_gpu = [index for index, one in enumerate(template.containers) if GPU in one.resources.limits]
    if not accelerator and not with_gpu:
        if "gpu_zonal_redundancy_disabled" in template and template.gpu_zonal_redundancy_disabled:
            yield Violation(
                "service.template.gpu_zonal_redundancy_disabled", "can only be set for a revision with a GPU."
            )
        return
    if accelerator and accelerator not in MINIMUM:
        yield Violation(
            "service.template.node_selector.accelerator",
            f"'{accelerator}' is not supported. The supported GPU types are {', '.join(MINIMUM)}.",
        )
    elif not accelerator:
        yield Violation("service.template.node_selector.accelerator", f"required when '{GPU}' is requested.")
    elif len(with_gpu) != 1:
        yield Violation(f"{_MODE}[0].resources.limits", f"exactly one container must request '{GPU}' of 1.")
    else:
        container = template.containers[with_gpu[0]]
        yield from _sizes(f"{_MODE}[{with_gpu[0]}].resources", container.resources, accelerator)


def _sizes(at: str, resources: run_v2.ResourceRequirements, accelerator: str) -> Violations:
    limits = dict(resources.limits)
    low_cpu, low_memory = MINIMUM[accelerator]
    if limits[GPU] != "1":
        yield Violation(f"{at}.limits.{GPU}", "The only supported value is 1.")
    if (cpu_of(limits.get("cpu", "")) or 0) < low_cpu:
        yield Violation(f"{at}.limits.cpu", f"GPU type {accelerator} requires a minimum of {low_cpu} CPU.")
    if (memory_of(limits.get("memory", "")) or 0) < low_memory:
        yield Violation(
            f"{at}.limits.memory", f"GPU type {accelerator} requires a minimum of {as_gi(low_memory)} memory."
        )
    if resources.cpu_idle:
        yield Violation(f"{at}.cpu_idle", "GPU requires CPU to be always allocated: cpu_idle must be false.")


def quota_problem(template: run_v2.RevisionTemplate, quotas: Quotas) -> str | None:
    """Google's words where max x size is more than the region grants; an unset maximum is held to what fits.

    Reports of them: https://github.com/pulumi/pulumi-gcp/issues/3794, googlecodelabs/feedback issue 1856.
    """
    most = template.scaling.max_instance_count
    if accelerator := template.node_selector.accelerator:
        return _gpu_quota(template, accelerator, most, quotas)
    cpu = sum(int(1000 * (cpu_of(one.resources.limits.get("cpu", "1")) or 1)) for one in template.containers)
    memory = sum(memory_of(one.resources.limits.get("memory", "512Mi")) or 0 for one in template.containers)
    rows = (("total CPU", "CpuAlloc", cpu, quotas.cpu), ("total memory", "MemAlloc", memory, quotas.memory))
    for what, name, size, allowed in rows:
        if most * size > allowed:
            return (
                f"scaling.max_instance_count: Max instances must be set to {allowed // size} or fewer to set the"
                f" requested {what}.\nConsider running your workload in a region with greater capacity, or requesting"
                " an increase in quota for this region if you are seeing sustained usage near this limit, see"
                " https://cloud.google.com/run/quotas.\n\nQuota violated:\n"
                f"{name}PerProjectRegion requested: {most * size} allowed: {allowed}"
            )
    return None


def _gpu_quota(template: run_v2.RevisionTemplate, accelerator: str, most: int, quotas: Quotas) -> str | None:
    zonal = not template.gpu_zonal_redundancy_disabled
    allowed = quotas.zonal_gpus if zonal else quotas.gpus
    wanted = most or max(1, allowed)
    if wanted <= allowed:
        return None
    name = f"{_QUOTA[accelerator]}{'' if zonal else 'NoZonalRedundancy'}PerProjectRegion"
    return (
        f"scaling.max_instance_count: Max instances must be set to {allowed} or fewer\nin order to set GPU"
        " requirements.\nTo request quota: g.co/cloudrun/gpu-quota\n\nQuota violated:\n"
        f"{name} requested: {wanted} allowed: {allowed}"
    )
