"""TANGO's dialect: every spelling its tools use is accepted, means what they meant, and leaves a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_manager import deployment_yaml
from cloud_manager.deployment_spec import LoadedSpec, python_requirements, python_version
from cloud_manager.errors import InvalidSpec

SPECIMENS = Path(__file__).parent / "specimens"
SECTIONS = ("build", "deploy", "optional")


def load(text: str) -> LoadedSpec:
    return deployment_yaml.loads(text.encode())


def build(**values: Any) -> LoadedSpec:
    return load(yaml.dump({"build": values, "deploy": {"type": "local", "entrypoint": ["main.py"]}}))


def components(**values: Any) -> LoadedSpec:
    return build(components=values)


def deploy(**values: Any) -> LoadedSpec:
    return load(yaml.dump({"deploy": {"type": "local", "entrypoint": ["main.py"], **values}}))


def optional(**values: Any) -> LoadedSpec:
    return load(yaml.dump({"deploy": {"type": "local", "entrypoint": ["main.py"]}, "optional": values}))


def noted(loaded: LoadedSpec, words: str) -> bool:
    return any(words in note for note in loaded.notes)


def findings(text: str) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        load(text)
    return [f"{finding.line}:{finding.column}: {finding.path}: {finding.message}" for finding in caught.value.findings]


@pytest.mark.parametrize("path", sorted(SPECIMENS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_tangos_tools_write_is_accepted_as_it_is(path: Path) -> None:
    loaded = deployment_yaml.load(path)
    assert noted(loaded, ": ")
    assert not any("atp" in origin or "nfsip" in origin or "target_name" in origin for origin in loaded.origins)


@pytest.mark.parametrize("path", sorted(SPECIMENS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_written_again_as_the_code_generator_does_means_the_same(path: Path) -> None:
    """`yaml.dump` sorts keys and moves comments; the wish is the same, so nothing is deployed anew."""
    again = yaml.dump(yaml.safe_load(path.read_text()))
    assert load(again).spec == deployment_yaml.load(path).spec


def test_the_code_generators_cloud_file_word_for_word() -> None:
    spec = deployment_yaml.load(SPECIMENS / "codegen_cloud.yaml").spec
    assert spec.build.components is not None
    assert spec.build.components.custom_packages.apt == ("vim", "hello")
    assert spec.deploy.network.service_host_port == 8088
    assert spec.container_port == 8901
    assert spec.deploy.entrypoint == ("run.sh", "-p", "opt1", "arg")
    assert python_version(spec) == "3.9"


@pytest.mark.parametrize("word", ["x86", "x86_64", "amd64", "intel", "linux/amd64", "X86"])
def test_architectures_of_intel(word: str) -> None:
    assert build(architecture=word).spec.build.architecture == "linux/amd64"


@pytest.mark.parametrize("word", ["arm", "arm64", "aarch64", "linux/arm64"])
def test_architectures_of_arm(word: str) -> None:
    assert build(architecture=word).spec.build.architecture == "linux/arm64"


@pytest.mark.parametrize("word", ["", None, "kubernetes", "kuberentes"])
def test_no_architecture_is_the_default_with_a_note(word: str | None) -> None:
    loaded = build(architecture=word)
    assert loaded.spec.build.architecture == "linux/amd64"
    assert noted(loaded, "build.architecture: ") and noted(loaded, "linux/amd64 is assumed")


def test_an_unknown_architecture_is_an_error_with_the_nearest_word() -> None:
    text = "build: {architecture: arm65}\ndeploy: {type: local, entrypoint: main.py}\n"
    expected = "1:23: build.architecture: expected linux/amd64 or linux/arm64, got 'arm65'; did you mean arm64?"
    assert findings(text) == [expected]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("", "cpu"), ("cpu", "cpu"), ("gpu", "gpu"), ("cuda", "gpu"), ("opencl", "cpu"), ("none", "cpu")],
)
def test_accelerators(word: str, meant: str) -> None:
    loaded = build(accelerator=word)
    assert loaded.spec.build.accelerator == meant
    assert word == meant or noted(loaded, "build.accelerator: ")


def test_an_unknown_accelerator_is_an_error() -> None:
    [said] = findings("build: {accelerator: npu}\ndeploy: {type: local, entrypoint: main.py}\n")
    assert "expected cpu or gpu, got 'npu'" in said


@pytest.mark.parametrize(
    ("word", "meant"), [("", None), ("ubuntu", "ubuntu"), ("windows", "windows"), (20.04, "20.04")]
)
def test_os(word: Any, meant: str | None) -> None:
    loaded = build(os=word)
    assert loaded.spec.build.os == meant
    assert noted(loaded, "python:3.11-slim serves")
    assert meant is None or noted(loaded, f"os: {meant} ")


def test_target_name_is_the_image() -> None:
    assert build(target_name="yolo:1").spec.build.image_uri == "yolo:1"
    assert build(target_name="yolo:1", image_uri="yolo:1").spec.build.image_uri == "yolo:1"
    assert build(target_name="", image_uri="yolo:1").spec.build.image_uri == "yolo:1"
    assert build(target_name="yolo:1", image_uri="").spec.build.image_uri == "yolo:1"


def test_two_names_that_differ_are_an_error_at_the_alias() -> None:
    text = (
        "build:\n  image_uri: a\n  target_name: b\ndeploy: {type: local, entrypoint: m.py, workdir: a, work_dir: b}\n"
    )
    assert [line.split(";")[0] for line in findings(text)] == [
        "3:3: build.target_name: `target_name` and `image_uri` mean the same and differ",
        "4:53: deploy.work_dir: `work_dir` and `workdir` mean the same and differ",
    ]


def test_atp_is_apt_and_both_are_joined() -> None:
    loaded = components(custom_packages={"atp": ["vim", "curl"], "apt": ["git", "vim"]})
    assert loaded.spec.build.components is not None
    assert loaded.spec.build.components.custom_packages.apt == ("git", "vim", "curl")
    assert noted(loaded, "custom_packages.atp: read as `apt`")


@pytest.mark.parametrize("nothing", [None, {}, {"atp": None, "pypi": []}])
def test_sections_with_nothing_in_them_are_empty(nothing: Any) -> None:
    loaded = components(custom_packages=nothing)
    assert loaded.spec.build.components is not None
    assert loaded.spec.build.components.custom_packages.apt == ()


def test_python_requirements_under_apt_go_to_pypi_and_keep_their_line() -> None:
    loaded = deployment_yaml.load(SPECIMENS / "codegen_k8s.yaml")
    assert loaded.spec.build.components is not None
    packages = loaded.spec.build.components.custom_packages
    assert packages.apt == ("gitpython", "vim")
    assert packages.pypi[-1] == "pandas>=1.1.4"
    assert loaded.origins["build.components.custom_packages.pypi[5]"] == "deployment.yaml:11:11"


def test_python_under_apt_picks_the_interpreter() -> None:
    """Debian's python images hold no package of another python: installing it would fail the build."""
    loaded = components(custom_packages={"atp": ["vim", "python3.8"]})
    assert python_version(loaded.spec) == "3.8"
    loaded = components(libs=["python==3.9"], custom_packages={"atp": ["python3.8"]})
    assert python_version(loaded.spec) == "3.9"
    assert noted(loaded, "`libs` picks the interpreter")


