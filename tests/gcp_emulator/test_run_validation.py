"""What Cloud Run refuses, and what it accepts: a target that sends the wrong thing must be told here already."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import run_v2

from gcp_emulator.run_gpu_checks import Quotas, quota_problem
from gcp_emulator.run_validation import service_id_violations, service_violations
from tests.gcp_emulator.run_stock import IMAGE

LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
GEN1 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1
GEN2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2
GPU = "nvidia.com/gpu"


def fields(template: dict[str, Any] | None = None, service_id: str = "hello", **service: Any) -> list[str]:
    """Where it is wrong. `template` is of one container, whose fields come under `container`."""
    rest = dict(template or {})
    container = run_v2.Container({"image": IMAGE, **rest.pop("container", {})})
    wish = run_v2.Service(template=run_v2.RevisionTemplate({"containers": [container], **rest}), **service)
    return [one.field.removeprefix("service.") for one in service_violations(wish, service_id)]


def container(**values: Any) -> list[str]:
    return [field.removeprefix("template.containers[0].") for field in fields({"container": values})]


def limits(cpu: str, memory: str, **more: Any) -> list[str]:
    rest = {"cpu_idle": True, **more.pop("resources", {})}
    wish = {"container": {"resources": {"limits": {"cpu": cpu, "memory": memory}, **rest}}, **more}
    return [field.rsplit(".", 1)[-1] for field in fields(wish)]


@pytest.mark.parametrize("name", ["a", "hello", "hello-1", "a" * 49])
def test_names_that_are_accepted(name: str) -> None:
    assert service_id_violations(name) == []


@pytest.mark.parametrize("name", ["", "Hello", "1hello", "-hello", "hello-", "he_llo", "a" * 50, "hällo"])
def test_names_that_are_refused(name: str) -> None:
    assert [one.field for one in service_id_violations(name)] == ["service_id"]


def test_the_least_is_enough() -> None:
    assert fields() == []


def test_labels_and_annotations_of_the_system_are_refused() -> None:
    assert fields(labels={"cloud-deploy": "yes", "a_b": ""}) == []
    for key in ("Owner", "1a", "run.googleapis.com/x", "a.b", "x" * 64):
        assert fields(labels={key: "x"}) == ["labels"]
    assert fields(labels={"a": "Not Lower"}) == ["labels"]
    assert fields(labels={f"k{number}": "" for number in range(65)}) == ["labels"]
    assert fields(annotations={"example.com/Any": "Thing"}) == []
    assert fields(annotations={"serving.knative.dev/creator": "me"}) == ["annotations"]
    assert fields({"labels": {"A": "b"}}) == ["template.labels"]


def test_ports() -> None:
    assert container(ports=[{"container_port": 8080, "name": "h2c"}]) == []
    assert container(ports=[{"container_port": 1}, {"container_port": 2}]) == ["ports"]
    assert container(ports=[{"container_port": 65536}]) == ["ports[0].container_port"]
    assert container(ports=[{"container_port": 80, "name": "https"}]) == ["ports[0].name"]


def test_images() -> None:
    assert container(image="") == ["image"]
    assert container(image="Not An Image") == ["image"]
    assert container(image=f"{IMAGE}:tag@sha256:{'0' * 64}") == []


def test_environment_variables() -> None:
    assert container(env=[{"name": "A", "value": "1"}]) == []
    for name in ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"):
        assert container(env=[{"name": name, "value": "1"}]) == ["env"]
    assert container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]) == ["env"]
    assert container(env=[{"name": "", "value": "1"}]) == ["env[0].name"]
    assert container(env=[{"name": "A", "value": "x" * 32769}]) == ["env[0].value"]
    secret = {"secret_key_ref": {"secret": "s"}}
    assert container(env=[{"name": "A", "value_source": secret}]) == ["env[0].value_source.secret_key_ref.version"]


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [("1", "128Mi"), ("1000m", "4Gi"), ("2", "8Gi"), ("4", "2Gi"), ("8", "32Gi"), ("6", "24Gi"), ("0.5", "1Gi")],
)
def test_sizes_that_go_together(cpu: str, memory: str) -> None:
    assert limits(cpu, memory) == []


@pytest.mark.parametrize(
    ("cpu", "memory", "where"),
    [
        ("1", "8Gi", "memory"),
        ("1", "64Mi", "memory"),
        ("4", "1Gi", "memory"),
        ("8", "2Gi", "memory"),
        ("2", "16Gi", "memory"),
        ("0.25", "1Gi", "memory"),
        ("3", "4Gi", "cpu"),
        ("16", "32Gi", "cpu"),
        ("0.01", "128Mi", "cpu"),
        ("many", "1Gi", "cpu"),
        ("1", "lots", "memory"),
    ],
)
def test_sizes_that_do_not(cpu: str, memory: str, where: str) -> None:
    assert limits(cpu, memory) == [where]


def test_what_small_containers_cannot_have() -> None:
    assert limits("0.5", "512Mi", max_instance_request_concurrency=80) == ["cpu"]
    assert limits("0.5", "512Mi", execution_environment=GEN2) == ["cpu"]
    assert limits("0.5", "512Mi", resources={"cpu_idle": False}) == ["cpu"]
    assert limits("1", "256Mi", execution_environment=GEN2) == ["memory"]
    assert limits("1", "256Mi", resources={"cpu_idle": False}) == ["memory"]


def gpu(cpu: str, memory: str, accelerator: str = "nvidia-l4", count: str = "1", **more: Any) -> list[str]:
    resources = {"limits": {"cpu": cpu, "memory": memory, GPU: count}, "cpu_idle": more.pop("cpu_idle", False)}
    return fields({"container": {"resources": resources}, "node_selector": {"accelerator": accelerator}, **more})


def test_gpus_and_the_sizes_they_need() -> None:
    at = "template.containers[0].resources"
    assert gpu("4", "16Gi", gpu_zonal_redundancy_disabled=True) == []
    assert gpu("8", "32Gi") == []
    assert gpu("20", "80Gi", "nvidia-rtx-pro-6000") == []
    assert gpu("2", "16Gi") == [f"{at}.limits.cpu"]
    assert gpu("4", "8Gi") == [f"{at}.limits.memory"]
    assert gpu("8", "32Gi", "nvidia-rtx-pro-6000") == [f"{at}.limits.cpu", f"{at}.limits.memory"]
    assert gpu("4", "16Gi", cpu_idle=True) == [f"{at}.cpu_idle"]
    assert gpu("4", "16Gi", count="2") == [f"{at}.limits.{GPU}"]
    assert gpu("4", "16Gi", "nvidia-h100") == ["template.node_selector.accelerator"]
    assert gpu("4", "16Gi", "") == ["template.node_selector.accelerator"]
    assert fields({"node_selector": {"accelerator": "nvidia-l4"}}) == ["template.containers[0].resources.limits"]
    assert fields({"gpu_zonal_redundancy_disabled": True}) == ["template.gpu_zonal_redundancy_disabled"]


def test_quotas_are_asked_for_in_googles_words() -> None:
    """https://github.com/pulumi/pulumi-gcp/issues/3794"""
    template = run_v2.RevisionTemplate(
        node_selector={"accelerator": "nvidia-l4"},
        scaling={"max_instance_count": 10},
        gpu_zonal_redundancy_disabled=True,
    )
    assert (quota_problem(template, Quotas()) or "").splitlines()[-1] == (
        "NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion requested: 10 allowed: 3"
    )
    template.scaling.max_instance_count = 3
    assert quota_problem(template, Quotas()) is None
    template.gpu_zonal_redundancy_disabled = False
    assert "Max instances must be set to 0 or fewer" in (quota_problem(template, Quotas()) or "")


