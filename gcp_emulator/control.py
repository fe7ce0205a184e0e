"""The control API: faults on demand, what is not granted or enabled, how often each call was made.

Plain HTTP on a loopback port of its own.
"""

from __future__ import annotations

from fastapi import FastAPI

from gcp_emulator.faults import Faults, Rule
from gcp_emulator.grants import Denial, Grants


def create_app(faults: Faults, grants: Grants) -> FastAPI:
    app = FastAPI(title="gcp_emulator control")
    _add_grants(app, grants)

    @app.get("/healthz")
    async def healthz() -> str:
        """It answers once the twin serves: it is started last."""
        return "ok"

    @app.get("/faults")
    async def rules() -> list[Rule]:
        """The rules in force."""
        return faults.rules

    @app.put("/faults")
    async def replace(rules: list[Rule]) -> list[Rule]:
        """These and no others; each counts from now."""
        faults.replace(rules)
        return faults.rules

    @app.post("/faults", status_code=201)
    async def add(rule: Rule) -> list[Rule]:
        """One more."""
        faults.add(rule)
        return faults.rules

    @app.delete("/faults", status_code=204)
    async def clear() -> None:
        faults.replace([])

    @app.get("/calls")
    async def calls() -> dict[str, int]:
        """How often each call was made, by its name."""
        return dict(faults.calls)

    @app.delete("/calls", status_code=204)
    async def forget() -> None:
        faults.calls.clear()

    return app


def _add_grants(app: FastAPI, grants: Grants) -> None:
    @app.get("/denials")
    async def denials() -> list[Denial]:
        """Permissions that the account does not hold."""
        return grants.denials

    @app.put("/denials")
    async def deny(denials: list[Denial]) -> list[Denial]:
        """These and no others. They count where permissions are tested, and in the APIs around the services."""
        grants.deny(denials)
        return grants.denials

    @app.get("/disabled")
    async def disabled() -> list[str]:
        """APIs that are not enabled, e.g. `run.googleapis.com`."""
        return grants.disabled

    @app.put("/disabled")
    async def disable(names: list[str]) -> list[str]:
        """These and no others."""
        grants.disable(names)
        return grants.disabled
