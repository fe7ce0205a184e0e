"""What the `gcp-cloudrun` target decides, without touching anything: from a `Wanted` to what Cloud Run is asked.

Revisions keep the names that Google gives them, so that no name can be taken: which one is which is said by a label,
on the service and on its template.
"""

from __future__ import annotations

from datetime import timedelta

from google.cloud import run_v2

from cloud_manager.build_request import argv
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DataVolume, DeploymentSpec
from cloud_manager.errors import TargetError
from cloud_manager.names import DEFAULT_OWNER, OWNER_LABEL, labels
from cloud_manager.targets.cloud_run_checks import LONGEST_STARTUP
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.cloud_run_sizes import sizes_of
from cloud_manager.targets.cloud_run_traits import ASKED, asked
from cloud_manager.targets.target import Wanted

CLIENT = "cloud-deploy"
"""Who changed a service last says so here; the console and gcloud write other names."""
REVISION = "cloud-deploy-revision"
ATTEMPT = "cloud-deploy-attempt"
_Latest = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
_Gen2 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2


def service_of(wanted: Wanted, place: Place) -> run_v2.Service:
    """The service as it shall be, by its full name.

    Raises:
        TargetError: the image is nowhere that Cloud Run can pull it from.
    """
    spec, marks = wanted.spec, labels(wanted.key, wanted.revision, place.owner)
    service = run_v2.Service(
        name=place.service(wanted.key, spec),
        labels=marks,
        client=CLIENT,
        template=_template(spec, place, image_of(wanted), marks),
        traffic=[run_v2.TrafficTarget(type_=_Latest, percent=100)],
        invoker_iam_disabled=spec.deploy.public,
    )
    service.annotations = {ASKED: asked(service)}
    return service


def update_of(there: run_v2.Service, wish: run_v2.Service) -> run_v2.Service:
    """What is asked where a service of ours is there already. What a file has no word for stays as somebody made it:
    labels and annotations of others, who may reach it (`ingress`), and the like.

    A revision that failed is tried anew: the same template would make no new one.
    """
    new = run_v2.Service(there)
    new.client, new.client_version = wish.client, ""
    new.labels = {**there.labels, **wish.labels}
    new.annotations = {**there.annotations, **wish.annotations}
    new.template = run_v2.RevisionTemplate(wish.template)
    new.traffic = list(wish.traffic)
    new.invoker_iam_disabled = wish.invoker_iam_disabled
    if is_failed(there) and there.labels.get(REVISION) == wish.labels[REVISION]:
        new.template.labels[ATTEMPT] = str(there.generation)
    return new


def is_ours(service: run_v2.Service, key: Key, owner: str = DEFAULT_OWNER) -> bool:
    """Whether it carries this installation's labels for this very project."""
    mine, there = labels(key, "", owner), {OWNER_LABEL: DEFAULT_OWNER, **service.labels}
    return all(there.get(name) == mine[name] for name in mine if name != REVISION)


def is_failed(service: run_v2.Service) -> bool:
    """Of its newest revision, which will not come up by itself."""
    failed = run_v2.Condition.State.CONDITION_FAILED
    return not service.reconciling and bool(service.terminal_condition.state == failed)


def image_of(wanted: Wanted) -> str:
    image = wanted.image
    if image is None:
        return str(wanted.image_uri)
    if image.pushed is None:
        raise TargetError(
            f"image {image.repository}@{image.digest[:19]} was not published, Cloud Run cannot pull it",
            "Start again: it is then built and published; the image builder must be of this version",
            code="image_not_published",
        )
    return image.pushed


def _template(spec: DeploymentSpec, place: Place, image: str, marks: dict[str, str]) -> run_v2.RevisionTemplate:
    deploy, sizes = spec.deploy, sizes_of(spec)
    volumes = {f"data-{index}": volume for index, volume in enumerate(deploy.data)}
    template = run_v2.RevisionTemplate(
        labels=marks,
        containers=[_container(spec, image, volumes)],
        scaling=_scaling(spec),
        volumes=[_volume(name, volume) for name, volume in volumes.items()],
        service_account=deploy.service_account or "",
        max_instance_request_concurrency=deploy.scaling.concurrency or (1 if sizes.cpu < 1 else 0),
    )
    if deploy.timeout_seconds:
        template.timeout = timedelta(seconds=deploy.timeout_seconds)
    if volumes:
        template.execution_environment = _Gen2
    if any(volume.nfs_ip for volume in deploy.data):
        template.vpc_access = _network(place)
    if sizes.gpu:
        template.node_selector = run_v2.NodeSelector(accelerator=sizes.gpu)
        template.gpu_zonal_redundancy_disabled = True
    return template


