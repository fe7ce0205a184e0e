"""The twin in this process and Google's stock clients of Cloud Build and Cloud Logging, without the proxy before it."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.cloud.devtools import cloudbuild_v1
from google.cloud.devtools.cloudbuild_v1.services.cloud_build.transports import CloudBuildGrpcAsyncIOTransport
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2AsyncClient
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcAsyncIOTransport

from gcp_emulator.emulator import Running
from gcp_emulator.twin import Twin
from tests.gcp_emulator.emulated import emulated
from tests.gcp_emulator.run_stock import _Authorized

PROJECT = "twin-project"
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/cloud-deploy/made"
DOCKER = "gcr.io/cloud-builders/docker"
Status = cloudbuild_v1.Build.Status


@dataclass
class Stock:
    """`builds` and `logging` are Google's clients; `storage` and `registry` speak HTTP with a token."""

    twin: Twin
    running: Running
    builds: cloudbuild_v1.CloudBuildAsyncClient
    logging: LoggingServiceV2AsyncClient
    storage: httpx.AsyncClient
    registry: httpx.AsyncClient

    async def create(self, build: cloudbuild_v1.Build) -> cloudbuild_v1.Build:
        """As it is when its operation begins."""
        operation = await self.builds.create_build(project_id=PROJECT, build=build)
        return operation.metadata.build

    async def ended(self, build: cloudbuild_v1.Build) -> cloudbuild_v1.Build:
        return await self.until(build, lambda now: bool(now.finish_time))

    async def until(self, build: cloudbuild_v1.Build, what: Any) -> cloudbuild_v1.Build:
        async with asyncio.timeout(60):
            while not what(now := await self.builds.get_build(project_id=PROJECT, id=build.id)):
                await asyncio.sleep(0.05)
        return now

    async def upload(self, files: Mapping[str, bytes], name: str = "source.tar.gz") -> cloudbuild_v1.Source:
        await self.storage.post("/storage/v1/b", params={"project": PROJECT}, json={"name": "sources"})
        where = {"uploadType": "media", "name": name}
        done = await self.storage.post("/upload/storage/v1/b/sources/o", params=where, content=archive(files))
        assert done.status_code == 200, done.text
        return cloudbuild_v1.Source(storage_source=cloudbuild_v1.StorageSource(bucket="sources", object_=name))

    async def log(self, build: cloudbuild_v1.Build) -> str:
        bucket = build.logs_bucket.removeprefix("gs://")
        answer = await self.storage.get(f"/storage/v1/b/{bucket}/o/log-{build.id}.txt", params={"alt": "media"})
        return answer.text if answer.status_code == 200 else ""


@asynccontextmanager
async def stock(folder: Path, **settings: Any) -> AsyncIterator[Stock]:
    async with emulated(folder / "state", **settings) as (twin, up):
        token = twin.tokens.issue(twin.settings.service_account, "cloud-platform")
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{up.ports['grpc']}", interceptors=[_Authorized(token)])
        headers = {"Authorization": f"Bearer {token}"}
        storage = httpx.AsyncClient(base_url=f"http://127.0.0.1:{up.ports['storage']}", headers=headers)
        registry = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{up.ports['registry']}",
            headers={**headers, "Host": "us-central1-docker.pkg.dev"},
        )
        async with storage, registry, channel:
            yield Stock(
                twin,
                up,
                cloudbuild_v1.CloudBuildAsyncClient(transport=CloudBuildGrpcAsyncIOTransport(channel=channel)),
                LoggingServiceV2AsyncClient(transport=LoggingServiceV2GrpcAsyncIOTransport(channel=channel)),
                storage,
                registry,
            )


def docker(*args: str, **fields: Any) -> cloudbuild_v1.BuildStep:
    return cloudbuild_v1.BuildStep(name=DOCKER, args=args, **fields)


def image_build(**fields: Any) -> cloudbuild_v1.Build:
    """`docker build` of its source, and the image pushed."""
    steps = fields.pop("steps", None) or [docker("build", "-t", f"{IMAGE}:1", ".")]
    return cloudbuild_v1.Build(steps=steps, images=fields.pop("images", [f"{IMAGE}:1"]), **fields)


def archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def shell() -> dict[str, bytes]:
    """Files below `root/` that make a shell run in an image of nothing else."""
    said = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    paths = {"/bin/sh", "/bin/sleep", *re.findall(r"(/\S+) \(", said)}
    return {f"root{path}": Path(path).read_bytes() for path in paths}
