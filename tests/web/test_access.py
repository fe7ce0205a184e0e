"""For everybody: without a mouse, on a phone, in the dark, in Korean, and with what reads a page aloud."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.integration.stack import Stack
from tests.web.test_deploy import BROKEN
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGES = ("/", "/?status=stopped&q=nobody", "{one}", "{one}/log", "{one}/yaml", "{one}/revisions", "/nothing/here")

OTHERS = ("/deployments/seen/broken/yaml", "/deployments/seen/broken/revisions", "/docs/errors/exited")


@pytest.fixture(scope="session")
def shown(stack: Stack) -> Stack:
    stack.project("seen", "one")
    stack.begin("seen", "one")
    stack.wait("running", user="seen", project="one")
    stack.project("seen", "broken", yaml=BROKEN)
    return stack


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_no_page_keeps_anybody_out(browser: Browser, shown: Stack, scheme: str, width: int) -> None:
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        locale="en-US",
    )
    visitor = await Visitor.of(context, shown)
    for path in (*PAGES, *OTHERS):
        await visitor.page.goto(visitor.base + path.replace("{one}", "/deployments/seen/one"))
        await expect(visitor.page.locator("h1")).to_be_visible()
        await visitor.check_access()
        wide = await visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} px wider than a screen of {width}"
    await context.close()
    assert [fault for fault in visitor.faults if "404" not in fault] == []


async def test_a_keyboard_is_enough(visitor: Visitor, shown: Stack) -> None:
    """Skip link, list, project, stop and think better of it."""
    page = await visitor.open("/?q=seen/one")
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Skip to the content")
    await page.keyboard.press("Enter")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.matches('a.name')"):
            break
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text("one")
    await page.get_by_role("button", name="Stop").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await expect(page.locator(":focus")).to_have_text("Cancel")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert shown.word("seen", "one") == "running"


async def test_korean_by_the_browser_and_english_by_choice(browser: Browser, shown: Stack) -> None:
    context = await browser.new_context(locale="ko-KR")
    visitor = await Visitor.of(context, shown)
    page = await visitor.open("/deployments/seen/one")
    await expect(page.locator("html")).to_have_attribute("lang", "ko")
    await visitor.sees("실행 중", "#head")
    await page.get_by_role("button", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page).to_have_url(f"{visitor.base}/deployments/seen/one")
    await visitor.sees("Running", "#head")
    await page.get_by_role("button", name="Dark").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await context.close()
    visitor.judge()
