"""An image with as many layers as we allow, on a base with many, runs in an Engine that refuses 126."""

from __future__ import annotations

import gzip
import random
import secrets
import subprocess
from pathlib import Path

import httpx
import pytest

from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests import needs
from tests.base_image import MANIFEST, _push_blob, _push_manifest, image_of, layer_of
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of
from tests.integration.judges import inspected, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
PACKAGES = [f"part{number}" for number in range(30)]


def heightened(registry: str, base: str, name: str, count: int) -> str:
    """The base image with so many small layers more, under another name."""
    manifests = httpx.get(
        f"http://{registry}/v2/{base.removeprefix(f'{registry}/').replace(':', '/manifests/')}",
        headers={"Accept": MANIFEST},
        trust_env=False,
    ).json()
    home = f"http://{registry}/v2/{base.removeprefix(f'{registry}/').partition(':')[0]}/blobs"
    lower = [httpx.get(f"{home}/{row['digest']}", trust_env=False).content for row in manifests["layers"]]
    upper = [gzip.compress(layer_of({f"etc/layer{number}": b""}), mtime=0) for number in range(count)]
    manifest, blobs = image_of([*lower, *upper], "amd64")
    with httpx.Client(base_url=f"http://{registry}/v2/{name}/", timeout=60, trust_env=False) as http:
        for blob in blobs:
            _push_blob(http, blob)
        _push_manifest(http, "1", manifest, MANIFEST)
    return f"{registry}/{name}:1"


async def test_a_hundred_layers_run(registry: str, base_image: str, docker_engine: str, tmp_path: Path) -> None:
    """Old Engines say "max depth exceeded" only when the image is to be started."""
    somewhere = secrets.token_hex(4)
    for number, name in enumerate(PACKAGES):
        noise = random.Random(number).randbytes(150_000)
        make_wheel(tmp_path / "links", name, files={f"{name}.py": f"x = {number}\n", f"{name}.bin": noise})
    program = f"import {', '.join(PACKAGES)}\nprint(part29.x, len(open('/etc/layer84').read()))\n"
    make_project(tmp_path / "shared", {"app.py": program})
    base = heightened(registry, base_image, f"{somewhere}/base", 85)
    workshop = Workshop.open(tmp_path / "state", offline(tmp_path / "links"))
    asked = make_request(*PACKAGES, base_image=base, push=f"{registry}/{somewhere}/it:1")
    try:
        image = await build(plan_of(asked, tmp_path / "shared", workshop), workshop, Notes())
    finally:
        workshop.close()
    assert 90 < len(inspected(str(image.pushed))["Layers"]) <= 100
    docker = (needs.program("docker"), "-H", docker_engine)
    try:
        assert run(*docker, "run", "--rm", "--network", "none", str(image.pushed)) == "29 0\n"
    finally:
        subprocess.run([*docker, "rmi", "-f", str(image.pushed)], check=True, capture_output=True)
