"""The `gcp-cloudrun` target: Google's stock clients, the twin of Google as a process, programs as processes of it.

The target knows of the twin by this process's environment alone, as it would of a company's proxy.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from google.auth.transport.requests import Request
from google.cloud import run_v2
from google.oauth2 import service_account

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key
from cloud_manager.settings import Settings
from cloud_manager.targets.cloud_run import CloudRunTarget, place_of
from image_builder.contract import ImageReference
from tests.conformance.harness import Behaviour, until
from tests.gcp_emulator.emulated import Emulator
from tests.gcp_emulator.run_images import described, digest, layer

HOST = "us-central1-docker.pkg.dev"
REPOSITORY = "twin-project/cloud-deploy"
SERVER = """
import http.server, os, sys, uuid

WORD, INSTANCE = os.environ["WORD"], uuid.uuid4().hex

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/instance": INSTANCE, "/pid": str(os.getpid())}.get(self.path, WORD).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

if os.environ["BEHAVIOUR"] == "exit":
    print("cannot go on", WORD)
    sys.exit(3)
print(WORD, "is up")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
_NAMES = (
    "https_proxy",
    "no_proxy",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "REQUESTS_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_regions = itertools.count(1)


class Google:
    """The twin for all tests of one process: gRPC reads whom it trusts once."""

    def __init__(self, emulator: Emulator) -> None:
        self.variables = emulator.variables
        self.pid = emulator.pid
        self._key = self.variables["GOOGLE_APPLICATION_CREDENTIALS"]
        trust = ssl.create_default_context(cafile=self.variables["SSL_CERT_FILE"])
        proxy = self.variables["https_proxy"]
        self.client = lambda: httpx.Client(proxy=proxy, verify=trust, timeout=30)
        self.web = lambda: httpx.AsyncClient(proxy=proxy, verify=trust, timeout=10)
        self._images: dict[tuple[str, str], ImageReference] = {}
        self._tokens: dict[str, str] = {}

    def image(self, word: str, behaviour: str) -> ImageReference:
        """Pushed as any client pushes one, once."""
        if (word, behaviour) not in self._images:
            self._images[word, behaviour] = self._push(word, behaviour)
        return self._images[word, behaviour]

    def identity(self, audience: str) -> str:
        """A token with which a private service lets us in."""
        if audience not in self._tokens:
            own = service_account.IDTokenCredentials.from_service_account_file(self._key, target_audience=audience)
            own.refresh(Request())
            self._tokens[audience] = own.token
        return self._tokens[audience]

    def _push(self, word: str, behaviour: str) -> ImageReference:
        scope = "https://www.googleapis.com/auth/cloud-platform"
        own = service_account.Credentials.from_service_account_file(self._key, scopes=[scope])
        own.refresh(Request())
        run = {"Entrypoint": ["python", "/app/main.py"], "Env": [f"WORD={word}", f"BEHAVIOUR={behaviour}"]}
        config = {"architecture": "amd64", "os": "linux", "config": run}
        blobs = [json.dumps(config).encode(), layer({"app/main.py": SERVER.encode()})]
        media, path = "application/vnd.oci.image.manifest.v1+json", f"https://{HOST}/v2/{REPOSITORY}/{word}"
        with self.client() as client:
            client.headers["Authorization"] = f"Bearer {own.token}"
            for blob in blobs:
                where = httpx.URL(path).join(client.post(f"{path}/blobs/uploads/").headers["location"])
                sent = client.put(where.copy_merge_params({"digest": digest(blob)}), content=blob)
                assert sent.status_code == 201, sent.text
            data = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": media,
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described(blobs[0])},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **described(blobs[1])}],
                }
            ).encode()
            sent = client.put(f"{path}/manifests/{behaviour}", content=data, headers={"Content-Type": media})
            assert sent.status_code == 201, sent.text
        whole = f"{HOST}/{REPOSITORY}/{word}@{digest(data)}"
        return ImageReference(repository="builds/x", digest=digest(data), size=len(blobs[1]), pushed=whole)


class CloudRunHarness:
    name = "gcp-cloudrun"

    def __init__(self, google: Google, **settings: Any) -> None:
        """In a region of its own, so that no test sees another's services."""
        self.google = google
        self._before = {name: os.environ.get(name) for name in _NAMES}
        os.environ.update({name: google.variables[name] for name in _NAMES})
        project = google.variables["GOOGLE_CLOUD_PROJECT"]
        self.region = f"us-test{next(_regions)}"
        self.settings = Settings(gcp_project=project, gcp_region=self.region, **settings)
        self.parent = f"projects/{project}/locations/{self.region}"
        self._targets: list[CloudRunTarget] = []
        self._client: run_v2.ServicesAsyncClient | None = None

    @property
    def services(self) -> run_v2.ServicesAsyncClient:
        """Google's own client, for what is done behind the target's back."""
        self._client = self._client or run_v2.ServicesAsyncClient()
        return self._client

    def target(self, period: float = 0.2) -> CloudRunTarget:
        target = CloudRunTarget(place_of(self.settings), SystemClock(), period=period)
        self._targets.append(target)
        return target

    def image(self, word: str, behaviour: Behaviour = "serve") -> dict[str, Any]:
        return {"image": self.google.image(word, behaviour)}

    async def ask(self, url: str) -> str | None:
        parts = urlsplit(url)
        token = await asyncio.to_thread(self.google.identity, f"{parts.scheme}://{parts.netloc}")
        async with self.google.web() as client:
            try:
                answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
            except httpx.HTTPError:
                return None
        return answer.text if answer.status_code == 200 else None

    async def instance(self, key: Key) -> str | None:
        seen = await self.target().observe(key)
        return await self.ask(f"{seen.url}/instance") if seen.url else None

    async def kill(self, key: Key) -> None:
        seen = await self.target().observe(key)
        program = psutil.Process(int(await self.ask(f"{seen.url}/pid") or 0))
        supervisor = program.parent()
        program.kill()
        assert supervisor is not None

        async def ended() -> bool:
            """The twin itself looks after it with the next request."""
            return not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE

        await until(ended, "the supervisor notices")

    async def leftovers(self, key: Key) -> list[str]:
        found = await self.services.list_services(parent=self.parent)
        ours = [service.name async for service in found if service.labels.get("cloud-deploy-project") == key.project_id]
        return [name for name in ours if f"-{key.user_id}-" in name or f"/{key.user_id}-" in name]

    async def foreign(self) -> Callable[[], Awaitable[bool]]:
        """A service without our labels, and one with those of another project."""
        theirs = {"managed-by": "cloud-deploy", "cloud-deploy-user": "7", "cloud-deploy-project": "precious"}
        for name, labels in (("hello", {}), ("precious", theirs)):
            image = self.google.image("theirs", "serve").pushed
            template = run_v2.RevisionTemplate(containers=[run_v2.Container(image=image)])
            service = run_v2.Service(template=template, labels=labels)
            await self.services.create_service(parent=self.parent, service=service, service_id=name)

        async def untouched() -> bool:
            found = await self.services.list_services(parent=self.parent)
            rows = {service.name.rsplit("/", 1)[-1]: service async for service in found}
            mine = [rows.get("hello"), rows.get("precious")]
            return all(one is not None and one.generation == 1 and not one.delete_time for one in mine)

        return untouched

    async def aclose(self) -> None:
        """Whatever a test has left is deleted."""
        with suppress(Exception):
            async for service in await self.services.list_services(parent=self.parent):
                await self.services.delete_service(name=service.name)
        for target in self._targets:
            await target.aclose()
        if self._client is not None:
            closing: Any = self._client.transport
            await closing.close()
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
