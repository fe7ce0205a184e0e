"""A state folder with many projects at rest, as a manager would have left it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Facts, Phase, Want, digest_of
from cloud_manager.deployment_spec import Build, Components, Deploy, DeploymentSpec
from cloud_manager.store.open import open_store
from cloud_manager.store.tables import deployments, to_json
from image_builder.contract import ImageReference

_SPEC = DeploymentSpec(
    build=Build(components=Components(engine="pytorch", libs=("torch>=2", "numpy", "pillow"))),
    deploy=Deploy(type="local", entrypoint=("python", "server.py"), env={"MODEL": "weights.pt"}),
)
_HOUR = 3600.0


def identifiers(number: int) -> tuple[str, str]:
    return str(number // 100), str(number)


def fill(state_dir: Path, count: int) -> None:
    """Most run, some are stopped, some failed; none is due within the hour."""
    asyncio.run(_make_database(state_dir))
    engine = create_engine(f"sqlite:///{state_dir / 'manager.db'}")
    spec, digest, now = to_json(_SPEC), digest_of(_SPEC), time.time()
    with engine.begin() as connection:
        connection.execute(insert(deployments), [_row(number, spec, digest, now) for number in range(count)])
    engine.dispose()


async def _make_database(state_dir: Path) -> None:
    store = await open_store("", state_dir, SystemClock())
    await store.aclose()


def _row(number: int, spec: str, digest: str, now: float) -> dict[str, Any]:
    phase = (Phase.RUNNING, Phase.RUNNING, Phase.STOPPED, Phase.FAILED)[number % 4]
    image = ImageReference(repository=f"builds/{number:032x}", digest=f"sha256:{number:064x}", size=10**8)
    facts = Facts(image=image, url=f"http://127.0.0.1:{20000 + number % 40000}", placed_on=("local",))
    user_id, project_id = identifiers(number)
    return {
        "user_id": user_id,
        "project_id": project_id,
        "want": Want.ABSENT if phase is Phase.STOPPED else Want.PRESENT,
        "generation": 1,
        "spec": spec,
        "spec_digest": digest,
        "origins": "{}",
        "phase": phase,
        "facts": to_json(facts),
        "token": 1,
        "due": now + _HOUR,
        "tries": 0,
        "created": now - _HOUR,
        "updated": now - _HOUR + number / 1e4,
    }
