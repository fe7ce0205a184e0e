"""The page of all projects: what is shown first, and that it stays true by itself."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.integration.stack import Stack
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_others_start_appears_and_changes_without_a_reload(visitor: Visitor, stack: Stack) -> None:
    page = await visitor.open()
    await page.evaluate("window.stayed = true")
    stack.project("list", "new")
    stack.begin("list", "new")
    row = page.locator('[id="project-list/new"]')
    await expect(row.locator(".status")).to_contain_text("Running", timeout=60_000)
    await expect(row).to_contain_text("running at http://127.0.0.1:")
    stack.get("/stop", "list", "new")
    await expect(row.locator(".status")).to_contain_text("Stopped", timeout=60_000)
    assert await page.evaluate("window.stayed")


async def test_search_and_status_narrow_the_list(visitor: Visitor, stack: Stack) -> None:
    for name in ("alpha", "beta"):
        stack.project("find", name)
        stack.begin("find", name)
        stack.wait("running", user="find", project=name)
    page = await visitor.open()
    await page.keyboard.press("/")
    await page.keyboard.type("find/alp")
    rows = page.locator("#rows tr")
    await expect(rows).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"q=find%2Falp"))
    await page.get_by_role("link", name="Failed").click()
    await visitor.sees("Nothing fits")


async def test_a_manager_that_goes_away_is_told_and_so_is_its_return(visitor: Visitor, stack: Stack) -> None:
    stack.project("away", "1")
    stack.begin("away", "1")
    stack.wait("running", user="away", project="1")
    page = await visitor.open()
    stack.kill("manager")
    try:
        await visitor.sees("does not answer", "#summary")
        await expect(page.locator('[id="project-away/1"]')).to_be_visible()
    finally:
        stack.start("manager")
        stack.wait_healthy("manager")
    await expect(page.locator("#summary .notice")).to_have_count(0, timeout=30_000)
    stack.get("/stop", "away", "1")
    await expect(page.locator('[id="project-away/1"] .status')).to_contain_text("Stopped", timeout=60_000)


async def test_a_page_that_changed_still_says_that_it_is_live(visitor: Visitor, stack: Stack) -> None:
    stack.project("live", "1")
    stack.begin("live", "1")
    stack.wait("running", user="live", project="1")
    page = await visitor.open("/deployments/live/1")
    stack.get("/stop", "live", "1")
    await expect(page.locator("#head .status")).to_contain_text("Stopped", timeout=60_000)
    await expect(page.locator(".live.on")).to_be_visible()
    assert "Task was destroyed" not in stack.log("builder") and "Traceback" not in stack.log("builder")
