"""Artifact Registry's twin, judged by the product's own client through the proxy, and by the bare protocol."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gcp_emulator.emulator import Running
from gcp_emulator.faults import Rule
from gcp_emulator.registry_names import ImageName, parse
from gcp_emulator.registry_store import RegistryStore
from gcp_emulator.state import State
from gcp_emulator.twin import Twin
from image_builder.errors import BuildError
from image_builder.network import registry_client
from image_builder.oci.credentials import DockerConfig
from image_builder.oci.google import GoogleCredentials
from image_builder.oci.reference import Reference
from image_builder.oci.reference import parse as reference_of
from image_builder.oci.registry import Registry
from tests.gcp_emulator.emulated import REGISTRY, emulated

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
NAME = "twin-project/cloud-deploy/team/model"


@dataclass
class Pushing:
    twin: Twin
    up: Running
    registry: Registry
    reference: Reference
    folder: Path

    def blob(self, data: bytes) -> tuple[str, Path]:
        digest = sha256(data)
        path = self.folder / digest.removeprefix("sha256:")
        path.write_bytes(data)
        return digest, path

    def client(self) -> httpx.AsyncClient:
        """Bare HTTP, with a token of Google's."""
        token = self.twin.tokens.issue(self.twin.settings.service_account, "")
        trust = ssl.create_default_context(cafile=self.up.variables["SSL_CERT_FILE"])
        return httpx.AsyncClient(
            base_url=f"https://{REGISTRY}", verify=trust, proxy=self.up.variables["https_proxy"],
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip


@pytest.fixture
async def pushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pushing]:
    async with emulated(tmp_path / "twin") as (twin, up), product(up, tmp_path, monkeypatch) as registry:
        yield Pushing(twin, up, registry, reference_of(f"{REGISTRY}/{NAME}:v1"), tmp_path)


