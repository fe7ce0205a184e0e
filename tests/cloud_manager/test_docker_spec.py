"""What the `docker` target asks the Engine for, and what no deployment.yaml can make it ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cloud_manager import deployment_yaml
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import InvalidSpec
from cloud_manager.targets.docker_checks import problems_of
from cloud_manager.targets.docker_refusals import refusal
from cloud_manager.targets.docker_spec import AT_FIRST, ImageStart, Names, Plan, plan_of
from cloud_manager.targets.target import Wanted
from image_builder.contract import ImageReference

KEY = Key("7", "42")
SAMPLES = Path(__file__).parents[2] / "samples"
IMAGE = ImageReference(repository="builds/x", digest=f"sha256:{'0' * 64}", size=1)


def spec(build: dict[str, Any] | None = None, **deploy: Any) -> DeploymentSpec:
    return DeploymentSpec.model_validate({"build": build or {}, "deploy": {"type": "docker", **deploy}})


def plan(key: Key = KEY, *, start: ImageStart | None = None, build: Any = None, **deploy: Any) -> Plan:
    wanted = Wanted(key, spec(build, **deploy), "0123456789abcdef", IMAGE)
    return plan_of(wanted, "cd", "sha256:1", start or ImageStart())


def refused(**deploy: Any) -> str:
    return " ".join(str(one) for one in problems_of(spec(**deploy), secrets=False, platform="linux/amd64"))


def test_a_deployment_becomes_these_requests() -> None:
    made = plan(
        network={"service_host_ip": "1.2.3.4", "service_host_port": 8088, "service_container_port": 8901},
        resources={"cpu": 1.5, "memory": 512, "gpu": 2},
        env={"MODE": "fast"},
    )
    program, host = made.program, made.program["HostConfig"]
    assert program["Env"] == ["MODE=fast", "PYTHONUNBUFFERED=1", "PORT=8901"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (1_500_000_000, 512 << 20, 512 << 20)
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]
    assert (host["Init"], host["RestartPolicy"]) == (True, AT_FIRST)
    assert "Entrypoint" not in program, "the image knows how it starts"
    front = made.front("python", 8088)["HostConfig"]
    assert front["PortBindings"] == {"8080/tcp": [{"HostIp": "1.2.3.4", "HostPort": "8088"}]}
    assert "PortBindings" not in host, "two revisions could not publish one port"
    assert made.wish["port"] == 8901
    assert made.address == "1.2.3.4:8088"


def test_what_is_made_says_whose_it_is() -> None:
    made = plan()
    for thing in (made.program, made.front("x", 1), made.network):
        labels = {name.rpartition(".")[2]: value for name, value in thing["Labels"].items()}
        assert (labels["owner"], labels["user"], labels["project"]) == ("cd", "7", "42")
    assert made.program["Labels"]["io.tango.cloud-deploy.revision"] == "0123456789abcdef"


def test_private_is_the_default() -> None:
    assert plan().host == "127.0.0.1"
    assert plan(public=True).host == "0.0.0.0"


def test_a_project_without_a_port_is_given_the_same_again_and_again() -> None:
    """Else its address would change with every restart of the machine."""
    assert plan().ports == plan().ports
    assert plan().ports != plan(Key("7", "43")).ports
    assert plan().ports[-1] == 0


def test_projects_share_no_name() -> None:
    """Else one could take another's container over, e.g. `a-b`/`c` that of `a`/`b-c`."""
    keys = [Key("a-b", "c"), Key("a", "b-c"), Key("A", "b-c"), Key("a", "b_c"), Key("x" * 64, "y" * 64)]
    names = {name for key in keys for name in (Names("cd", key).base, Names("cd", key).program("r"))}
    assert len(names) == 2 * len(keys)


def test_secrets_are_in_no_request() -> None:
    """`docker inspect` shows a container's request."""
    made = plan(secrets={"API_KEY": "key:3"}, start=ImageStart(("python",), ("main.py",)))
    assert made.program["Cmd"] == ["python", "main.py"]
    assert made.program["Entrypoint"][:2] == ["/bin/sh", "-c"]
    assert "API_KEY_FILE=/run/secrets/API_KEY" in made.program["Env"]
    assert not any(line.startswith("API_KEY=") for line in made.program["Env"])


def test_a_prebuilt_image_is_started_as_the_file_says() -> None:
    wish = spec({"image_uri": "nginx"}, entrypoint=["serve.py", "-v"], workdir="/srv")
    made = plan_of(Wanted(KEY, wish, "r", image_uri="nginx"), "cd", "nginx", ImageStart()).program
    assert (made["Entrypoint"], made["Cmd"], made["WorkingDir"]) == (["python", "serve.py", "-v"], [], "/srv")


def test_nfs_is_mounted_by_the_engine_read_only() -> None:
    made = plan(data=[{"mount": "/data", "nfs_ip": "10.0.0.9", "nfs_path": "/export/data"}])
    (volume,), (mount,) = made.volumes, made.program["HostConfig"]["Mounts"]
    assert volume["DriverOpts"] == {"type": "nfs", "o": "addr=10.0.0.9,ro,soft,timeo=100", "device": ":/export/data"}
    assert (mount["Type"], mount["Source"], mount["Target"], mount["ReadOnly"]) == (
        "volume",
        volume["Name"],
        "/data",
        True,
    )


