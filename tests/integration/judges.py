"""Programs of other people that unpack images, and what each makes of one: a tree that can be compared.

All of them read layers that are chains of gzip members; one that read the first member only would show it here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests import needs
from tests.integration.stack import until

_KINDS = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFREG: "file"}
_ENGINES_OWN = (
    *("dev", "proc", "sys", ".dockerenv"),
    *("etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"),
)
"""What an engine puts into a container, and devices, which not everyone may make."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A path of an image. content: sha256 of a file, target of a link."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str = ""


Tree = dict[str, Seen]


@dataclass(frozen=True, slots=True)
class Case:
    """An image to be unpacked. reference: `registry/name@sha256:…`, plain HTTP. folder: empty, to work in."""

    reference: str
    folder: Path
    docker_host: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    name: str
    unpack: Callable[[Case], Tree]


def run(*argv: object, **env: str) -> str:
    """What a program says; AssertionError with its own words if it fails."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **env}, timeout=280)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout


# -- trees -------------------------------------------------------------------------------------------------------------


def tree_of_folder(root: Path) -> Tree:
    """An unpacked image on the disk."""
    found: Tree = {}
    for where, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(where, name)
            found[path.relative_to(root).as_posix()] = _seen_on_disk(path)
    return _without_engines_own(found)


def _seen_on_disk(path: Path) -> Seen:
    about = path.lstat()
    kind = _KINDS.get(stat.S_IFMT(about.st_mode), "other")
    content = ""
    if kind == "link":
        content = os.readlink(path)  # noqa: PTH115 - as it is, not as a Path would write it
    elif kind == "file":
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    return _seen(kind, about.st_mode, (about.st_uid, about.st_gid), content)


def tree_of_tars(tars: Iterable[tarfile.TarFile]) -> Tree:
    """Layers over one another, the lowest first: https://github.com/opencontainers/image-spec/blob/main/layer.md"""
    found: Tree = {}
    for tar in tars:
        upper = _layer(tar, found)
        for path in [path for path in upper if Path(path).name.startswith(".wh.")]:
            gone = str(Path(path).with_name(Path(path).name.removeprefix(".wh.")))
            del upper[path]
            found = {key: row for key, row in found.items() if key != gone and not key.startswith(f"{gone}/")}
        found |= upper
    return _without_engines_own(found)


def _layer(tar: tarfile.TarFile, lower: Tree) -> Tree:
    upper: Tree = {}
    for row in tar:
        path = row.name.removeprefix("./").rstrip("/")
        if path in ("", "."):
            continue
        if row.islnk():
            other = row.linkname.removeprefix("./")
            upper[path] = upper[other] if other in upper else lower[other]
            continue
        kind = "folder" if row.isdir() else "link" if row.issym() else "file" if row.isfile() else "other"
        content = row.linkname if kind == "link" else ""
        if kind == "file":
            file = tar.extractfile(row)
            assert file is not None
            content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        assert path not in upper, f"docker refuses a layer that names {path} twice"
        upper[path] = _seen(kind, row.mode, (row.uid, row.gid), content)
    return upper


def _seen(kind: str, mode: int, owner: tuple[int, int], content: str) -> Seen:
    return Seen(kind, 0o777 if kind == "link" else stat.S_IMODE(mode), owner, content)


def _without_engines_own(tree: Tree) -> Tree:
    return {
        path: row for path, row in tree.items() if path not in _ENGINES_OWN and path.split("/")[0] not in _ENGINES_OWN
    }


def differences(one: Tree, other: Tree) -> list[str]:
    """The first few paths at which two trees differ, and how."""
    paths = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    return [f"{path}: {one.get(path)} / {other.get(path)}" for path in paths[:10]]


# -- judges ------------------------------------------------------------------------------------------------------------


def by_python(case: Case) -> Tree:
    """`gzip` and `tarfile` of python, over the blobs as the registry has them."""
    _copy(case.reference, f"dir:{case.folder}")
    layers = json.loads((case.folder / "manifest.json").read_text())["layers"]
    with ExitStack() as opened:
        files = [case.folder / row["digest"].removeprefix("sha256:") for row in layers]
        return tree_of_tars(_tar(opened, opened.enter_context(gzip.open(file))) for file in files)