def test_python_under_apt_stays_there_for_a_base_image_of_ones_own() -> None:
    loaded = build(base_image="ubuntu:24.04", components={"custom_packages": {"apt": ["python3.12"]}})
    assert loaded.spec.build.components is not None
    assert loaded.spec.build.components.custom_packages.apt == ("python3.12",)


def test_numbers_in_quotes_are_numbers() -> None:
    spec = deploy(scaling={"max_instances": "3"}, health={"period_seconds": "5"}, timeout_seconds="60").spec
    assert (spec.deploy.scaling.max_instances, spec.deploy.health.period_seconds) == (3, 5)


def test_modules_of_python_itself_are_not_installed() -> None:
    loaded = components(custom_packages={"pypi": ["time", "numpy"]})
    assert [text for text, _ in python_requirements(loaded.spec)] == ["numpy"]
    assert noted(loaded, "time is a part of python itself")


def test_engines_bring_their_package_unless_it_is_named() -> None:
    assert python_requirements(components(engine="PyTorch").spec) == (("torch", "build.components.engine"),)
    named = components(engine="pytorch", libs=["Torch>=1.1.0"])
    assert python_requirements(named.spec) == (("Torch>=1.1.0", "build.components.libs[0]"),)
    assert noted(components(engine="tvm"), "needs apache-tvm")
    unknown = components(engine="acl")
    assert python_requirements(unknown.spec) == ()
    assert noted(unknown, "'acl' has no python package")


def test_requirements_are_told_once_each_with_their_origin() -> None:
    loaded = components(libs=["python==3.9", "flask>=2"], custom_packages={"pypi": ["flask>=2", "numpy"]})
    assert python_requirements(loaded.spec) == (
        ("flask>=2", "build.components.libs[1]"),
        ("numpy", "build.components.custom_packages.pypi[1]"),
    )