@asynccontextmanager
async def product(up: Running, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    """The product's client as the product makes it: it knows nothing but the environment."""
    for name, value in {**up.variables, "HOME": str(folder), "DOCKER_CONFIG": str(folder)}.items():
        monkeypatch.setenv(name, value)
    credentials = GoogleCredentials(DockerConfig(os.environ), os.environ)
    async with registry_client(os.environ) as client:
        yield Registry(reference_of(f"{REGISTRY}/{NAME}"), client, credentials, sleep=at_once)


async def at_once(_: float) -> None:
    """Nobody waits."""


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest(*digests: str) -> bytes:
    config, *layers = [{"mediaType": "x", "digest": digest, "size": 1} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()


async def test_the_product_pushes_and_pulls_with_googles_token(pushing: Pushing) -> None:
    large, path = pushing.blob(os.urandom(9 << 20))
    assert await pushing.registry.push_blob(pushing.reference, large, path) == "uploaded"
    assert await pushing.registry.push_blob(pushing.reference, large, path) == "reused"
    config = await pushing.registry.push_bytes(pushing.reference, b"{}")
    digest = await pushing.registry.push_manifest(pushing.reference, manifest(config, large), MANIFEST)
    assert (await pushing.registry.manifest(pushing.reference)).digest == digest
    assert await pushing.registry.manifest_digest(pushing.reference) == digest
    assert (await pushing.registry.tags(pushing.reference)).names == {"v1"}
    read = hashlib.sha256()
    async for chunk in pushing.registry.blob(pushing.reference, large):
        read.update(chunk)
    assert f"sha256:{read.hexdigest()}" == large


async def test_a_blob_is_mounted_from_another_image_and_not_from_nowhere(pushing: Pushing) -> None:
    digest, path = pushing.blob(b"layer")
    await pushing.registry.push_blob(pushing.reference, digest, path)
    other = reference_of(f"{REGISTRY}/twin-project/cloud-deploy/other:v1")
    assert await pushing.registry.push_blob(other, digest, path, mount_from=NAME) == "mounted"
    third = reference_of(f"{REGISTRY}/twin-project/cloud-deploy/third:v1")
    assert not await pushing.registry.mount(third, digest, "twin-project/cloud-deploy/empty")


async def test_who_may_not_learns_it_before_a_byte_is_sent(pushing: Pushing) -> None:
    digest, path = pushing.blob(b"layer")
    for name in ("twin-project/missing/a", "other-project/cloud-deploy/a"):
        with pytest.raises(BuildError) as caught:
            await pushing.registry.push_blob(reference_of(f"{REGISTRY}/{name}:1"), digest, path)
        assert caught.value.problem.code in ("registry_auth", "registry_refused")


async def test_an_upload_goes_on_where_it_broke(pushing: Pushing) -> None:
    data = os.urandom(1000)
    async with pushing.client() as client:
        begun = await client.post(f"/v2/{NAME}/blobs/uploads/")
        where = begun.headers["location"]
        assert begun.status_code == 202 and where.startswith("/artifacts-uploads/")
        first = await client.patch(where, content=data[:400], headers={"Content-Range": "0-399"})
        assert first.headers["range"] == "0-399"
        again = await client.patch(where, content=data[:400], headers={"Content-Range": "0-399"})
        assert again.status_code == 416 and again.headers["range"] == "0-399"
        assert (await client.get(where)).status_code == 204
        await client.patch(where, content=data[400:], headers={"Content-Range": "400-999"})
        done = await client.put(where, params={"digest": sha256(data)})
        assert done.status_code == 201 and done.headers["docker-content-digest"] == sha256(data)
        assert (await client.get(where)).json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"
        redirect = await client.get(f"/v2/{NAME}/blobs/{sha256(data)}")
        assert redirect.status_code == 302
        part = await client.get(redirect.headers["location"], headers={"Range": "bytes=10-19"})
        assert part.status_code == 206 and part.content == data[10:20]


def test_an_upload_outlives_the_twin(tmp_path: Path) -> None:
    state, image = State(tmp_path), ImageName("us", "p", "r", "i")
    upload = RegistryStore(state).begin(image)
    upload.append(b"first ")
    state.close()
    state = State(tmp_path)
    store = RegistryStore(state)
    again = store.upload(upload.name)
    assert again and again.image == image and again.size == 6
    again.append(b"second")
    digest = again.digest()
    assert digest == sha256(b"first second")
    store.finish(again, digest)
    found = store.blob(image, digest)
    assert found and found.read_bytes() == b"first second"
    assert store.blob(ImageName("europe", "p", "r", "i"), digest) is None
    state.close()


async def test_what_is_wrong_is_refused_by_its_code(pushing: Pushing) -> None:
    config = await pushing.registry.push_bytes(pushing.reference, b"{}")
    missing, json_type = sha256(b"missing"), {"Content-Type": MANIFEST}
    wrong = {"Content-Type": "application/x"}
    async with pushing.client() as client:

        async def put(reference: str, data: bytes, headers: dict[str, str]) -> tuple[int, str]:
            answer = await client.put(f"/v2/{NAME}/manifests/{reference}", content=data, headers=headers)
            return answer.status_code, answer.json()["errors"][0]["code"]

        assert await put("v1", manifest(config, missing), json_type) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert await put("v1", b"[]", json_type) == (400, "MANIFEST_INVALID")
        assert await put("v1", manifest(config), wrong) == (400, "MANIFEST_INVALID")
        assert await put(missing, manifest(config), json_type) == (400, "DIGEST_INVALID")
        assert await put("-", manifest(config), json_type) == (400, "TAG_INVALID")
        one_call = await client.post(f"/v2/{NAME}/blobs/uploads/", params={"digest": missing}, content=b"other")
        assert one_call.json()["errors"][0]["code"] == "DIGEST_INVALID"
        for path, code in (
            (f"/v2/{NAME}/manifests/none", "MANIFEST_UNKNOWN"),
            (f"/v2/{NAME}/blobs/{missing}", "BLOB_UNKNOWN"),
            ("/v2/twin-project/cloud-deploy/manifests/v1", "NAME_INVALID"),
            ("/v2/twin-project/cloud-deploy/none/tags/list", "NAME_UNKNOWN"),
            ("/v2/_catalog", "UNSUPPORTED"),
        ):
            assert (await client.get(path)).json()["errors"][0]["code"] == code, path


async def test_tags_are_paged_and_a_tagged_manifest_is_not_deleted(pushing: Pushing) -> None:
    config = await pushing.registry.push_bytes(pushing.reference, b"{}")
    for tag in ("a", "b", "c"):
        reference = reference_of(f"{REGISTRY}/{NAME}:{tag}")
        digest = await pushing.registry.push_manifest(reference, manifest(config), MANIFEST)
    async with pushing.client() as client:
        page = await client.get(f"/v2/{NAME}/tags/list", params={"n": 2})
        assert page.json()["tags"] == ["a", "b"]
        assert page.json()["manifest"][digest]["tag"] == ["a", "b", "c"]
        assert (await client.get(page.links["next"]["url"])).json()["tags"] == ["c"]
        refused = await client.delete(f"/v2/{NAME}/manifests/{digest}")
        assert refused.json()["errors"][0]["code"] == "GOOGLE_MANIFEST_DANGLING_TAG"
        for reference in ("a", "b", "c", digest):
            assert (await client.delete(f"/v2/{NAME}/manifests/{reference}")).status_code == 202
        assert (await client.get(f"/v2/{NAME}/manifests/{digest}")).status_code == 404


CALLS = ("HEAD *", "POST *", "PATCH *", "PUT */uploads/*", "PUT */manifests/*")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_products_client_outlasts_faults_of_the_registry(pushing: Pushing, when: str) -> None:
    """At every call, before and after it took effect: the image is whole in the end."""
    pushing.twin.faults.replace([Rule.model_validate({"call": c, "code": "UNAVAILABLE", "when": when}) for c in CALLS])
    digest, path = pushing.blob(os.urandom(3 << 20))
    await pushing.registry.push_blob(pushing.reference, digest, path)
    config = await pushing.registry.push_bytes(pushing.reference, b"{}")
    pushed = await pushing.registry.push_manifest(pushing.reference, manifest(config, digest), MANIFEST)
    assert (await pushing.registry.manifest(pushing.reference)).digest == pushed
    assert sum(pushing.twin.faults.calls.values()) > 10


async def test_faults_of_the_registry_read_as_googles(pushing: Pushing) -> None:
    denied = Rule(call=f"GET {REGISTRY}/v2/*", code="PERMISSION_DENIED", times=0)
    pushing.twin.faults.replace([denied])
    async with pushing.client() as client:
        answer = await client.get(f"/v2/{NAME}/tags/list")
    assert answer.status_code == 403 and answer.json()["errors"][0]["code"] == "DENIED"


async def test_passwords_of_google_and_no_others(pushing: Pushing) -> None:
    key = (pushing.twin.settings.state / "service-account.json").read_text()
    token = pushing.twin.tokens.issue(pushing.twin.settings.service_account, "")
    async with pushing.client() as client:
        del client.headers["Authorization"]
        challenge = await client.get("/v2/")
        assert challenge.status_code == 401
        assert challenge.headers["www-authenticate"].startswith(f'Bearer realm="https://{REGISTRY}/v2/token"')
        for user, password, status in (
            ("oauth2accesstoken", token, 200),
            ("_json_key", key, 200),
            ("_json_key", key.replace("MII", "MIJ"), 401),
            ("_json_key", "[]", 401),
            ("me", token, 401),
        ):
            assert (await client.get("/v2/token", auth=(user, password))).status_code == status, user
        anonymous = await client.get("/v2/token", params={"scope": f"repository:{NAME}:pull"})
        assert anonymous.status_code == 403 and "Unauthenticated request" in anonymous.text


def test_names() -> None:
    assert parse("us-docker.pkg.dev:443", "p/r/a/b") == ImageName("us", "p", "r", "a/b")
    for name in ("p/r", "P/r/a", "p/r/a/", "p//a", "p/r/a@", "p/r/" + "a" * 255):
        assert parse("us-docker.pkg.dev", name) is None
