"""Reading the file from a shared disk: nothing outside the project, nothing half-written, nothing huge."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_manager import deployment_yaml, yaml_file
from cloud_manager.errors import InvalidSpec, NotFound

GOOD = b"deploy: {type: local, entrypoint: main.py}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    file = tmp_path / "project/deployment.yaml"
    file.write_bytes(GOOD)
    return file


def test_a_file_is_read_and_called_as_asked(path: Path) -> None:
    loaded = deployment_yaml.load(path, display="x/deployment.yaml")
    assert loaded.origins["deploy.type"] == "x/deployment.yaml:1:16"


def test_a_missing_file_is_not_found(path: Path) -> None:
    path.unlink()
    with pytest.raises(NotFound, match=r"there is no deployment\.yaml"):
        deployment_yaml.load(path)


def test_a_folder_or_a_pipe_is_refused_without_waiting(path: Path) -> None:
    """Opening a named pipe would block the manager until someone writes to it."""
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidSpec, match="is not a regular file"):
        deployment_yaml.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidSpec, match="is not a regular file"):
        deployment_yaml.load(path)


def test_a_link_out_of_the_project_is_refused(path: Path) -> None:
    secret = path.parent.parent / "secret.yaml"
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises(InvalidSpec, match="outside the project"):
        deployment_yaml.load(path)


def test_a_link_within_the_project_is_followed(path: Path) -> None:
    path.rename(path.with_name("real.yaml"))
    path.symlink_to("real.yaml")
    assert deployment_yaml.load(path).spec.deploy.type == "local"


def test_links_in_a_circle_are_a_clear_error(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(InvalidSpec, match="cannot be read"):
        deployment_yaml.load(path)


def test_no_permission_is_a_clear_error(path: Path) -> None:
    if os.geteuid() == 0:
        path = path.parent / "deployment.yaml" / "below"  # root may read anything; a file as a folder it cannot
    else:
        path.chmod(0)
    with pytest.raises(InvalidSpec, match="cannot be read: "):
        deployment_yaml.load(path)


def test_ten_megabytes_are_refused_with_size_and_limit(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 1024 * 1024)
    with pytest.raises(InvalidSpec, match=r"10,485,760 bytes; the limit is 1,048,576"):
        deployment_yaml.load(path)


def changing(path: Path, times: int, change: Callable[[Path], None]) -> yaml_file.ReadBytes:
    """As `os.read`, while another program changes the file during the first `times` attempts."""
    left = [times]

    def read(descriptor: int, size: int) -> bytes:
        data = os.read(descriptor, size)
        first_of_attempt = os.lseek(descriptor, 0, os.SEEK_CUR) == len(data)
        if first_of_attempt and left[0]:
            left[0] -= 1
            change(path)
        return data

    return read


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"# more\n")


def replace(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(GOOD + b"# new\n")
    fresh.replace(path)


@pytest.mark.parametrize("change", [grow, replace])
def test_a_file_that_changes_while_it_is_read_is_read_again(path: Path, change: Callable[[Path], None]) -> None:
    assert yaml_file.read(path, "f", read_bytes=changing(path, 2, change)) == path.read_bytes()


@pytest.mark.parametrize("change", [grow, replace])
def test_a_file_that_never_rests_is_an_error_that_may_be_tried_again(
    path: Path, change: Callable[[Path], None]
) -> None:
    with pytest.raises(InvalidSpec, match="is being written") as caught:
        yaml_file.read(path, "f", read_bytes=changing(path, 3, change))
    assert caught.value.problem.retryable


def test_a_file_that_vanishes_while_it_is_read_is_not_found(path: Path) -> None:
    with pytest.raises(NotFound):
        yaml_file.read(path, "f", read_bytes=changing(path, 1, Path.unlink))
