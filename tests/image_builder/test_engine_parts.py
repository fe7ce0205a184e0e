"""What engines are told and what their answers mean, without one."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from image_builder.engines.apt import commands, environment, failure, layer_key, system_packages
from image_builder.engines.choose import choose
from image_builder.engines.diff import apt_layer
from image_builder.engines.engine import network_failed
from image_builder.errors import BadBuildRequest, BuildError
from image_builder.oci.layout import Layout
from image_builder.work import StopFlag

ASKED = system_packages(
    ("vim", "no-such", "hello=9.9"), ("", "deployment.yaml:9:7: apt[1]", "deployment.yaml:10:7: apt[2]")
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v",
        "Vim",
        "vim; id",
        "vim\nhello",
        "--option",
        "-y",
        "vim-",
        "vim=",
        "vim=1 2",
        "vim=-1",
        "vim/sid",
        "^vi",
        "v*m",
    ],
)
def test_nothing_but_a_name_and_a_version_reaches_apt(text: str) -> None:
    with pytest.raises(BadBuildRequest) as caught:
        system_packages((text,), ("deployment.yaml:9:7: apt[0]",))
    assert caught.value.problem.code == "bad_system_package"
    assert caught.value.problem.cause.startswith("deployment.yaml:9:7: apt[0]: ")


def test_names_that_debian_has_are_taken() -> None:
    texts = ("g++", "libstdc++6", "vim=2:9.0.1378-2+deb12u2", "0ad", "python3.11-minimal", "ab=1.0~rc1")
    assert {row.text for row in system_packages(texts)} == set(texts)


def test_the_same_list_in_another_order_is_the_same_layer() -> None:
    base = "sha256:" + "a" * 64
    assert layer_key(base, system_packages(("a1", "b1", "a1"))) == layer_key(base, system_packages(("b1", "a1")))
    assert layer_key(base, system_packages(("a1",))) != layer_key("sha256:" + "b" * 64, system_packages(("a1",)))


def test_a_package_is_a_word_of_its_own_after_the_options() -> None:
    install = commands(ASKED, ca=True)[1]
    assert install[install.index("--") + 1 :] == ("hello=9.9", "no-such", "vim")
    assert environment({"HTTP_PROXY": "p", "SECRET": "s"}, ca=False).keys() >= {"HTTP_PROXY", "DEBIAN_FRONTEND"}
    assert "SECRET" not in environment({"SECRET": "s"}, ca=True)


# What apt 2.6 of Debian 12 really wrote, cut to the end; host names replaced. The last one nobody has met.
@pytest.mark.parametrize(
    ("output", "code", "start"),
    [
        (
            "Reading state information...\nE: Unable to locate package no-such",
            "apt_package_not_found",
            "deployment.yaml:9:7: apt[1]: Unable to locate package no-such",
        ),
        (
            "E: Version '9.9' for 'hello' was not found",
            "apt_version_not_found",
            "deployment.yaml:10:7: apt[2]: Version '9.9' for 'hello' was not found",
        ),
        (
            "Package awk is a virtual package provided by:\n  original-awk 2022-09-12-1\n  gawk 1:5.2.1-2\n\n"
            "E: Package 'awk' has no installation candidate",
            "apt_package_not_found",
            "Package 'awk' has no installation candidate",
        ),
        (
            "  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)\n"
            "Reading package lists...\n"
            "E: Failed to fetch http://d.example/debian/dists/bookworm/InRelease  Could not connect to 127.0.0.1:9 "
            "(127.0.0.1). - connect (111: Connection refused)\n"
            "E: Some index files failed to download. They have been ignored, or old ones used instead.",
            "apt_unreachable",
            "apt-get cannot reach its package sources: Failed to fetch",
        ),
        (
            "  Temporary failure resolving 'd.example'\nReading package lists...\n"
            "E: Failed to fetch http://d.example/debian/dists/bookworm/InRelease  Temporary failure resolving "
            "'d.example'\n"
            "E: Some index files failed to download. They have been ignored, or old ones used instead.",
            "apt_unreachable",
            "apt-get cannot reach its package sources: Failed to fetch",
        ),
        (
            "The following packages have unmet dependencies:\n"
            " exim4-config : Conflicts: postfix but 3.7.11-0+deb12u1 is to be installed\n"
            " exim4-daemon-light : Conflicts: mail-transport-agent\n postfix : Conflicts: mail-transport-agent\n"
            "E: Unable to correct problems, you have held broken packages.",
            "apt_conflict",
            "the system packages do not fit together: Unable to correct problems, you have held broken packages.; "
            "exim4-config : Conflicts: postfix but",
        ),
        (
            'OCI runtime exec failed: exec failed: unable to start container process: exec: "apt-get": executable file '
            "not found in $PATH: unknown",
            "no_apt_in_base",
            "apt-get does not run",
        ),
        (
            "After this operation, 1980 kB of additional disk space will be used.\n"
            "E: You don't have enough free space in /var/cache/apt/archives/.",
            "disk_full",
            "apt-get ran out of space: You don't have enough free space in /var/cache/apt/archives/.",
        ),
        (
            "dpkg: error processing archive /var/cache/apt/archives/vim-runtime_2%3a9.0.1378-2+deb12u2_all.deb "
            "(--unpack):\n cannot copy extracted data for './usr/share/vim/vim90/autoload/phpcomplete.vim' to "
            "'/usr/share/vim/vim90/autoload/phpcomplete.vim.dpkg-new': failed to write (No space left on device)\n"
            "Errors were encountered while processing:\n"
            " /var/cache/apt/archives/vim-runtime_2%3a9.0.1378-2+deb12u2_all.deb\n"
            "E: Sub-process /usr/bin/dpkg returned an error code (1)",
            "disk_full",
            "apt-get ran out of space: cannot copy extracted data for './usr/share/vim",
        ),
        ("dpkg: error", "apt_failed", "apt-get failed: dpkg: error"),
    ],
)
def test_apts_reason_comes_in_one_line_with_its_place(output: str, code: str, start: str) -> None:
    problem = failure(output, ASKED).problem
    assert (problem.code, problem.retryable) == (code, code in ("apt_unreachable", "disk_full"))
    assert problem.cause.startswith(start) and "\n" not in problem.cause


# What Docker 20.10 said when it was started without a bridge.
NO_BRIDGE = (
    "failed to create endpoint x on network bridge: adding interface vethba70762 to bridge docker0 failed: could not "
    "find bridge docker0: route ip+net: no such network interface"
)


def test_an_engine_without_a_bridge_names_the_setting() -> None:
    found = network_failed("docker", NO_BRIDGE, "bridge")
    assert found is not None and found.problem.code == "engine_network"
    assert "BUILD_NETWORK=bridge" in found.problem.cause and "BUILD_NETWORK=host" in found.problem.fix
    assert network_failed("docker", NO_BRIDGE, "host") is None
    assert network_failed("docker", "exit code: 7", "bridge") is None


async def test_without_engines_the_error_says_so() -> None:
    with pytest.raises(BuildError) as caught:
        await choose((), None)
    assert caught.value.problem.code == "no_engine"


class Made:
    """An engine that is there, or gives its reason."""

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name, self._reason = name, reason

    async def available(self) -> str | None:
        return self._reason


@pytest.mark.parametrize(
    ("docker", "google", "chosen"),
    [(None, None, "docker"), ("no Docker", None, "cloud-build"), ("no Docker", "no credentials", None)],
)
async def test_packages_are_cloud_builds_where_no_local_engine_is(
    docker: str | None, google: str | None, chosen: str | None
) -> None:
    """A file with `apt` is built though nothing is installed here; but nothing is paid for that could be had free."""
    engines: Any = (Made("docker", docker), Made("buildah", "no buildah"), Made("cloud-build", google))
    if chosen is not None:
        assert (await choose(engines, None)).name == chosen
        return
    with pytest.raises(BuildError, match="no Docker; no buildah; no credentials"):
        await choose(engines, None)


def test_a_diff_keeps_rights_links_and_removals_and_loses_times(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    first, second = (diff(order, time) for order, time in ((1, 100), (-1, 200)))
    layer = apt_layer(io.BytesIO(first), layout, StopFlag())
    assert layer == apt_layer(io.BytesIO(second), layout, StopFlag()), "neither order nor time matters"
    with layout.open_blob(layer.digest) as file, tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read()))) as tar:
        rows = {member.name: member for member in tar}
        original = tar.extractfile("usr/bin/aa")
        assert original is not None and original.read() == b"same"
    assert list(rows) == ["etc/.wh.hosts", "usr/bin/aa", "usr/bin/ping", "usr/bin/zz"]
    assert rows["usr/bin/ping"].pax_headers["SCHILY.xattr.security.capability"] == "\x01\udcff"
    assert (rows["usr/bin/ping"].mode, rows["usr/bin/ping"].gid) == (0o4755, 7)
    assert rows["usr/bin/zz"].islnk() and rows["usr/bin/zz"].linkname == "usr/bin/aa"


def diff(order: int, time: int) -> bytes:
    """As an engine may write it: a hard link whose name sorts before the file that it is a link to."""
    ping = member("usr/bin/ping", time, mode=0o4755, gid=7)
    ping.pax_headers = {"SCHILY.xattr.security.capability": "\x01\udcff"}
    plain = [
        (ping, b""),
        (member("etc/.wh.hosts", time), b""),
        (member("etc/hosts", time), b"of this machine"),
        (member(".cloud-deploy/ca.crt", time), b"of this machine"),
        (member("var/log/dpkg.log", time), str(time).encode()),
    ]
    linked = member("usr/bin/aa", time)
    linked.type, linked.linkname = tarfile.LNKTYPE, "usr/bin/zz"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in [*plain[::order], (member("usr/bin/zz", time), b"same"), (linked, b"")]:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(path: str, time: int, *, mode: int = 0o644, gid: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode, info.gid, info.mtime = mode, gid, time
    return info
