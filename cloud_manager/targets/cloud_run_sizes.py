"""Processors, memory and GPUs of Cloud Run: what goes with what, and what is taken where a file says nothing. Pure.

https://cloud.google.com/run/docs/configuring/services/cpu, …/memory-limits, …/gpu
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.targets.docker_spec import gpus

Row = tuple[bool, str, str]
"""(whether it is wrong, cause, fix)"""
_GI = 1024
_USUAL_MEMORY = 512
_BOUNDS = {1: (128, 4 * _GI), 2: (128, 8 * _GI), 4: (2 * _GI, 16 * _GI), 6: (4 * _GI, 24 * _GI), 8: (4 * _GI, 32 * _GI)}
"""CPUs -> least and most memory, MiB."""
_LEAST_CPU = 0.08


@dataclass(frozen=True, slots=True)
class Gpu:
    """cpus: how many may go with it. least, most: memory, MiB."""

    cpus: tuple[int, ...]
    least: int
    most: int


GPUS = {
    "nvidia-l4": Gpu((4, 6, 8), 16 * _GI, 32 * _GI),
    "nvidia-rtx-pro-6000": Gpu((20, 22, 24, 26, 28, 30), 80 * _GI, 176 * _GI),
}
_USUAL_GPU = "nvidia-l4"


@dataclass(frozen=True, slots=True)
class Sizes:
    """memory: MiB. gpu: its type, if one is wanted."""

    cpu: float
    memory: int
    gpu: str | None = None

    @property
    def limits(self) -> dict[str, str]:
        """As `resources.limits` has them."""
        cpu = f"{self.cpu:g}" if self.cpu >= 1 else f"{round(self.cpu * 1000)}m"
        memory = f"{self.memory // _GI}Gi" if self.memory % _GI == 0 else f"{self.memory}Mi"
        return {"cpu": cpu, "memory": memory} | ({"nvidia.com/gpu": "1"} if self.gpu else {})


def gpu_of(spec: DeploymentSpec) -> str | None:
    """The GPU that is asked for; one that there is not, too."""
    return (spec.deploy.resources.gpu_type or _USUAL_GPU) if gpus(spec) else None


def sizes_of(spec: DeploymentSpec) -> Sizes:
    """What is not written is the least that goes with the rest."""
    resources, gpu = spec.deploy.resources, gpu_of(spec)
    known = GPUS.get(gpu or "")
    memory = resources.memory
    cpu = resources.cpu or (float(known.cpus[0]) if known else _cpu_for(memory or 0))
    least = known.least if known else max(_USUAL_MEMORY, _BOUNDS.get(int(cpu), (0, 0))[0])
    return Sizes(cpu, memory or least, gpu)


def _cpu_for(memory: int) -> float:
    return float(next((cpu for cpu, (_, most) in _BOUNDS.items() if memory <= most), max(_BOUNDS)))


def size_problems(spec: DeploymentSpec) -> Iterator[Row]:
    sizes = sizes_of(spec)
    if sizes.gpu is not None:
        yield from _gpu_problems(spec, sizes)
    elif sizes.cpu < 1:
        yield from _small_problems(spec, sizes)
    else:
        yield from _whole_problems(sizes)


def _whole_problems(sizes: Sizes) -> Iterator[Row]:
    bounds = _BOUNDS.get(int(sizes.cpu)) if sizes.cpu == int(sizes.cpu) else None
    if bounds is None:
        wrong = f"deploy.resources.cpu: Cloud Run has no instances of {sizes.cpu:g} CPUs"
        yield True, wrong, "write 1, 2, 4, 6 or 8, or 0.08 to 1"
        return
    yield _memory_row(sizes, *bounds)


def _memory_row(sizes: Sizes, least: int, most: int) -> Row:
    wrong = f"deploy.resources.memory: {_said(sizes.memory)} does not go with {sizes.cpu:g} CPU on Cloud Run"
    more = max(_BOUNDS.values(), key=lambda pair: pair[1])[1]
    cpus = ", or more CPUs" if most < sizes.memory <= more and sizes.gpu is None else ""
    return not least <= sizes.memory <= most, wrong, f"write {_said(least)} to {_said(most)}{cpus}"


def _small_problems(spec: DeploymentSpec, sizes: Sizes) -> Iterator[Row]:
    """https://cloud.google.com/run/docs/configuring/services/cpu#setting"""
    at, many = "deploy.resources.cpu", spec.deploy.scaling.concurrency or 1
    yield sizes.cpu < _LEAST_CPU, f"{at}: {sizes.cpu:g} is less than Cloud Run's smallest, 0.08", "write 0.08 or more"
    yield (
        many > 1,
        f"{at}: with {sizes.cpu:g} CPU an instance of Cloud Run takes one request at a time, not {many}",
        "write cpu: 1, or deploy.scaling.concurrency: 1",
    )
    yield (
        bool(spec.deploy.data),
        f"{at}: with {sizes.cpu:g} CPU Cloud Run mounts neither buckets nor NFS (deploy.data)",
        "write cpu: 1",
    )
    yield _memory_row(sizes, 128, 512 if sizes.cpu < 0.5 else _GI)


def _gpu_problems(spec: DeploymentSpec, sizes: Sizes) -> Iterator[Row]:
    gpu, count = GPUS.get(sizes.gpu or ""), gpus(spec)
    if gpu is None:
        wrong = f"deploy.resources.gpu_type: Cloud Run has no {sizes.gpu}"
        yield True, wrong, f"write one of: {', '.join(GPUS)}"
        return
    yield count > 1, f"deploy.resources.gpu: Cloud Run gives an instance one GPU, not {count}", "write gpu: 1"
    yield (
        sizes.cpu not in gpu.cpus,
        f"deploy.resources.cpu: {sizes.cpu:g} does not go with {sizes.gpu}",
        f"write one of {', '.join(map(str, gpu.cpus))}, or leave it out",
    )
    yield _memory_row(sizes, gpu.least, min(gpu.most, _BOUNDS.get(int(sizes.cpu), (0, gpu.most))[1]))


def _said(memory: int) -> str:
    return f"{memory // _GI}Gi" if memory % _GI == 0 else f"{memory}Mi"
