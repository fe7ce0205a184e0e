"""What is in an image: without it nobody knows which services run the package that has a hole."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from image_builder.contents import ImageFacts, Package, facts, system_software
from image_builder.contents_store import ContentsStore
from image_builder.errors import ImageNotFound
from image_builder.layers.wheel import license_of
from image_builder.oci.software import Installed, PackageKind, Software
from image_builder.pipeline import build
from image_builder.sbom import cyclonedx
from image_builder.workshop import Workshop
from tests.base_image import LAYER, Tree
from tests.fakes.pipeline import image_of
from tests.image_builder.odd_bases import DEBIAN, STATUS, push_base
from tests.image_builder.service import Service, serving
from tests.image_builder.wheels import (
    Notes,
    make_project,
    make_request,
    make_wheel,
    offline,
    plan_of,
    sha256,
)

REQUEST = make_request("hello", pre_exec=(("app.py", "x"),), weights=("w.pt",), port=9001)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    make_wheel(folder, requires=("dep>=1",), metadata="License-Expression: MIT OR Apache-2.0\n")
    make_wheel(folder, "dep", version="1.2+cpu", files={"dep.py": "x = 1\n"}, metadata="License: Our own words\n")
    return folder


@pytest.fixture
async def workshop(tmp_path: Path, links: Path) -> AsyncIterator[Workshop]:
    make_project(tmp_path / "shared", {"app.py": "print('hi')\n", "w.pt": b"w" * 100})
    opened = Workshop.open(tmp_path / "state", offline(links))
    yield opened
    opened.close()


async def built(workshop: Workshop, tmp_path: Path) -> ImageFacts:
    image = await build(plan_of(REQUEST, tmp_path / "shared", workshop), workshop, Notes())
    return workshop.contents.facts(image.digest)


async def test_every_layer_and_package_is_told(workshop: Workshop, tmp_path: Path, links: Path) -> None:
    found = await built(workshop, tmp_path)
    assert [layer.kind for layer in found.layers] == ["wheels", "weights", "program", "config"]
    assert found.layers[0].title == "2 packages" and len(found.layers[0].wheels) == 2
    assert found.size == sum(layer.size for layer in found.layers) > 0
    assert found.packages is not None
    rows = {row.name: (row.version, row.sha256, row.license) for row in found.packages}
    hashes = {
        path.name.partition("-")[0]: sha256(path.read_bytes()).removeprefix("sha256:") for path in links.iterdir()
    }
    assert rows["hello"] == ("1.0", hashes["hello"], "MIT OR Apache-2.0")
    assert rows["dep"] == ("1.2+cpu", hashes["dep"], "Our own words")
    assert (found.platform, found.workdir, found.ports, found.base) == (
        "linux/amd64",
        "/workspace",
        ("9001/tcp",),
        None,
    )
    assert found.entrypoint == ("python", "/opt/cloud-deploy/launch.py")
    assert "PORT" in found.env and "9001" not in found.env


async def test_it_outlives_the_wheels_and_the_process(workshop: Workshop, tmp_path: Path, links: Path) -> None:
    """The cache lets wheels go; what an image holds must still be known, also of the next image with those layers."""
    first = await built(workshop, tmp_path)
    shutil.rmtree(links)
    (tmp_path / "shared/common/7/42/nn_model/app.py").write_text("print('other')\n")
    again = await built(Workshop.open(tmp_path / "state", offline(links)), tmp_path)
    assert again.digest != first.digest and again.packages == first.packages
    assert ContentsStore(workshop.layout).facts(first.digest) == first


async def test_an_image_made_before_says_what_it_knows(workshop: Workshop, tmp_path: Path) -> None:
    first = await built(workshop, tmp_path)
    shutil.rmtree(workshop.folder / "contents")
    found = workshop.contents.facts(first.digest)
    assert found.packages is None and {layer.kind for layer in found.layers} == {None}
    assert [layer.title for layer in found.layers] == [layer.title for layer in first.layers]


async def test_a_blob_that_is_no_image_is_not_taken_for_one(workshop: Workshop, tmp_path: Path) -> None:
    """Otherwise a question about a 2 GB layer fills the memory."""
    found = await built(workshop, tmp_path)
    unnamed = image_of(workshop.layout, "0" * 32)
    for digest in (found.layers[0].digest, unnamed.digest, f"sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFound, match="no image"):
            workshop.contents.facts(digest)


@pytest.mark.parametrize(
    ("metadata", "license"),
    [
        ("License-Expression: BSD-3-Clause\nLicense: no\n", "BSD-3-Clause"),
        ("License: MIT License\n", "MIT License"),
        ("License: UNKNOWN\n", None),
        ("License: line one\n    line two\nClassifier: License :: OSI Approved :: BSD License\n", "BSD License"),
        ("Classifier: Programming Language :: Python\n", None),
    ],
)
def test_a_license_is_in_the_packages_own_words(tmp_path: Path, metadata: str, license: str | None) -> None:
    assert license_of(make_wheel(tmp_path, metadata=metadata)) == license


async def test_the_bill_of_materials_is_valid_and_the_same_each_time(workshop: Workshop, tmp_path: Path) -> None:
    """Scanners refuse what does not keep to the schema; a file that changes by itself cannot be signed or compared."""
    found = await built(workshop, tmp_path)
    text = cyclonedx(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == cyclonedx(found)
    document = json.loads(text)
    assert document["specVersion"] == "1.6" and "timestamp" not in document["metadata"]
    rows = {row["name"]: row for row in document["components"]}
    assert rows["dep"]["purl"].startswith("pkg:pypi/dep@1.2%2Bcpu")
    assert rows["hello"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert rows["dep"]["licenses"] == [{"license": {"name": "Our own words"}}]
    assert found.packages is not None
    assert {row["hashes"][0]["content"] for row in rows.values()} == {row.sha256 for row in found.packages}


def test_a_base_image_is_part_of_the_bill(tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    labels = {
        "org.opencontainers.image.base.name": "hub.test/python:3.11",
        "org.opencontainers.image.base.digest": digest,
    }
    config = {"os": "linux", "architecture": "arm64", "config": {"Labels": labels}}
    manifest = {"layers": [{"digest": f"sha256:{'b' * 64}", "size": 3}]}
    found = facts(f"sha256:{'c' * 64}", manifest, config, None)
    assert found.base == f"hub.test/python:3.11@{digest}"
    text = cyclonedx(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (base,) = json.loads(text)["components"]
    assert (base["type"], base["version"], base["hashes"][0]["content"]) == ("container", digest, "a" * 64)


def test_odd_words_of_packages_stay_valid() -> None:
    """Names and licenses are written by strangers."""
    config = {"os": "linux", "architecture": "amd64"}
    bare = facts(f"sha256:{'c' * 64}", {"layers": []}, config, None)
    odd = [
        Package(name="a", version="1!2", wheel="a-1.whl", sha256="0" * 64, license="(MIT AND"),
        Package(name="b", version="1", wheel="b-1.whl", sha256="1" * 64, license="한글 \"'<&> \\"),
    ]
    strange = tuple(Installed(kind, "a/b?c#\0 한", "1 @2", "x y", "=&", "/a b#") for kind in get_args(PackageKind))
    system = system_software(Software("de bian\0", "'\"", None, strange))
    text = cyclonedx(bare.model_copy(update={"packages": tuple(odd), "system": system}))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


async def test_what_the_base_brings_is_part_of_the_bill(
    workshop: Workshop, tmp_path: Path, registry: str, links: Path
) -> None:
    """Most holes are found in the packages of the base; a scanner knows them by purl and distribution."""
    upper: Tree = {
        "var/lib/dpkg/status": STATUS.encode() + b"\nPackage: libstdc++6\nVersion: 1:2\nArchitecture: amd64\n"
    }
    base = push_base(registry, f"contents/{secrets.token_hex(4)}", [(DEBIAN, LAYER), (upper, LAYER)])
    request = make_request("hello", base_image=base)
    image = await build(plan_of(request, tmp_path / "shared", workshop), workshop, Notes())
    found = workshop.contents.facts(image.digest)
    assert found.system is not None and found.packages is not None
    assert (found.system.distribution, found.system.release, found.system.libc) == ("debian", "12", "glibc 2.36")
    assert [row.name for row in found.system.packages] == ["libc6", "libstdc++6", "tzdata", "Six", "pip"]
    text = cyclonedx(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    purls = [row["purl"] for row in json.loads(text)["components"] if "purl" in row]
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12&upstream=glibc" in purls
    assert "pkg:deb/debian/libstdc%2B%2B6@1:2?arch=amd64&distro=debian-12" in purls
    assert "pkg:pypi/six@1.16.0" in purls


def test_packages_of_an_alpine_are_named_as_scanners_do() -> None:
    known = Software("alpine", "3.18.4", None, (Installed("apk", "libcrypto3", "3.1.4-r5", "x86_64", "openssl"),))
    bare = facts(f"sha256:{'c' * 64}", {"layers": []}, {"os": "linux", "architecture": "amd64"}, None)
    text = cyclonedx(bare.model_copy(update={"system": system_software(known)}))
    assert "pkg:apk/alpine/libcrypto3@3.1.4-r5?arch=x86_64&distro=alpine-3.18.4&upstream=openssl" in text


def test_the_api_tells_it(tmp_path: Path) -> None:
    make_project(tmp_path / "shared", {"main.py": "print('hi')\n"})
    with serving(tmp_path / "state", tmp_path / "shared") as service:
        digest = _built(service)
        shown = service.http.get(f"/images/{digest}").raise_for_status().json()
        assert (shown["digest"], shown["packages"], shown["layers"][0]["kind"]) == (digest, [], "program")
        service.kill()
        service.start()
        assert service.http.get(f"/images/{digest}").json() == shown
        bill = service.http.get(f"/images/{digest}/sbom", params={"format": "cyclonedx"}).raise_for_status()
        assert bill.headers["content-type"] == "application/vnd.cyclonedx+json; version=1.6"
        assert bill.json()["metadata"]["component"]["version"] == digest
        missing = service.http.get(f"/images/sha256:{'0' * 64}")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "image_not_found")
        assert service.http.get("/images/nonsense").status_code == 422
        assert service.http.get(f"/images/{digest}/sbom", params={"format": "xml"}).status_code == 422


def _built(service: Service) -> str:
    build_id = service.ask(base_image="scratch")["id"]
    service.events(build_id)
    return str(service.show(build_id)["image"]["digest"])