def test_quotas_of_size_count_the_most_instances() -> None:
    one = run_v2.Container(resources={"limits": {"cpu": "2", "memory": "1Gi"}})
    template = run_v2.RevisionTemplate(containers=[one], scaling={"max_instance_count": 20})
    assert quota_problem(template, Quotas()) is None
    assert "CpuAllocPerProjectRegion requested: 40000 allowed: 20000" in (
        quota_problem(template, Quotas(cpu=20_000)) or ""
    )
    template.scaling.max_instance_count = 0
    assert quota_problem(template, Quotas(cpu=20_000)) is None


def probe(kind: str = "startup_probe", **values: Any) -> list[str]:
    return container(**{kind: {"http_get": {"path": "/"}, **values}})


def test_probes() -> None:
    assert probe() == []
    assert probe(period_seconds=240, timeout_seconds=240, failure_threshold=1) == []
    assert probe(period_seconds=10, failure_threshold=24) == []
    assert probe(period_seconds=10, failure_threshold=25) == ["startup_probe"]
    assert probe(period_seconds=241, failure_threshold=1) == ["startup_probe.period_seconds", "startup_probe"]
    assert probe(period_seconds=5, timeout_seconds=6) == ["startup_probe.timeout_seconds"]
    assert probe(initial_delay_seconds=241) == ["startup_probe.initial_delay_seconds"]
    assert probe(http_get={"path": "health"}) == ["startup_probe.http_get.path"]
    assert probe("liveness_probe", period_seconds=3600) == []
    assert probe("liveness_probe", period_seconds=3601) == ["liveness_probe.period_seconds"]
    assert container(startup_probe={"period_seconds": 5}) == ["startup_probe"]


