"""Thousands of projects on one page."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from bench.projects import fill
from tests.integration.stack import Stack
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")
MANY = 5000


@pytest.fixture
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    root = tmp_path_factory.mktemp("many")
    (root / "state").mkdir()
    fill(root / "state", MANY)
    return Stack(root)


@pytest.mark.slow
async def test_thousands_of_projects_are_one_live_page(browser: Browser, crowd: Stack) -> None:
    """What failed comes first, the rest as one scrolls; the page stays small, and true."""
    try:
        crowd.up()
        context = await browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US")
        visitor = await Visitor.of(context, crowd)
        page = await visitor.open()
        await expect(page.locator(".chip >> nth=0")).to_contain_text(str(MANY), timeout=60_000)
        rows = page.locator("#rows tr")
        await expect(rows.first).to_contain_text("Failed")
        assert await rows.count() < 200
        before = await rows.count()
        await page.locator("#more").scroll_into_view_if_needed()
        await expect(rows.nth(before)).to_be_attached()
        stopped = page.locator(".chip.stopped .count")
        count = int(await stopped.inner_text())
        crowd.get("/stop", "0", "1")
        await expect(stopped).to_have_text(str(count + 1), timeout=60_000)
        await page.keyboard.press("/")
        await page.keyboard.type("49/4999")
        await expect(rows).to_have_count(1)
        await context.close()
        visitor.judge()
    finally:
        crowd.close()
