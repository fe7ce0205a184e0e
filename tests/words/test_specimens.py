"""What others really wrote (apt 2.6, uv 0.9, Docker Engine 26, Google's services), as a Korean reader meets it.

Each is mapped to a code that has a page; of each, the sentence and what to do are Korean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
from google.api_core import exceptions

from cloud_manager.problem_words import speak
from cloud_manager.targets import local_problems
from cloud_manager.targets.cloud_run_failures import failure as revision_failed
from cloud_manager.targets.cloud_run_refusals import Caller
from cloud_manager.targets.cloud_run_refusals import refusal as google
from cloud_manager.targets.docker_pull import pull_refused
from cloud_manager.targets.docker_reference import parse
from cloud_manager.targets.docker_refusals import refusal as docker
from cloud_manager.targets.docker_refusals import unavailable
from image_builder.contract import Problem, Requirement
from image_builder.engines import apt
from image_builder.resolver_words import failure as uv
from tests.cloud_manager.test_cloud_run_observation import failed
from tests.cloud_manager.test_cloud_run_refusals import ROWS

KOREAN = speak("ko")
AT = "deployment.yaml:7:9: build.components.libs[0]"
CONFLICT = """error: No solution found when resolving dependencies
  cause: Because you require six>=1.16 and six<1.0, we can conclude that your requirements are unsatisfiable."""
NO_PACKAGE = """error: No solution found when resolving dependencies
  cause: Because nosuchpackage-zz was not found in the package registry and you require nosuchpackage-zz, we can \
conclude that your requirements are unsatisfiable."""
NO_VERSION = """error: No solution found when resolving dependencies
  cause: Because there is no version of six==99.0 and you require six==99.0, we can conclude that your requirements \
are unsatisfiable."""
UNREACHABLE = """error: Request failed after 3 retries in 6.6s
  cause: Failed to fetch: https://index.example/simple/six/
  cause: error sending request for url (https://index.example/simple/six/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)"""
UNTRUSTED = """error: Failed to fetch: `https://index.example/simple/six/`
  cause: error sending request for url (https://index.example/simple/six/)
  cause: client error (Connect)
  cause: invalid peer certificate: UnknownIssuer"""
PORT = (
    "driver failed programming external connectivity on endpoint web-1 (160904eb9e1a): Error starting userland proxy: "
    "listen tcp4 127.0.0.1:18999: bind: address already in use"
)
NO_PROGRAM = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
    'exec: "nosuchprogram": executable file not found in $PATH: unknown'
)
IMAGE = "reg.example.com/team/model:1"


def resolved(text: str, name: str = "six") -> Problem:
    return uv(text, [Requirement(text=name, origin=AT)]).problem


def pulled(text: str) -> Problem:
    return pull_refused(text, parse(IMAGE)).problem


def installed(text: str) -> Problem:
    return apt.failure(text, []).problem


def program(problem: local_problems.Problem) -> Problem:
    return Problem.model_validate(problem)


def refused(error: exceptions.GoogleAPICallError) -> Problem:
    return google(error, "create service web", Caller("shop-1", "user:a@b.c")).problem


def unready(reason: str, words: str) -> Problem:
    return revision_failed(failed(reason, words), [])


