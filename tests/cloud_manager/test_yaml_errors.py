"""Every problem of a file is told in one answer, in plain words, with its line, and with the nearest known key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_manager import deployment_yaml
from cloud_manager.errors import InvalidSpec

BAD = """\
build:
  architecture: x87
  acelerator: cpu
  workdir: x
  components:
    libs: [python==3.9, python==3.10, 'flask=3', 3.9]
    custom_packages: {appt: [vim], apt: [a/x, 'a b']}
deploy:
  type: docker
  service_name: 8:30
  public: maybe
  network: {service_host_port: abc, service_container_port: 70000, servce_host_ip: 1}
  resources: {cpu: on, memory: lots, gpu: 010}
  env: {A: on, 1B: x, C: [1], PORT: 1}
  scaling: []
  health: {path: x, startup_seconds: 2.5}
  region: 2020
  region: x
  secrets: {A: x, D: 'x y'}
optional: {weight_file: {a: 1}, nn_file: [1]}
"""
PORT = "expected a whole number 1-65535"
SAID = [
    "2:17: build.architecture: expected linux/amd64 or linux/arm64, got 'x87'; did you mean x86?",
    "3:3: build.acelerator: unknown key; did you mean `accelerator`?",
    "4:3: build.workdir: unknown key; it belongs under deploy",
    "6:25: build.components.libs[1]: python==3.9 and python==3.10 contradict each other",
    "6:39: build.components.libs[2]: not a python requirement: ",
    '6:50: build.components.libs[3]: expected text, got the number 3.9; put it in quotes: "3.9"',
    "7:23: build.components.custom_packages.appt: unknown key; did you mean `apt`?",
    "7:42: build.components.custom_packages.apt[0]: expected a Debian package",
    "7:47: build.components.custom_packages.apt[1]: expected a Debian package",
    "9:3: deploy.entrypoint: is missing; name the program",
    "10:17: deploy.service_name: expected at most 63 letters",
    "11:11: deploy.public: expected true or false, got 'maybe'",
    f"12:32: deploy.network.service_host_port: {PORT}, got 'abc'",
    f"12:61: deploy.network.service_container_port: {PORT}, got the number 70000",
    "12:68: deploy.network.servce_host_ip: unknown key; did you mean `service_host_ip`?",
    "13:20: deploy.resources.cpu: expected a number above 0 and up to 224, got on, which YAML reads as the word true",
    "13:32: deploy.resources.memory: expected a size in MB, or with a unit such as 512Mi or 8Gi, got 'lots'",
    "13:43: deploy.resources.gpu: expected a whole number 0-16, got 010, which YAML reads as the number 8",
    "14:20: deploy.env.1B: '1B' is no name of a variable",
    "14:26: deploy.env.C: expected text, got a list",
    "14:31: deploy.env.PORT: PORT is set for the program",
    "15:12: deploy.scaling: expected a mapping, got a list",
    "16:18: deploy.health.path: expected a path that begins with `/`, got 'x'",
    "16:38: deploy.health.startup_seconds: expected a whole number 1-3600, got the number 2.5",
    "17:11: deploy.region: expected text, got the number 2020; put it in quotes",
    "18:3: deploy.region: duplicate key: written in line 17 and again in line 18",
    "19:13: deploy.secrets.A: is set by deploy.env as well; keep one",
    "19:22: deploy.secrets.D: expected the name of a secret, `name` or `name:version`, got 'x y'",
    "20:25: optional.weight_file: expected text or a list, got a mapping",
    "20:42: optional.nn_file: expected text, got a list",
]


def refused(text: str) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        deployment_yaml.loads(text.encode())
    return caught.value


def test_all_problems_come_in_one_answer_in_the_order_of_the_file() -> None:
    found = [str(finding).removeprefix("deployment.yaml:") for finding in refused(BAD).findings]
    wanted = [line for line in SAID if "deploy.region: expected" not in line]  # one finding for a place
    for line, said in zip(found, wanted, strict=True):
        assert line.startswith(said)


def test_the_cause_is_one_line_with_twenty_findings_and_the_number_of_the_rest() -> None:
    error = refused(BAD)
    assert error.problem.cause.count("; deployment.yaml:") == 19
    assert error.problem.cause.endswith("; and 9 more")
    assert error.problem.code == "invalid_deployment_yaml"
    assert not error.problem.retryable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deploy: {type: l, entrypoint: m.py, service_host_port: 1}", "it belongs under deploy.network"),
        ("deploy: {type: l, entrypoint: m.py, memory: 1}", "it belongs under deploy.resources"),
        ("deploy: {type: l, entrypoint: m.py}\napt: [vim]", "it belongs under build.components.custom_packages"),
        ("deploy: {type: l, entrypoint: m.py, data: [{mount: /x, bukket: b}]}", "did you mean `bucket`?"),
        ("deploy: {type: l, entrypoint: m.py}\ndeploi: {}", "did you mean `deploy`?"),
        ("deploy: {type: l, entrypoint: m.py}\nzzz: {}", "unknown key; known here: build, deploy, optional"),
        ("deploy: {type: l, entrypoint: m.py, build: {}}", "it belongs at the top of the file"),
        ("deploy: {type: l, entrypoint: m.py, memry: 1}", "did you mean `memory`, under deploy.resources?"),
        ("build: {}", "deploy: is missing"),
        ("deploy: [1]", "deploy: expected a section with `type` and `entrypoint`, got a list"),
        ("deploy: {type: 'a b', entrypoint: m.py}", "deploy.type: expected the target, e.g. local"),
        ("deploy: {type: l, entrypoint: m.py, env: {A: null}}", "deploy.env.A: expected text, got nothing"),
        ("deploy: {type: l, entrypoint: m.py, env: [A=b]}", "deploy.env: expected a mapping `NAME: value`"),
        (
            "deploy: {type: l, entrypoint: m.py, region: on}",
            "got on, which YAML reads as the word true; put it in quotes",
        ),
        (
            "deploy: {type: l, entrypoint: m.py, scaling: {min_instances: 5, max_instances: 2}}",
            "more than max_instances",
        ),
        ("deploy: {type: l, entrypoint: m.py, network: {service_container_port: true}}", f"{PORT}, got the word true"),
        ("deploy: {type: l, entrypoint: [" + "x" * 5000 + "]}", "deploy.entrypoint[0]: longer than 4,096 characters"),
        ("deploy: {type: l, entrypoint: m.py, network: {service_container_port: 8_080}}", "write an ordinary decimal"),
    ],
)
def test_words_that_help(text: str, said: str) -> None:
    lines = [str(finding) for finding in refused(text).findings]
    assert any(said in line for line in lines), lines


def test_ten_thousand_unknown_keys_are_answered_soon_and_in_short() -> None:
    text = "deploy: {type: local, entrypoint: m.py}\n" + "".join(f"some_key_{n}: 1\n" for n in range(9000))
    error = refused(text)
    assert len(error.findings) == 9000
    assert len(error.problem.cause) < 5000


def test_a_key_of_a_megabyte_is_shortened() -> None:
    assert len(refused("? " + "k" * 900_000 + "\n: 1\n").problem.cause) < 500


def test_the_schema_for_editors_knows_both_spellings() -> None:
    schema = deployment_yaml.json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    assert schema["$id"].startswith("https://") and schema["title"] and schema["description"]
    assert {"atp", "apt"} <= definitions["CustomPackages"]["properties"].keys()
    assert {"target_name", "image_uri"} <= definitions["Build"]["properties"].keys()
    assert {"nfsip", "nfs_ip"} <= definitions["K8s"]["properties"].keys()
    assert definitions["Build"]["additionalProperties"] is False
    json.dumps(schema)