@pytest.mark.parametrize(
    ("libs", "version"),
    [
        (["python==3.9"], "3.9"),
        (["python==3.9.*"], "3.9"),
        (["python == 3.9.7"], "3.9"),
        (["python>=3.9"], "3.9"),
        (["python>=3.9.2,<3.12"], "3.9"),
        (["python~=3.10"], "3.10"),
        (["python>3.9"], "3.9"),
        (["python>=3.8", "python==3.10.*"], "3.10"),
        (["python"], None),
        (["numpy"], None),
    ],
)
def test_python_among_the_libs_picks_the_interpreter(libs: list[str], version: str | None) -> None:
    assert python_version(components(libs=libs).spec) == version


@pytest.mark.parametrize(
    ("libs", "said"),
    [
        ("[python==3.9, python==3.10]", "2:15: build.components.libs[1]: python==3.9 and python==3.10 contradict"),
        ("[x, python<3.12]", "2:5: build.components.libs[1]: python<3.12 picks no interpreter"),
        ("[x, python==2.7]", "2:5: build.components.libs[1]: python==2.7 is met by no python 3"),
        ("[x, 'flask=3']", "2:5: build.components.libs[1]: not a python requirement: "),
        ("[x, 3.9]", '2:5: build.components.libs[1]: expected text, got the number 3.9; put it in quotes: "3.9"'),
    ],
)
def test_libs_that_cannot_be_met_are_told_with_their_place(libs: str, said: str) -> None:
    text = f"build: {{components: {{libs:\n{libs}}}}}\ndeploy: {{type: local, entrypoint: main.py}}\n"
    [line] = findings(text)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("Docker", "docker"), ("GCP-CloudRun", "gcp-cloudrun"), ("pc_server", "pc-server"), ("k8s", "k8s")],
)
def test_types_in_any_letter_case(word: str, meant: str) -> None:
    loaded = deploy(type=word)
    assert loaded.spec.deploy.type == meant
    assert word == meant or noted(loaded, f"read as {meant}")


@pytest.mark.parametrize("missing", ["", None])
def test_a_k8s_file_without_a_type_is_of_type_k8s(missing: str | None) -> None:
    loaded = deploy(type=missing, k8s={"nfsip": "1.2.3.4"})
    assert loaded.spec.deploy.type == "k8s"
    assert noted(loaded, "deploy.type: not said")


def test_without_type_and_k8s_there_is_an_error() -> None:
    expected = "1:9: deploy.type: is missing; the target, e.g. local, docker or gcp-cloudrun is expected"
    assert findings("deploy: {entrypoint: main.py}\n") == [expected]


def test_work_dir_is_workdir() -> None:
    assert deploy(work_dir=".").spec.deploy.workdir == "."
    assert deploy(work_dir=".", workdir=".").spec.deploy.workdir == "."
    assert deploy(work_dir="").spec.deploy.workdir is None


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ("output.py", ("output.py",)),
        ("python3 serve.py --name 'a b'", ("python3", "serve.py", "--name", "a b")),
        (["run.sh", "-p", "opt1", "arg"], ("run.sh", "-p", "opt1", "arg")),
        (["/bin/bash", "-c"], ("/bin/bash", "-c")),
        (["run.sh", "", 8080, True], ("run.sh", "", "8080", "true")),
    ],
)
def test_entrypoints(written: Any, argv: tuple[str, ...]) -> None:
    assert deploy(entrypoint=written).spec.deploy.entrypoint == argv


def test_arguments_are_passed_as_they_are_written() -> None:
    """YAML would make 1.50 a 1.5, 010 an 8, and 8:30 a 510."""
    words = "[m.py, 1.50, 010, 8:30, on, 2020-01-01, 1e3, ~x]"
    text = f"deploy: {{type: local, entrypoint: {words}, env: {{A: 010, B: yes, C: 1.50}}}}"
    spec = load(text).spec
    assert spec.deploy.entrypoint == ("m.py", "1.50", "010", "8:30", "on", "2020-01-01", "1e3", "~x")
    assert spec.deploy.env == {"A": "010", "B": "yes", "C": "1.50"}