REVISIONS = (
    (
        "HEALTH_CHECK_CONTAINER_ERROR",
        "never_listens",
        "The user-provided container failed to start and listen on the port defined provided by the PORT=8080 "
        "environment variable within the allocated timeout.",
    ),
    ("CONTAINER_MISSING", "image_missing", "Image 'us-docker.pkg.dev/shop-1/x/y:1' not found."),
    (
        "CONTAINER_PERMISSION_DENIED",
        "image_denied",
        "Google Cloud Run Service Agent service-1@serverless-robot-prod.iam.gserviceaccount.com must have permission "
        "to read the image, us-docker.pkg.dev/shop-1/x/y:1.",
    ),
    ("SECRETS_ACCESS_CHECK_FAILED", "secret_denied", "Secret projects/1/secrets/key/versions/latest was not found"),
)
SPECIMENS: list[tuple[str, str, Callable[[], Problem]]] = [
    ("a resolver conflict", "resolve_conflict", lambda: resolved(CONFLICT)),
    ("a missing package", "package_not_found", lambda: resolved(NO_PACKAGE, "nosuchpackage-zz")),
    ("a missing version", "version_not_found", lambda: resolved(NO_VERSION)),
    ("an index out of reach", "index_unreachable", lambda: resolved(UNREACHABLE)),
    ("a CA that is not known", "index_untrusted", lambda: resolved(UNTRUSTED)),
    ("apt: no package", "apt_package_not_found", lambda: installed("E: Unable to locate package nosuchpackage-xyz")),
    ("apt: no version", "apt_version_not_found", lambda: installed("E: Version '0.0.1' for 'bash' was not found")),
    ("apt: virtual", "apt_package_not_found", lambda: installed("E: Package 'awk' has no installation candidate")),
    ("apt: disk full", "disk_full", lambda: installed("E: Write error - write (28: No space left on device)")),
    ("docker: port in use", "port_in_use", lambda: docker("start container web-1", 500, PORT)),
    ("docker: entrypoint", "entrypoint_missing", lambda: docker("start container web-1", 400, NO_PROGRAM)),
    ("docker: no image", "no_such_image", lambda: docker("create container a", 404, "No such image: x:1")),
    ("docker: memory", "too_small", lambda: docker("create container a", 400, "Minimum memory limit allowed is 6MB")),
    (
        "docker: CPUs",
        "too_large",
        lambda: docker(
            "create container a", 400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        ),
    ),
    (
        "docker: GPU",
        "no_gpu_runtime",
        lambda: docker("start container a", 500, 'could not select device driver "nvidia" with capabilities: [[gpu]]'),
    ),
    (
        "docker: disk full",
        "engine_disk_full",
        lambda: docker("load an image", 0, "write /layer.tar: no space left on device"),
    ),
    ("docker: not there", "engine_unavailable", lambda: unavailable("unix:///x.sock", "No such file or directory")),
    (
        "pull: proxy",
        "registry_proxy",
        lambda: pulled(
            'Get "https://reg.example.com/v2/": proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused'
        ),
    ),
    (
        "pull: CA",
        "registry_untrusted",
        lambda: pulled(
            'Get "https://reg.example.com/v2/": tls: failed to verify certificate: x509: certificate signed by unknown '
            "authority"
        ),
    ),
    (
        "pull: login",
        "registry_auth",
        lambda: pulled("Head: unauthorized: authentication required"),
    ),
    ("the program: its own error", "exited", lambda: program(local_problems.exited(1, ["ValueError: x"], 8080))),
    ("the program: a wrong port", "wrong_port", lambda: program(local_problems.wrong_port([5000], 8080, []))),
    (
        "the program: a port in use",
        "port_in_use",
        lambda: program(local_problems.port_in_use("127.0.0.1", 80, "nginx (pid 1)")),
    ),
    *((f"Google: {error.message[:40]}", code, partial(refused, error)) for error, code, _, _ in ROWS),
    *((f"Cloud Run: {reason}", code, partial(unready, reason, words)) for reason, code, words in REVISIONS),
]


@pytest.mark.parametrize(("code", "make"), [row[1:] for row in SPECIMENS], ids=[row[0] for row in SPECIMENS])
def test_what_others_say_is_told_in_korean(code: str, make: Callable[[], Problem]) -> None:
    problem = make()
    assert problem.code == code
    assert code in KOREAN.meanings
    told = KOREAN.problem(problem)
    assert re.search("[가-힣]", told.cause), told.cause
    assert re.search("[가-힣]", told.fix) and told.fix != problem.fix, told.fix


def test_the_place_stays_in_front() -> None:
    """People and editors look for file:line:column at the beginning of the line."""
    assert KOREAN.problem(resolved(NO_PACKAGE, "nosuchpackage-zz")).cause.startswith(f"{AT}: nosuchpackage-zz 패키지")
    unforeseen = Problem(code="exited", cause=f"{AT}: no catalogue has this", fix="none")
    assert KOREAN.problem(unforeseen).cause == f"{AT}: 프로그램이 스스로 끝났습니다. (no catalogue has this)"
