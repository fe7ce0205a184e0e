"""What people get wrong, and what they are told: each answer names the cause and the fix."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import needs
from tests.integration.stack import HELLO, YAML, Stack, running, until

BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefgh"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("bad")) as stack:
        yield stack


def refused(answer: requests.Response, *words: str) -> str:
    """A refusal as the project manager must see it: one line, over 50 characters, not 2xx, with cause and fix."""
    assert 400 <= answer.status_code < 600, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("error: ")
    assert len(answer.text) > 50
    assert "\n" not in answer.text
    for word in words:
        assert word in answer.text
    return answer.text


def test_unknown_user_and_project(stack: Stack) -> None:
    stack.project()
    refused(stack.get("/start", "nobody", "1"), "nobody")
    (stack.shared / "common" / "somebody").mkdir(parents=True)
    refused(stack.get("/start", "somebody", "77"), "77")
    refused(stack.get("/stop", "nobody", "1"), "nobody")
    refused(stack.get("/status_request", "nobody", "1"), "nobody")


@pytest.mark.parametrize(
    "bad", ["..", ".", ".hidden", "a/b", "a%2fb", "../../etc", "a\0b", "a" * 65, "", "٣", "a b", "a\nb", "a\\b"]
)
def test_ids_that_could_name_something_else(stack: Stack, bad: str) -> None:
    for path in ("/start", "/stop", "/status_request"):
        for user, project in ((bad, "1"), ("7", bad)):
            answer = stack.get(path, user, project)
            assert answer.status_code in (400, 404)
            refused(answer)


@pytest.mark.parametrize(
    "raw",
    ["user_id=7%2f..&project_id=1", "user_id=7%00&project_id=1", "user_id=7", "", "user_id=7&user_id=8&project_id=1"],
)
def test_raw_queries(stack: Stack, raw: str) -> None:
    for path in ("/start", "/stop", "/status_request"):
        refused(requests.get(f"http://127.0.0.1:{stack.port('manager')}{path}?{raw}", timeout=5))


def test_a_link_out_of_the_shared_root(stack: Stack, tmp_path: Path) -> None:
    """Otherwise a project can deploy, and so read, any file of the machine."""
    (tmp_path / "nn_model").mkdir()
    (tmp_path / "nn_model" / "server.py").write_text(HELLO)
    (tmp_path / "deployment.yaml").write_text(YAML)
    (stack.shared / "common" / "7").mkdir(parents=True, exist_ok=True)
    (stack.shared / "common" / "7" / "link").symlink_to(tmp_path)
    refused(stack.get("/start", "7", "link"))
    folder = stack.project(project="inner")
    (folder / "nn_model" / "passwd").symlink_to("/etc/passwd")
    answer = stack.get("/start", project="inner")
    if answer.status_code == 200:
        stack.wait("failed", project="inner")
        assert "passwd" in stack.show(project="inner")["problem"]["cause"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["empty"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b"a: [1\n", ["deployment.yaml:"]),
        (b"deploy: {type: local, entrypont: server.py}\n", ["entrypoint", "deployment.yaml:1:"]),
        (b"x: !!python/object:os.system {}\n", ["tag"]),
        (b"#" * 10_000_000, ["1 MiB"]),
        (b"deploy: {type: local, type: docker, entrypoint: server.py}\n", ["duplicate", "deploy.type"]),
        (BOMB, ["alias"]),
    ],
    ids=["empty", "utf8", "syntax", "typo", "tag", "10MB", "duplicate", "bomb"],
)  # fmt: skip
def test_bad_yaml(stack: Stack, data: bytes, words: list[str]) -> None:
    folder = stack.project(project="yaml")
    (folder / "deployment.yaml").write_bytes(data)
    refused(stack.get("/start", project="yaml"), *words)
    assert stack.get("/status_request", project="yaml").status_code == 404


def test_missing_and_unreadable_yaml(stack: Stack) -> None:
    folder = stack.project(project="gone")
    (folder / "deployment.yaml").unlink()
    refused(stack.get("/start", project="gone"), "deployment.yaml")
    (folder / "deployment.yaml").mkdir()
    refused(stack.get("/start", project="gone"), "deployment.yaml")
    if os.getuid() != 0:
        (folder / "deployment.yaml").rmdir()
        (folder / "deployment.yaml").write_text(YAML)
        (folder / "deployment.yaml").chmod(0)
        refused(stack.get("/start", project="gone"), "read")


def failed(stack: Stack, project: str, *words: str) -> str:
    stack.wait("failed", project=project)
    shown = stack.show(project=project)
    text = f"{shown['problem']['cause']} {shown['problem']['fix']}"
    for word in words:
        assert word in text
    stack.get("/stop", project=project)
    stack.wait("stopped", project=project)
    assert stack.programs(project=project) == []
    return text


def test_a_package_that_does_not_exist(stack: Stack) -> None:
    yaml = YAML.replace("pypi: []", "pypi: [no-such-package-xyzzy==1.2]")
    stack.project(project="pkg", yaml=yaml)
    stack.begin(project="pkg")
    assert "\n" not in failed(stack, "pkg", "no-such-package-xyzzy", "deployment.yaml:5:14")


def test_a_version_that_does_not_exist(stack: Stack) -> None:
    stack.project(project="version", yaml=YAML.replace("pypi: []", "pypi: [iniconfig==99.9]"))
    stack.begin(project="version")
    failed(stack, "version", "iniconfig==99.9", "deployment.yaml:5:14")


def test_a_missing_entrypoint(stack: Stack) -> None:
    stack.project(project="entry", yaml=YAML.replace("server.py", "sever.py"))
    refused(stack.get("/start", project="entry"), "sever.py", "server.py")


def test_an_entrypoint_that_exits_at_once(stack: Stack) -> None:
    stack.project(project="exits", program="print('cannot load the model'); raise SystemExit(3)")
    stack.begin(project="exits")
    failed(stack, "exits", "cannot load the model", "3")


def test_an_entrypoint_that_never_listens(stack: Stack) -> None:
    yaml = YAML + "  health: {startup_seconds: 3}\n"
    stack.project(project="deaf", yaml=yaml, program="import time; print('thinking', flush=True); time.sleep(600)")
    stack.begin(project="deaf")
    failed(stack, "deaf", "thinking", "PORT")


def test_an_entrypoint_that_listens_elsewhere(stack: Stack) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        other = sock.getsockname()[1]
    yaml = YAML + "  health: {startup_seconds: 4}\n"
    stack.project(project="else", yaml=yaml, program=HELLO.replace('int(os.environ["PORT"])', str(other)))
    stack.begin(project="else")
    failed(stack, "else", str(other), "PORT")


def test_a_port_in_use(stack: Stack) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        stack.project(project="port", yaml=YAML + f"  network: {{service_host_port: {port}}}\n")
        stack.begin(project="port")
        failed(stack, "port", str(port), "in use")


@pytest.mark.slow
def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    """Otherwise a full disk ends a deployment for good, or leaves half an image that is then served."""
    needs.root_on_linux("mounting a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small], check=True)
    try:
        with running(tmp_path, builder_state=small) as stack:
            folder = stack.project(yaml=YAML + "optional: {weight_file: model.bin}\n")
            (folder / "nn_model" / "model.bin").write_bytes(os.urandom(30_000_000))
            stack.begin()
            until("the reason", lambda: "disk" in str(stack.show().get("problem") or stack.log("builder")).lower())
            assert stack.word() in ("building", "failed")
            subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
            if stack.word() == "failed":
                stack.begin()
            stack.wait("running", timeout=120)
            assert stack.answer()["text"] == "hello"
            stack.get("/stop")
            stack.wait("stopped")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_registry_and_system_packages_are_refused_in_plain_words(stack: Stack) -> None:
    yaml = YAML.replace("pypi: []", "apt: [vim]\n      pypi: []")
    stack.project(project="apt", yaml=yaml)
    refused(stack.get("/start", project="apt"), "vim", "apt")
    stack.project(project="ecs", yaml=YAML.replace("type: local", "type: aws-ecs"))
    refused(stack.get("/start", project="ecs"), "aws-ecs", "local")