@pytest.mark.parametrize(
    ("written", "commands"),
    [
        (["tensorrt-converter.py"], (("tensorrt-converter.py",),)),
        (["convert.py a b", "hello.py"], (("convert.py", "a", "b"), ("hello.py",))),
        ([["convert.py", "a", 2], ["hello.py"]], (("convert.py", "a", "2"), ("hello.py",))),
        ("convert.py a", (("convert.py", "a"),)),
        ("", ()),
        ([], ()),
        (None, ()),
    ],
)
def test_pre_exec(written: Any, commands: tuple[tuple[str, ...], ...]) -> None:
    assert deploy(pre_exec=written).spec.deploy.pre_exec == commands


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('entrypoint: "a \'b"', "deploy.entrypoint: a quote is not closed"),
        ("entrypoint: [a, [b]]", "deploy.entrypoint[1]: expected text, got a list"),
        ("entrypoint: [a, null]", "deploy.entrypoint[1]: expected text, got nothing"),
        ("entrypoint: ['']", "deploy.entrypoint[0]: the program's name is empty"),
        ("entrypoint: {a: b}", "deploy.entrypoint: expected a list of words"),
        ("entrypoint: ''", "deploy.entrypoint: is missing"),
        ("entrypoint: m.py\n  pre_exec: [a, [b]]", "deploy.pre_exec: write every command as a list"),
        ("entrypoint: m.py\n  pre_exec: [{a: b}]", "deploy.pre_exec[0]: expected a list, got a mapping"),
    ],
)
def test_commands_that_cannot_be_run_are_errors(lines: str, said: str) -> None:
    found = findings(f"deploy:\n  type: local\n  {lines}\n")
    assert any(said in line for line in found), found


@pytest.mark.parametrize("nothing", ["", 0, None, "0"])
def test_ports_that_are_not_said(nothing: Any) -> None:
    loaded = deploy(network={"service_host_ip": "", "service_host_port": nothing, "service_container_port": nothing})
    assert loaded.spec.container_port == 8080
    assert loaded.spec.deploy.network.service_host_ip is None
    assert noted(loaded, "listen on 8080")


def test_the_host_port_serves_where_the_container_port_is_not_said() -> None:
    loaded = deploy(network={"service_host_port": "8088"})
    assert loaded.spec.container_port == 8088
    assert noted(loaded, "listen on 8088 (service_host_port)")


def test_nfs_under_both_spellings() -> None:
    for loaded in (
        deploy(k8s={"nfsip": "1.2.3.4", "nfspath": "/x"}),
        deploy(k8s={"nfs_ip": "1.2.3.4", "nfs_path": "/x"}),
    ):
        assert loaded.spec.deploy.k8s is not None
        assert (loaded.spec.deploy.k8s.nfs_ip, loaded.spec.deploy.k8s.nfs_path) == ("1.2.3.4", "/x")


@pytest.mark.parametrize(
    ("written", "mib"),
    [
        (8192, 8192),
        ("8192", 8192),
        ("512Mi", 512),
        ("8Gi", 8192),
        ("8G", 7630),
        ("1.5Gi", 1536),
        ("8GiB", 8192),
        ("1 Gi", 1024),
    ],
)
def test_memory(written: Any, mib: int) -> None:
    assert deploy(resources={"memory": written}).spec.deploy.resources.memory == mib


@pytest.mark.parametrize(("written", "cpus"), [(4, 4.0), (0.5, 0.5), ("2", 2.0), ("500m", 0.5)])
def test_cpus(written: Any, cpus: float) -> None:
    assert deploy(resources={"cpu": written, "gpu": "1"}).spec.deploy.resources.cpu == cpus


def test_env_as_a_mapping_or_as_cloud_runs_list() -> None:
    listed = deploy(env=[{"name": "A", "value": 1}, {"name": "B", "value": "x"}])
    assert listed.spec.deploy.env == deploy(env={"A": 1, "B": "x"}).spec.deploy.env == {"A": "1", "B": "x"}


@pytest.mark.parametrize("nothing", ["", None, []])
def test_optional_files_that_are_not_said(nothing: Any) -> None:
    assert optional(weight_file=nothing).spec.optional.weight_file is None


def test_weight_files() -> None:
    assert optional(weight_file="a.pt").spec.optional.weight_file == "a.pt"
    assert optional(weight_file=["a.pt", ""], model_file="m.pt").spec.optional.weights() == ("a.pt", "m.pt")


def test_without_components_the_image_is_used_as_it_is() -> None:
    loaded = load("build: {image_uri: hello}\ndeploy: {type: docker}\n")
    assert loaded.spec.prebuilt
    assert noted(loaded, "the image hello is used as it is")


def test_without_components_and_image_python_alone_is_enough() -> None:
    loaded = load("deploy: {type: local, entrypoint: main.py}\n")
    assert not loaded.spec.prebuilt
    assert python_requirements(loaded.spec) == ()


def test_notes_come_in_the_order_of_the_file() -> None:
    notes = [note for note in deployment_yaml.load(SPECIMENS / "codegen_native.yaml").notes if note.startswith("dep")]
    assert notes == sorted(notes, key=lambda note: int(note.split(":")[1]))
