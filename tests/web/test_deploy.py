"""From a project's files to a running service and back, with nothing but the page."""

from __future__ import annotations

import itertools
import re

import pytest
import requests
from playwright.async_api import expect

from tests.integration.stack import YAML, Stack
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")
BROKEN = YAML.replace("entrypoint: server.py", "entrypiont: server.py\n  env:\n    DB_PASSWORD: hunter2-secret")


async def test_a_project_is_started_followed_to_running_and_stopped(visitor: Visitor, stack: Stack) -> None:
    stack.project("gui", "hello", text="from the page")
    page = await visitor.open("/deployments/gui/hello")
    await visitor.sees("Never started")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#head .status")).to_contain_text("Running", timeout=60_000)
    for step in ("Asked for", "Image", "Service", "Running"):
        await visitor.sees(step, ".timeline")
    address = await page.locator("dl.facts a").first.get_attribute("href")
    assert address
    assert requests.get(address, timeout=10).json()["text"] == "from the page"

    await page.get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Stop gui/hello?")
    await dialog.get_by_role("button", name="Stop").click()
    await expect(page.locator("#head .status")).to_contain_text("Stopped", timeout=60_000)
    assert stack.word("gui", "hello") == "stopped"


async def test_a_start_that_is_refused_shows_each_fault_under_its_line(visitor: Visitor, stack: Stack) -> None:
    stack.project("gui", "broken", yaml=BROKEN)
    page = await visitor.open("/deployments/gui/broken")
    await page.get_by_role("button", name="Start").click()
    await expect(page).to_have_url(re.compile("/deployments/gui/broken/yaml"))
    await visitor.sees("Not started:")
    number = BROKEN.splitlines().index("  entrypiont: server.py") + 1
    await visitor.sees("did you mean `entrypoint`?", f"#L{number}")
    assert "hunter2" not in await page.content()


async def test_a_log_is_followed_paused_and_searched(visitor: Visitor, stack: Stack) -> None:
    stack.project("gui", "log", text="logged")
    stack.begin("gui", "log")
    stack.wait("running", user="gui", project="log")
    url = stack.show("gui", "log")["url"]
    page = await visitor.open("/deployments/gui/log/log")
    await visitor.sees("listening on", "#log")
    requests.get(url, timeout=10)
    await visitor.sees("asked", "#log")

    await page.get_by_role("button", name="Pause").click()
    before = await page.locator("#log .line").count()
    requests.get(url, timeout=10)
    await expect(page.get_by_role("button", name=re.compile(r"Resume \([1-9]"))).to_be_visible()
    assert await page.locator("#log .line").count() == before
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#log .line")).not_to_have_count(before)

    await page.get_by_label("Only lines with").fill("LISTENING")
    await expect(page.locator("#log .line:visible")).to_have_count(1)


async def test_the_log_of_a_build_is_there_too(visitor: Visitor, stack: Stack) -> None:
    stack.project("gui", "built", text="built")
    stack.begin("gui", "built")
    stack.wait("running", user="gui", project="built")
    await visitor.open("/deployments/gui/built/log?of=build")
    await visitor.sees("succeeded", "#log")


async def test_an_earlier_revision_is_brought_back(visitor: Visitor, stack: Stack) -> None:
    for text in ("first", "second"):
        stack.project("gui", "back", text=text, yaml=f"{YAML}  env:\n    GREETING: {text}\n")
        stack.begin("gui", "back")
        stack.wait("running", user="gui", project="back")
    page = await visitor.open("/deployments/gui/back/revisions")
    await visitor.sees("deploy.env.GREETING", ".revision >> nth=0")
    await page.get_by_role("button", name="Roll back to this").click()
    await page.get_by_role("dialog").get_by_role("button", name="Roll back to this").click()
    await visitor.sees("Rollback", "#overview")
    await expect(page.locator("#head .status")).to_contain_text("Running", timeout=60_000)
    await visitor.sees("generation 3", "#overview header >> nth=0")
    assert stack.answer("gui", "back")["text"] == "first"


async def test_what_fails_says_why_and_what_to_do(visitor: Visitor, stack: Stack) -> None:
    stack.project("gui", "dies", program="raise SystemExit('no weights in /models')")
    stack.begin("gui", "dies")
    stack.wait("failed", user="gui", project="dies")
    await visitor.open("/deployments/gui/dies")
    await visitor.sees("no weights in /models", "#head .notice")
    await visitor.sees("What to do", "#head .notice")


async def test_what_came_between_a_page_and_its_stream_is_sent(stack: Stack) -> None:
    """Else a page that was opened in that moment says `preparing` of what has failed, and nothing ever tells it."""
    stack.project("gui", "between", program="raise SystemExit(1)")
    stack.begin("gui", "between")
    stack.wait("failed", user="gui", project="between")
    address = f"http://127.0.0.1:{stack.web_port}/deployments/gui/between/live?tab=overview&shown=1.0"
    with requests.get(address, stream=True, timeout=30) as answer:
        assert b"event: put" in itertools.islice(answer.iter_lines(), 6)
