"""Images of Google's that anybody may read. There is one: `us-docker.pkg.dev/cloudrun/container/hello`.

It has Google's name and behaviour, and a program of the twin's own: layers alone, for the python of whoever runs it.
https://cloud.google.com/run/docs/quickstarts/deploy-container
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

from gcp_emulator.registry_names import ImageName
from gcp_emulator.registry_store import Manifest, RegistryStore

HELLO = ImageName("us", "cloudrun", "container", "hello")
_OCI = "application/vnd.oci.image"
_PROGRAM = '''\
"""Says hello on PORT, as Google's sample does."""
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html><title>Congratulations | Cloud Run</title>
<h1>It's running!</h1><p>service {service}, revision {revision}</p>
"""


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        names = {"service": os.environ.get("K_SERVICE", "???"), "revision": os.environ.get("K_REVISION", "???")}
        body = PAGE.format(**names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET


ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Hello).serve_forever()
'''


def is_public(image: ImageName) -> bool:
    return (image.project, image.repository) == (HELLO.project, HELLO.repository)


def publish(store: RegistryStore, now: float) -> None:
    """Put them there. The same bytes each time: once is as good as often."""
    layer = _layer()
    children = [_image(store, layer, architecture, now) for architecture in ("amd64", "arm64")]
    index = _json({"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": children})
    store.put_manifest(HELLO, Manifest(_digest(index), f"{_OCI}.index.v1+json", index), "latest", now, len(layer))


def _image(store: RegistryStore, layer: bytes, architecture: str, now: float) -> dict[str, Any]:
    run = {
        "Entrypoint": ["python3", "/app/hello.py"],
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        "WorkingDir": "/app",
    }
    root = {"type": "layers", "diff_ids": [_digest(layer)]}
    config = _json({"architecture": architecture, "os": "linux", "config": run, "rootfs": root})
    kind = f"{_OCI}.manifest.v1+json"
    parts = [_blob(store, config, f"{_OCI}.config.v1+json"), _blob(store, layer, f"{_OCI}.layer.v1.tar")]
    manifest = _json({"schemaVersion": 2, "mediaType": kind, "config": parts[0], "layers": parts[1:]})
    store.put_manifest(HELLO, Manifest(_digest(manifest), kind, manifest), None, now, len(config) + len(layer))
    described = {"mediaType": kind, "digest": _digest(manifest), "size": len(manifest)}
    return {**described, "platform": {"architecture": architecture, "os": "linux"}}


def _blob(store: RegistryStore, data: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(data)
    if store.blob(HELLO, digest) is None:
        upload = store.begin(HELLO)
        upload.append(data)
        store.finish(upload, digest)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _layer() -> bytes:
    packed, program = io.BytesIO(), _PROGRAM.encode()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("app/hello.py")
        entry.size, entry.mode = len(program), 0o644
        tar.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
