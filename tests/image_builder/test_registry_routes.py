"""The read-only registry, asked by a plain client and by skopeo."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from image_builder.oci.layout import Layout
from tests import needs
from tests.image_builder.service import Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("registry") / "state") as service:
        service.go()
        yield service


@pytest.fixture(scope="module")
def image(service: Service) -> dict[str, str]:
    """Repository and digest of an image that was built."""
    return dict(service.wait(service.ask()["id"], "succeeded")["image"])


def raw_get(service: Service, path: str) -> bytes:
    """A request line as it is: other clients tidy the path up."""
    host, port = urlsplit(service.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def test_it_is_a_registry(service: Service) -> None:
    """Otherwise no engine talks to it."""
    answer = service.http.get("/v2/")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert service.http.head("/v2/").status_code == 200


@pytest.mark.parametrize("by", ["digest", "latest"])
def test_manifest(service: Service, image: dict[str, str], by: str) -> None:
    """Otherwise an image is pulled with a wrong type, or not as what was built."""
    reference = image["digest"] if by == "digest" else "latest"
    url = f"/v2/{image['repository']}/manifests/{reference}"
    answer = service.http.get(url)
    assert answer.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert answer.headers["Docker-Content-Digest"] == image["digest"]
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == image["digest"]
    head = service.http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))
    assert head.headers["Docker-Content-Digest"] == image["digest"]


def test_blobs_whole_and_in_part(service: Service, image: dict[str, str]) -> None:
    """Otherwise a pull that was interrupted cannot go on, or gets other bytes."""
    manifest = service.http.get(f"/v2/{image['repository']}/manifests/{image['digest']}").json()
    for part in [manifest["config"], *manifest["layers"]]:
        url = f"/v2/{image['repository']}/blobs/{part['digest']}"
        whole = service.http.get(url)
        assert f"sha256:{hashlib.sha256(whole.content).hexdigest()}" == part["digest"]
        assert service.http.head(url).headers["Content-Length"] == str(part["size"])
        some = service.http.get(url, headers={"Range": "bytes=10-19"})
        assert (some.status_code, some.content) == (206, whole.content[10:20])
        assert some.headers["Content-Range"] == f"bytes 10-19/{part['size']}"
        rest = service.http.get(url, headers={"Range": f"bytes={part['size'] - 5}-"})
        assert rest.content == whole.content[-5:]
        assert service.http.get(url, headers={"Range": f"bytes={part['size']}-"}).status_code == 416


def test_what_is_not_there(service: Service, image: dict[str, str]) -> None:
    """Otherwise clients, which go by these codes, take a missing image for a broken registry."""
    repository, absent = image["repository"], "sha256:" + "0" * 64
    for path, code in [
        (f"/v2/builds/{'0' * 32}/manifests/latest", "NAME_UNKNOWN"),
        (f"/v2/library/debian/blobs/{absent}", "NAME_UNKNOWN"),
        (f"/v2/{repository}/tags/list/../../manifests/latest", "NAME_UNKNOWN"),
        (f"/v2/{repository}/manifests/{absent}", "MANIFEST_UNKNOWN"),
        (f"/v2/{repository}/manifests/v2", "MANIFEST_UNKNOWN"),
        (f"/v2/{repository}/blobs/{absent}", "BLOB_UNKNOWN"),
        (f"/v2/{repository}/blobs/sha512:{'0' * 128}", "BLOB_UNKNOWN"),
    ]:
        status, body = split(raw_get(service, path))
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, code), path


def split(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "tail",
    [
        "blobs/../../../status.json",
        "blobs/..%2f..%2f..%2fstatus.json",
        "blobs/sha256:../../../index.json",
        "blobs/sha256:..%2f..%2f..%2findex.json",
        "blobs/sha256:%00",
        "blobs//etc/passwd",
        "blobs/%2fetc%2fpasswd",
        "manifests/../../index.json",
        "manifests/..%5c..%5cindex.json",
        "manifests/%2e%2e%2f%2e%2e%2findex.json",
    ],
)
def test_no_path_leads_out_of_the_image(service: Service, image: dict[str, str], tail: str) -> None:
    """Otherwise anyone who may pull may read the builder's disk."""
    for name in (image["repository"], "builds/..", "..", f"{image['repository']}/.."):
        status, body = split(raw_get(service, f"/v2/{name}/{tail}"))
        assert status == 404
        assert b"root:" not in body
        assert b"manifests" not in body.replace(b"/manifests", b"")


def test_a_blob_of_another_image_is_not_served(service: Service, image: dict[str, str]) -> None:
    """Otherwise knowing a digest is enough to read another project's files through one's own image."""
    other = Layout(service.state_dir / "builder" / "images").add(b"of another project")
    assert service.http.get(f"/v2/{image['repository']}/blobs/{other}").status_code == 404


def test_nothing_can_be_written(service: Service, image: dict[str, str]) -> None:
    """Otherwise an image is not what was built."""
    url = f"/v2/{image['repository']}/manifests/latest"
    assert service.http.put(url, content=b"{}").status_code == 405
    assert service.http.post(f"/v2/{image['repository']}/blobs/uploads/").status_code == 405
    assert service.http.delete(url).status_code == 405


def test_images_are_listed(service: Service, image: dict[str, str]) -> None:
    """Otherwise nobody knows what can be pulled."""
    rows = service.http.get("/images").json()
    assert [(row["repository"], row["digest"]) for row in rows] == [(image["repository"], image["digest"])]
    assert rows[0]["created"] > 0


def test_skopeo_takes_it_for_a_registry(service: Service, image: dict[str, str], tmp_path: Path) -> None:
    """Otherwise real engines cannot pull what we built."""
    skopeo = needs.program("skopeo")
    host = urlsplit(service.url).netloc
    source = f"docker://{host}/{image['repository']}@{image['digest']}"
    shown = subprocess.run(
        [skopeo, "inspect", "--tls-verify=false", source], check=True, capture_output=True, timeout=60
    )
    assert json.loads(shown.stdout)["Digest"] == image["digest"]
    copy = [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'out'}:it"]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)
    copied = json.loads((tmp_path / "out" / "index.json").read_text())
    assert copied["manifests"][0]["digest"] == image["digest"]
