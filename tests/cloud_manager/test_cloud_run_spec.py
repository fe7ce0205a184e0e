"""What Cloud Run is asked for. The twin's rules, which are Google's, are the judge of what is asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2

from cloud_manager import deployment_yaml
from cloud_manager.deployment import Key, revision_of
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError
from cloud_manager.targets.cloud_run_checks import problems_of
from cloud_manager.targets.cloud_run_place import Place, short
from cloud_manager.targets.cloud_run_spec import is_ours, service_of, update_of
from cloud_manager.targets.target import Wanted
from gcp_emulator.run_validation import service_id_violations, service_violations
from image_builder.contract import ImageReference

KEY = Key("7", "42")
PLACE = Place("twin-project", "us-central1", ("asia-northeast3",))
DIGEST = f"sha256:{'0' * 64}"
PUSHED = f"us-central1-docker.pkg.dev/twin-project/cloud-deploy/x@{DIGEST}"
SAMPLES = Path(__file__).parents[2] / "samples"


def spec_of(build: dict[str, Any] | None = None, **deploy: Any) -> DeploymentSpec:
    build = {"components": {}} if build is None else build
    return DeploymentSpec.model_validate({"build": build, "deploy": {"type": "gcp-cloudrun", **deploy}})


def asked(spec: DeploymentSpec, key: Key = KEY) -> run_v2.Service:
    if spec.prebuilt:
        wanted = Wanted(key, spec, "0123456789abcdef", image_uri=spec.build.image_uri)
    else:
        image = ImageReference(repository="builds/x", digest=DIGEST, size=1, pushed=PUSHED)
        wanted = Wanted(key, spec, revision_of(spec, DIGEST), image=image)
    return service_of(wanted, PLACE)


def causes(spec: DeploymentSpec) -> str:
    return "; ".join(problem.cause for problem in problems_of(spec, PLACE))


def violations(service: run_v2.Service) -> list[str]:
    """What Cloud Run would refuse."""
    name = short(service.name)
    return [
        f"{one.field}: {one.description}" for one in (*service_id_violations(name), *service_violations(service, name))
    ]


def test_a_service_in_all_its_parts() -> None:
    spec = spec_of(
        service_name="Détector 1".replace(" ", "_").replace("é", "e"),
        network={"service_container_port": 9000},
        env={"COLOUR": "green"},
        secrets={"API_KEY": "key:3", "TOKEN": "token"},
        resources={"cpu": 2, "memory": 1024},
        scaling={"min_instances": 1, "max_instances": 5, "concurrency": 10},
        health={"path": "/ready", "startup_seconds": 60, "period_seconds": 20, "timeout_seconds": 4},
        timeout_seconds=600,
        service_account="runner@twin-project.iam.gserviceaccount.com",
        data=[{"mount": "/weights", "bucket": "weights"}, {"mount": "/nfs", "nfs_ip": "10.0.0.2", "nfs_path": "/x"}],
        region="asia-northeast3",
        public=True,
    )
    assert causes(spec) == ""
    service = asked(spec)
    assert violations(service) == []
    place, _, name = service.name.rpartition("/")
    assert place == "projects/twin-project/locations/asia-northeast3/services"
    assert name.startswith("detector-1-")
    assert service.labels["cloud-deploy-user"] == "7"
    assert service.invoker_iam_disabled
    template = service.template
    assert template.revision == ""
    assert template.labels["cloud-deploy-revision"] == service.labels["cloud-deploy-revision"] != ""
    assert (template.timeout, template.max_instance_request_concurrency) == (timedelta(seconds=600), 10)
    assert template.service_account == "runner@twin-project.iam.gserviceaccount.com"
    assert (template.scaling.min_instance_count, template.scaling.max_instance_count) == (1, 5)
    (container,) = template.containers
    assert (container.image, container.ports[0].container_port) == (PUSHED, 9000)
    assert not container.command, "the image's own configuration says how it starts"
    assert dict(container.resources.limits) == {"cpu": "2", "memory": "1Gi"}
    assert container.resources.cpu_idle, "else it is paid for while nobody asks"
    plain = {variable.name: variable.value for variable in container.env if variable.value}
    assert plain == {"COLOUR": "green", "PYTHONUNBUFFERED": "1"}
    secrets = [variable.value_source.secret_key_ref for variable in container.env if "value_source" in variable]
    assert [(one.secret, one.version) for one in secrets] == [("key", "3"), ("token", "latest")]
    probe = container.startup_probe
    assert (probe.http_get.path, probe.period_seconds * probe.failure_threshold) == ("/ready", 60)
    alive = container.liveness_probe
    assert (alive.http_get.path, alive.period_seconds, alive.timeout_seconds) == ("/ready", 20, 4)
    bucket, nfs = template.volumes
    assert (bucket.gcs.bucket, bucket.gcs.read_only) == ("weights", True)
    assert (nfs.nfs.server, nfs.nfs.path, nfs.nfs.read_only) == ("10.0.0.2", "/x", True)
    assert [mount.mount_path for mount in container.volume_mounts] == ["/weights", "/nfs"]
    assert template.vpc_access.network_interfaces[0].network == "default"
    assert template.execution_environment == run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2


def test_a_small_file_is_private_and_costs_nothing_while_nobody_asks() -> None:
    service = asked(spec_of())
    assert violations(service) == []
    assert not service.invoker_iam_disabled
    assert service.template.scaling.min_instance_count == 0
    (container,) = service.template.containers
    assert "liveness_probe" not in container
    assert (container.startup_probe.tcp_socket.port, container.startup_probe.period_seconds) == (8080, 240)


def test_a_prebuilt_image_is_used_as_it_is() -> None:
    uri = "us-docker.pkg.dev/cloudrun/container/hello:latest"
    spec = spec_of({"image_uri": uri}, entrypoint=["serve.py", "--fast"], workdir="app")
    (container,) = asked(spec).template.containers
    assert (container.image, container.working_dir) == (uri, "/workspace/app")
    assert list(container.command) == ["python", "serve.py", "--fast"]
    assert causes(spec) == ""


@pytest.mark.parametrize(
    ("resources", "gpu", "limits"),
    [
        ({"gpu": 1}, "nvidia-l4", {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}),
        (
            {"gpu": 1, "gpu_type": "nvidia-rtx-pro-6000"},
            "nvidia-rtx-pro-6000",
            {"cpu": "20", "memory": "80Gi", "nvidia.com/gpu": "1"},
        ),
    ],
)
def test_a_gpu_brings_what_it_needs(resources: dict[str, Any], gpu: str, limits: dict[str, str]) -> None:
    """Else Google refuses the service, long after the image was built."""
    spec = spec_of(resources=resources)
    assert causes(spec) == ""
    service = asked(spec)
    assert violations(service) == []
    template = service.template
    assert template.node_selector.accelerator == gpu
    assert dict(template.containers[0].resources.limits) == limits
    assert not template.containers[0].resources.cpu_idle
    assert template.gpu_zonal_redundancy_disabled
    assert template.scaling.max_instance_count == 1


def test_accelerator_gpu_asks_for_one() -> None:
    spec = spec_of({"components": {}, "accelerator": "gpu"})
    assert asked(spec).template.node_selector.accelerator == "nvidia-l4"


@pytest.mark.parametrize("gpu", [None, "nvidia-l4", "nvidia-rtx-pro-6000", "nvidia-t4"])
def test_whatever_is_refused_is_refused_before_anything_is_built(gpu: str | None) -> None:
    """And nothing that Google would take."""
    for cpu in (None, 0.05, 0.08, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 16, 20, 21):
        for memory in (None, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 24576, 32768, 65536, 81920):
            resources = {"cpu": cpu, "memory": memory} | ({"gpu": 1, "gpu_type": gpu} if gpu else {})
            spec = spec_of(resources=resources)
            refused, found = causes(spec), violations(asked(spec))
            assert bool(refused) or not found, f"{resources}: {found}"
            assert not refused or bool(found) or gpu, f"{resources}: {refused}"


@pytest.mark.parametrize(
    ("deploy", "words"),
    [
        ({"region": "europe-west1"}, "does not look after europe-west1, only after us-central1, asia-northeast3"),
        ({"region": "somewhere"}, "somewhere is no region"),
        ({"service_account": "runner"}, "runner is no address"),
        ({"resources": {"cpu": 3}}, "no instances of 3 CPUs"),
        ({"resources": {"cpu": 0.5}, "scaling": {"concurrency": 5}}, "one request at a time, not 5"),
        ({"resources": {"cpu": 0.5}, "data": [{"mount": "/a", "bucket": "abc"}]}, "neither buckets nor NFS"),
        ({"resources": {"cpu": 1, "memory": 8192}}, "8Gi does not go with 1 CPU"),
        ({"resources": {"gpu": 2}}, "one GPU, not 2"),
        ({"resources": {"gpu": 1, "cpu": 2}}, "2 does not go with nvidia-l4"),
        ({"resources": {"gpu": 1, "memory": 8192}}, "8Gi does not go with 4 CPU"),
        ({"resources": {"gpu": 1, "gpu_type": "h100"}}, "has no h100"),
        ({"health": {"startup_seconds": 600}}, "at most 240 s, not 600"),
        ({"health": {"path": "/a", "timeout_seconds": 30}}, "30 is more than period_seconds"),
        ({"env": {"K_SERVICE": "x"}}, "K_SERVICE is set by Cloud Run itself"),
        ({"secrets": {"A": "my.key"}}, "my.key is no name of Secret Manager's"),
        ({"data": [{"mount": "/a"}]}, "neither a bucket nor an NFS export"),
        ({"data": [{"mount": "/a", "bucket": "gs://x"}]}, "'gs://x' is no name of a bucket"),
        ({"data": [{"mount": "/proc/x", "bucket": "abc"}]}, "nothing can be mounted at /proc/x"),
    ],
)
def test_what_cloud_run_cannot_do_is_told_with_its_key(deploy: dict[str, Any], words: str) -> None:
    problems = problems_of(spec_of(**deploy), PLACE)
    assert any(words in problem.cause for problem in problems), problems
    assert all(problem.cause.startswith("deploy.") and problem.fix and not problem.retryable for problem in problems)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({"components": {}, "image_uri": "us-docker.pkg.dev/cloudrun/container/hello"}, "Google's own"),
        ({"image_uri": "registry.example.com:5000/a/b"}, "cannot pull from registry.example.com:5000"),
        ({"components": {}, "image_uri": "localhost/a"}, "cannot pull from localhost"),
        ({"components": {}, "architecture": "linux/arm64"}, "runs linux/amd64"),
    ],
)
def test_images_that_cannot_be_had_are_refused(build: dict[str, Any], words: str) -> None:
    assert words in causes(spec_of(build))


@pytest.mark.parametrize(
    "uri", ["us-docker.pkg.dev/p/r/n:1", "gcr.io/p/n", "docker.io/library/nginx", "nginx", "a/b:1"]
)
def test_images_that_can_be_had_are_not(uri: str) -> None:
    assert causes(spec_of({"image_uri": uri})) == ""


def test_without_a_project_it_is_told_how_to_name_one() -> None:
    problems = problems_of(spec_of(), Place("", ""))
    assert [problem.fix.partition(" ")[2].split()[0] for problem in problems[:1]] == ["GCP_PROJECT"]
    assert "GCP_REGION" in problems[1].cause


def test_an_image_that_was_not_published_is_no_secret() -> None:
    image = ImageReference(repository="builds/x", digest=DIGEST, size=1)
    with pytest.raises(DeployError, match="was not published"):
        service_of(Wanted(KEY, spec_of(), "r", image=image), PLACE)


def test_an_update_keeps_what_others_wrote_on_the_service() -> None:
    """Cost centres are set in the console; and a service that was closed to the Internet must not be opened by us."""
    there, wish = asked(spec_of()), asked(spec_of(env={"A": "1"}))
    there.etag, there.generation = '"abc"', 4
    there.labels["team"], there.annotations["note"] = "vision", "ask Kim"
    there.ingress = run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY
    there.template.revision, there.client, there.client_version = "named-by-hand", "gcloud", "500"
    update = update_of(there, wish)
    assert update.ingress == run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY
    assert (update.client, update.client_version, update.template.revision) == ("cloud-deploy", "", "")
    assert (update.etag, update.labels["team"], update.annotations["note"]) == ('"abc"', "vision", "ask Kim")
    assert update.labels["cloud-deploy-revision"] == wish.labels["cloud-deploy-revision"]
    assert update.template == wish.template


def test_a_revision_that_failed_is_tried_anew() -> None:
    """The same template would make no revision, and /start would change nothing."""
    there = asked(spec_of())
    there.generation = 4
    there.terminal_condition.state = run_v2.Condition.State.CONDITION_FAILED
    assert update_of(there, asked(spec_of())).template != there.template
    assert update_of(there, asked(spec_of(env={"A": "1"}))).template == asked(spec_of(env={"A": "1"})).template


def test_only_the_very_project_is_ours() -> None:
    service = asked(spec_of())
    assert is_ours(service, KEY)
    assert not is_ours(service, Key("7", "43"))
    del service.labels["managed-by"]
    assert not is_ours(service, KEY)


@pytest.mark.parametrize(
    "key", [Key("7", "42"), Key("A" * 64, "B" * 64), Key("_", "..x"), Key("0", "ünï".encode().hex())]
)
def test_every_project_has_a_name_that_google_takes(key: Key) -> None:
    assert violations(asked(spec_of(), key)) == []


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("deployment*cloudrun*.yaml")), ids=lambda path: path.name)
def test_the_samples_are_what_google_takes(path: Path) -> None:
    spec = deployment_yaml.load(path).spec
    place = Place("twin-project", "asia-northeast3", ("us-central1", "europe-west4"))
    assert problems_of(spec, place) == []
    assert violations(asked(spec)) == []