def _container(spec: DeploymentSpec, image: str, volumes: dict[str, DataVolume]) -> run_v2.Container:
    deploy, sizes = spec.deploy, sizes_of(spec)
    resources = run_v2.ResourceRequirements(limits=sizes.limits, cpu_idle=not sizes.gpu, startup_cpu_boost=True)
    container = run_v2.Container(
        image=image,
        ports=[run_v2.ContainerPort(container_port=spec.container_port)],
        env=_variables(spec),
        resources=resources,
        startup_probe=_startup(spec),
        volume_mounts=[run_v2.VolumeMount(name=name, mount_path=volume.mount) for name, volume in volumes.items()],
    )
    if deploy.health.path != "/":
        container.liveness_probe = _liveness(spec)
    if spec.prebuilt:
        container.command = list(argv(deploy.entrypoint))
        container.working_dir = _workdir(deploy.workdir)
    return container


def _workdir(workdir: str | None) -> str:
    """Empty: the image's own."""
    return f"/workspace/{workdir}" if workdir and not workdir.startswith("/") else workdir or ""


def _variables(spec: DeploymentSpec) -> list[run_v2.EnvVar]:
    plain = {"PYTHONUNBUFFERED": "1", **spec.deploy.env}
    return [
        *(run_v2.EnvVar(name=name, value=value) for name, value in plain.items()),
        *(_secret(name, secret) for name, secret in spec.deploy.secrets.items()),
    ]


def _secret(variable: str, written: str) -> run_v2.EnvVar:
    name, _, version = written.partition(":")
    reference = run_v2.SecretKeySelector(secret=name, version=version or "latest")
    return run_v2.EnvVar(name=variable, value_source=run_v2.EnvVarSource(secret_key_ref=reference))


def _scaling(spec: DeploymentSpec) -> run_v2.RevisionScaling:
    """A GPU's quota is held against the most instances times their size: one, unless a file asks for more."""
    low, high = spec.deploy.scaling.min_instances or 0, spec.deploy.scaling.max_instances
    usual = max(1, low) if sizes_of(spec).gpu else 0
    return run_v2.RevisionScaling(min_instance_count=low, max_instance_count=high or usual)


def _startup(spec: DeploymentSpec) -> run_v2.Probe:
    """Without a path of its own: one look that lasts until the port is open. Else one after the other."""
    health = spec.deploy.health
    seconds = min(health.startup_seconds, LONGEST_STARTUP)
    if health.path == "/":
        socket = run_v2.TCPSocketAction(port=spec.container_port)
        return run_v2.Probe(timeout_seconds=seconds, period_seconds=seconds, failure_threshold=1, tcp_socket=socket)
    each = min(health.timeout_seconds, seconds)
    return run_v2.Probe(
        timeout_seconds=each, period_seconds=each, failure_threshold=max(1, seconds // each), http_get=_get(spec)
    )


def _liveness(spec: DeploymentSpec) -> run_v2.Probe:
    health = spec.deploy.health
    return run_v2.Probe(
        timeout_seconds=health.timeout_seconds,
        period_seconds=health.period_seconds,
        failure_threshold=health.failure_threshold,
        http_get=_get(spec),
    )


def _get(spec: DeploymentSpec) -> run_v2.HTTPGetAction:
    return run_v2.HTTPGetAction(path=spec.deploy.health.path, port=spec.container_port)


def _volume(name: str, volume: DataVolume) -> run_v2.Volume:
    if volume.bucket is not None:
        return run_v2.Volume(name=name, gcs=run_v2.GCSVolumeSource(bucket=volume.bucket, read_only=True))
    nfs = run_v2.NFSVolumeSource(server=volume.nfs_ip or "", path=volume.nfs_path or "", read_only=True)
    return run_v2.Volume(name=name, nfs=nfs)


def _network(place: Place) -> run_v2.VpcAccess:
    """An NFS server is reached over the project's own network: https://cloud.google.com/run/docs/configuring/services/nfs-volume-mounts"""
    interface = run_v2.VpcAccess.NetworkInterface(network=place.network)
    return run_v2.VpcAccess(network_interfaces=[interface], egress=run_v2.VpcAccess.VpcEgress.PRIVATE_RANGES_ONLY)