@pytest.mark.parametrize(
    ("deploy", "words"),
    [
        ({"data": [{"mount": "/data", "bucket": "b"}]}, r"data\[0\].bucket: docker mounts no buckets"),
        ({"data": [{"mount": "/data", "nfs_ip": "x,bind", "nfs_path": "/etc"}]}, "is no NFS export"),
        ({"data": [{"mount": "/data", "nfs_ip": "1.2.3.4", "nfs_path": "/a,exec"}]}, "is no NFS export"),
        ({"data": [{"mount": "/data", "nfs_ip": "1.2.3.4", "nfs_path": "relative"}]}, "is no NFS export"),
        ({"data": [{"mount": "/proc/sys", "nfs_ip": "1.2.3.4", "nfs_path": "/a"}]}, "nothing can be mounted"),
        ({"data": [{"mount": "/", "nfs_ip": "1.2.3.4", "nfs_path": "/a"}]}, "nothing can be mounted"),
        ({"data": [{"mount": "/x/../proc", "nfs_ip": "1.2.3.4", "nfs_path": "/a"}]}, "nothing can be mounted"),
        ({"secrets": {"A": "a"}}, "set SECRETS_DIR"),
        ({"resources": {"memory": 1}}, "less than a container needs"),
        ({"network": {"service_host_ip": "not an address"}}, "is no address"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_built(deploy: dict[str, Any], words: str) -> None:

    assert re.search(words, refused(**deploy))


def test_an_engine_that_is_not_there_and_another_architecture_are_told() -> None:
    arm = spec({"architecture": "linux/arm64"})
    told = str(problems_of(arm, secrets=False, platform="linux/amd64", missing="/var/run/docker.sock"))
    assert "no socket /var/run/docker.sock" in told
    assert "linux/arm64, but the Docker Engine runs linux/amd64" in told
    assert not problems_of(spec(), secrets=False, platform="linux/arm64"), "what TANGO's tools write of every file"


HOSTILE = [
    "deploy: {type: docker, entrypoint: a.py, privileged: true}",
    "deploy: {type: docker, entrypoint: a.py, volumes: ['/:/host']}",
    "deploy: {type: docker, entrypoint: a.py, network: {mode: host}}",
    "deploy: {type: docker, entrypoint: a.py, network: {network_mode: 'container:other'}}",
    "deploy: {type: docker, entrypoint: a.py, pid: host}",
    "deploy: {type: docker, entrypoint: a.py, container_name: another-project}",
    "deploy: {type: docker, entrypoint: a.py, labels: {io.tango.cloud-deploy.user: '8'}}",
    "deploy: {type: docker, entrypoint: a.py, cap_add: [SYS_ADMIN]}",
    "deploy: {type: docker, entrypoint: a.py, data: [{mount: /host, path: /}]}",
    "deploy: {type: docker, entrypoint: a.py, devices: [/dev/sda]}",
    "deploy: {type: docker, entrypoint: a.py, secrets: {A: ../../etc/shadow}}",
    "deploy: {type: docker, entrypoint: a.py, env: {'A\\nB': x}}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_malicious_file_has_no_words_for_it(tmp_path: Path, text: str) -> None:
    """Else who may write a deployment.yaml would own the Engine's machine."""
    file = tmp_path / "deployment.yaml"
    file.write_text(f"build: {{components: {{libs: [flask]}}}}\n{text}\n")
    with pytest.raises(InvalidSpec):
        deployment_yaml.load(file)


def test_the_wildest_file_that_loads_gets_no_more_than_any_other(tmp_path: Path) -> None:
    """Names, paths and values that look like something else stay what they are."""
    file = tmp_path / "deployment.yaml"
    deploy = {
        "type": "docker",
        "service_name": "other-project-front",
        "entrypoint": ["--privileged", "-v", "/:/host"],
        "workdir": "/proc/1/root",
        "env": {"DOCKER_HOST": "unix:///var/run/docker.sock", "LD_PRELOAD": "/x.so"},
        "network": {"service_host_ip": "0.0.0.0", "service_host_port": 1},
        "service_account": "root",
        "region": "host",
        "k8s": {"nfs_ip": "1.2.3.4", "nfs_path": "/"},
    }
    file.write_text(json.dumps({"build": {"components": {"libs": ["flask"]}}, "deploy": deploy}))
    wild = deployment_yaml.load(file).spec
    made = plan_of(Wanted(KEY, wild, "r", IMAGE), "cd", "image", ImageStart())
    for request in (made.program, made.front("image", 1)):
        host = request["HostConfig"]
        assert host["NetworkMode"] == made.names.base
        assert host["Privileged"] is False
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert not host.get("Mounts")
        assert not {"Binds", "CapAdd", "PidMode", "IpcMode", "UTSMode", "Devices", "VolumesFrom"} & host.keys()
    assert made.names.program("r").startswith("cd-s-7-42-")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("driver failed programming: Bind for 127.0.0.1:80 failed: port is already allocated", "port_in_use"),
        ("listen tcp4 127.0.0.1:80: bind: address already in use", "port_in_use"),
        ("listen tcp4 1.2.3.4:80: bind: cannot assign requested address", "cannot_listen"),
        ('could not select device driver "" with capabilities: [[gpu]]', "no_gpu_runtime"),
        ("No such image: x:latest", "no_such_image"),
        ('exec: "serve": executable file not found in $PATH: unknown', "entrypoint_missing"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "too_large"),
        ("could not find an available, non-overlapping IPv4 address pool among the defaults", "no_networks_left"),
        ('Conflict. The container name "/x" is already in use by container "1".', "name_in_use"),
    ],
)
def test_the_engines_words_become_a_cause_and_a_fix(message: str, code: str) -> None:
    problem = refusal("start container x", 500, message)
    assert problem.code == code
    assert message in problem.cause
    assert not problem.retryable


def test_the_sample_is_one_that_docker_runs() -> None:
    loaded = deployment_yaml.load(SAMPLES / "deployment_docker.yaml").spec
    assert not problems_of(loaded, secrets=True, platform="linux/amd64")