def test_time_and_concurrency() -> None:
    assert fields({"timeout": {"seconds": 3600}, "max_instance_request_concurrency": 1000}) == []
    assert fields({"timeout": {"seconds": 3601}}) == ["template.timeout"]
    assert fields({"max_instance_request_concurrency": 1001}) == ["template.max_instance_request_concurrency"]


def test_scaling() -> None:
    assert fields({"scaling": {"min_instance_count": 2, "max_instance_count": 2}}) == []
    assert fields({"scaling": {"min_instance_count": 3, "max_instance_count": 2}}) == [
        "template.scaling.min_instance_count"
    ]
    assert fields({"scaling": {"max_instance_count": -1}}) == ["template.scaling.max_instance_count"]
    assert fields(scaling={"manual_instance_count": 1}) == ["scaling.manual_instance_count"]


def test_volumes_and_mounts() -> None:
    def volume(**source: Any) -> list[str]:
        mounted = {"volume_mounts": [{"name": "data", "mount_path": "/data"}]}
        return fields({"container": mounted, "volumes": [{"name": "data", **source}]})

    assert volume(gcs={"bucket": "b", "read_only": True}) == []
    assert volume(nfs={"server": "10.0.0.1", "path": "/share"}) == []
    assert volume(secret={"secret": "s"}) == []
    assert volume(empty_dir={"size_limit": "1Gi"}) == []
    assert volume() == ["template.volumes[0]"]
    assert volume(gcs={"read_only": True}) == ["template.volumes[0].gcs.bucket"]
    assert volume(nfs={"server": "", "path": "share"}) == [
        "template.volumes[0].nfs.server",
        "template.volumes[0].nfs.path",
    ]
    assert volume(secret={"secret": "s", "items": [{"path": "../x", "version": "1"}]}) == [
        "template.volumes[0].secret.items[0].path"
    ]
    assert container(volume_mounts=[{"name": "none", "mount_path": "/x"}]) == ["volume_mounts[0].name"]
    gcs = {"volumes": [{"name": "data", "gcs": {"bucket": "b"}}]}
    assert fields({**gcs, "execution_environment": GEN1}) == ["template.execution_environment"]
    relative = {"volume_mounts": [{"name": "data", "mount_path": "x"}]}
    assert fields({**gcs, "container": relative}) == ["template.containers[0].volume_mounts[0].mount_path"]


def test_traffic_adds_up_to_all_of_it() -> None:
    def traffic(*targets: dict[str, Any]) -> list[str]:
        return fields(traffic=list(targets))

    assert traffic({"type_": LATEST, "percent": 100}) == []
    assert traffic({"type_": LATEST, "percent": 90}, {"type_": REVISION, "revision": "hello-a", "percent": 10}) == []
    assert traffic({"type_": LATEST, "percent": 99}) == ["traffic"]
    assert traffic({"type_": REVISION, "percent": 100}) == ["traffic[0].revision"]
    assert traffic({"type_": LATEST, "revision": "hello-a", "percent": 100}) == ["traffic[0].revision"]
    assert traffic({"percent": 100}) == ["traffic[0].type"]
    assert traffic({"type_": LATEST, "percent": 50, "tag": "a"}, {"type_": LATEST, "percent": 50, "tag": "a"}) == [
        "traffic"
    ]
    assert traffic({"type_": LATEST, "percent": 100, "tag": "Not-A-Tag"}) == ["traffic[0].tag"]


def test_a_revision_is_named_after_its_service() -> None:
    assert fields({"revision": "hello-one"}) == []
    assert fields({"revision": "other-one"}) == ["template.revision"]
    assert fields({"revision": f"hello-{'x' * 60}"}) == ["template.revision"]


def test_several_containers_need_names_and_one_port() -> None:
    two = [run_v2.Container(image=IMAGE, name="a", ports=[{"container_port": 80}]), run_v2.Container(image=IMAGE)]
    wish = run_v2.Service(template={"containers": two})
    assert [one.field for one in service_violations(wish, "hello")] == ["service.template.containers"]
    wish.template.containers[1].name = "b"
    assert service_violations(wish, "hello") == []
