"""Somebody before the GUI: what is opened, and what must not happen meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, expect

from tests.integration.stack import Stack

_SERIOUS = ("serious", "critical")


@dataclass
class Visitor:
    page: Page
    stack: Stack
    faults: list[str] = field(default_factory=list)
    """Errors of the console, and requests that left the machine."""

    @classmethod
    async def of(cls, context: BrowserContext, stack: Stack) -> Visitor:
        visitor = cls(await context.new_page(), stack)
        visitor.page.on("console", visitor._hear)
        visitor.page.on("pageerror", lambda error: visitor.faults.append(str(error)))
        visitor.page.on("request", visitor._watch)
        return visitor

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.stack.web_port}"

    async def open(self, path: str = "/") -> Page:
        """Returns once the page is live."""
        await self.page.goto(self.base + path)
        await expect(self.page.locator(".live.on")).to_be_visible()
        return self.page

    async def sees(self, text: str, within: str = "main", timeout: float = 30) -> None:
        await expect(self.page.locator(within)).to_contain_text(text, timeout=timeout * 1000)

    async def check_access(self) -> None:
        """axe-core finds nothing serious: contrast, names, roles, focus. https://github.com/dequelabs/axe-core"""
        found: dict[str, Any] = (await Axe().run(self.page)).response
        faults = [
            f"{each['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
            for each in found["violations"]
            if each["impact"] in _SERIOUS
            for node in each["nodes"]
        ]
        assert not faults, "\n".join(faults)

    def judge(self) -> None:
        assert not self.faults, "\n".join(self.faults)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.faults.append(f"asked of another host: {request.url}")
