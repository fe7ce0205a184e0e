"""The control API: faults on demand, and how often each call was made. Plain HTTP on a loopback port of its own."""

from __future__ import annotations

from fastapi import FastAPI

from gcp_emulator.faults import Faults, Rule


def create_app(faults: Faults) -> FastAPI:
    app = FastAPI(title="gcp_emulator control")

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