def by_skopeo(case: Case) -> Tree:
    """skopeo inflates the layers itself for a docker archive, and compares them with the configuration's diff ids."""
    _copy(case.reference, f"docker-archive:{case.folder}/it.tar")
    with ExitStack() as opened:
        archive = opened.enter_context(tarfile.open(case.folder / "it.tar"))
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layers = json.load(manifest)[0]["Layers"]
        return tree_of_tars(_tar(opened, archive.extractfile(name)) for name in layers)


def by_umoci(case: Case) -> Tree:
    _copy(case.reference, f"oci:{case.folder}/layout:it")
    run(needs.program("umoci"), "unpack", "--image", f"{case.folder}/layout:it", case.folder / "bundle")
    return tree_of_folder(case.folder / "bundle" / "rootfs")


def by_docker(case: Case) -> Tree:
    docker = (needs.program("docker"), "-H", case.docker_host)
    run(*docker, "pull", "-q", case.reference)
    try:
        container = run(*docker, "create", case.reference).strip()
        try:
            run(*docker, "export", "-o", case.folder / "it.tar", container)
        finally:
            run(*docker, "rm", container)
    finally:
        run(*docker, "rmi", "-f", case.reference)
    with tarfile.open(case.folder / "it.tar") as tar:
        return tree_of_tars([tar])


def by_buildah(case: Case) -> Tree:
    """containers-storage, in a store of its own."""
    needs.root_on_linux("buildah's store")
    buildah = (needs.program("buildah"), "--root", case.folder / "root", "--runroot", case.folder / "run")
    try:
        run(
            *buildah,
            "from",
            "--tls-verify=false",
            "--name",
            "it",
            "--isolation",
            "chroot",
            f"docker://{case.reference}",
        )
        return tree_of_folder(Path(run(*buildah, "mount", "it").strip()))
    finally:
        subprocess.run([*buildah, "umount", "it"], check=False, capture_output=True)
        _unmount(case.folder)


def by_containerd(case: Case) -> Tree:
    """containerd's own unpacker, in a daemon of our own."""
    needs.root_on_linux("containerd")
    with _containerd() as ctr, _unmounted(case.folder / "seen") as seen:
        run(*ctr, "images", "pull", "--plain-http", "--snapshotter", "overlayfs", case.reference)
        run(*ctr, "images", "mount", "--snapshotter", "overlayfs", case.reference, seen)
        return tree_of_folder(seen)


JUDGES = (
    Judge("skopeo", by_skopeo),
    Judge("umoci", by_umoci),
    Judge("docker", by_docker),
    Judge("buildah", by_buildah),
    Judge("containerd", by_containerd),
)
"""Besides python, which the others are compared with."""


def inspected(reference: str) -> dict[str, Any]:
    """What `skopeo inspect` says."""
    shown: dict[str, Any] = json.loads(
        run(needs.program("skopeo"), "inspect", "--tls-verify=false", f"docker://{reference}")
    )
    return shown


def _copy(reference: str, target: str) -> None:
    skopeo = needs.program("skopeo")
    run(skopeo, "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{reference}", target)


def _tar(opened: ExitStack, file: Any) -> tarfile.TarFile:
    return opened.enter_context(tarfile.open(fileobj=file, mode="r|"))


@contextmanager
def _containerd() -> Iterator[tuple[str, ...]]:
    """The words of `ctr` for a daemon that lives as long as this. Its folder is short: a socket's path is limited."""
    ctr, program = needs.program("ctr"), needs.program("containerd")
    with tempfile.TemporaryDirectory(prefix="ctrd-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        config = home / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{home}/socket"\n'
        )
        with (home / "log").open("wb") as log:
            process = subprocess.Popen([program, "--config", config], stdout=log, stderr=log)
        words = (ctr, "--address", f"{home}/socket")
        try:
            until("containerd to answer", lambda: _answers(words, process, home / "log"))
            yield words
        finally:
            process.terminate()
            process.wait()
            _unmount(home)


def _answers(ctr: tuple[str, ...], process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        needs.missing(f"containerd cannot run here: {log.read_text(errors='replace')[-300:]}")
    return subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0


@contextmanager
def _unmounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    mounts = [row.mountpoint for row in psutil.disk_partitions(all=True) if row.mountpoint.startswith(str(folder))]
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", mount], check=True, capture_output=True)
