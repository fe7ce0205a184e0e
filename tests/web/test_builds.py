"""The pages of builds: followed while they run, ended, and looked at when they are done."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.async_api import Browser, Page, expect

from image_builder.contract import Platform
from image_builder.interpreters import here
from tests import needs
from tests.image_builder.test_sources import make_source
from tests.image_builder.wheels import make_wheel
from tests.integration.stack import Stack, until
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = "</script><img src=x onerror=alert(1)>{{7*7}}&amp;"


class Gate:
    """A source package whose building waits until the gate is opened, and then may fail."""

    def __init__(self, links: Path, name: str, *, then: str = "") -> None:
        self._file = links.parent / f"open-{name}"
        wait = f"while not os.path.exists({str(self._file)!r}): time.sleep(0.02)\n"
        make_source(links, name, before=f"import time\n{wait}{then}")

    def open(self) -> None:
        self._file.touch()


@pytest.fixture
def platform() -> Platform:
    return here() or needs.missing("this machine is none that images are made for")


def begin(stack: Stack, owner: str, *requirements: str, **more: Any) -> str:
    """Ask for an image, as the command line does; returns the id of the build."""
    folder = stack.shared / "common" / owner / "nn_model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.py").write_text(f"print({owner!r})\n")
    body = {
        "owner": owner,
        "source": f"common/{owner}/nn_model",
        "entrypoint": ["python", "server.py"],
        "base_image": "scratch",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "requirements": [{"text": text} for text in requirements],
        **more,
    }
    answer = requests.post(f"http://127.0.0.1:{stack.builder_port}/builds", json=body, timeout=30)
    assert answer.ok, answer.text
    return str(answer.json()["id"])


def finished(stack: Stack, owner: str, *requirements: str) -> str:
    """As `begin`, and it is over when this returns."""
    build = begin(stack, owner, *requirements)
    address = f"http://127.0.0.1:{stack.builder_port}/builds/{build}"
    until(f"{owner} to be built", lambda: requests.get(address, timeout=30).json()["finished"])
    return build


async def test_a_build_is_followed_until_it_is_done(
    visitor: Visitor, stack: Stack, links: Path, platform: Platform
) -> None:
    """Nothing jumps meanwhile: what has the focus keeps it, and how far one has scrolled stays."""
    gate = Gate(links, "followed")
    build = begin(stack, "look/followed", "followed", "greeting", platform=platform)
    page = await visitor.open(f"/builds/{build}")
    await visitor.sees("Building", "#head")
    await visitor.sees("Which layers there are is known once versions are chosen", "#layers")
    await visitor.sees("building followed 2.0 from source", "#log")
    await page.set_viewport_size({"width": 1280, "height": 300})
    await page.mouse.wheel(0, 60)
    await page.wait_for_function("scrollY === 60")
    await page.evaluate("document.querySelector('.log').focus({ preventScroll: true })")
    before = await page.locator("#log li").count()
    gate.open()
    await visitor.sees("Done", "#head")
    assert await page.evaluate("scrollY") == 60
    await expect(page.locator(".log")).to_be_focused()
    await visitor.sees("succeeded: sha256:", "#log li.succeeded")
    numbers = await page.locator("#log li").evaluate_all("lines => lines.map((line) => Number(line.id.slice(5)))")
    assert len(numbers) > before
    assert numbers == sorted(set(numbers)), "lines are there twice, or not in their order"
    await expect(page.locator("svg.picture.wide .box")).to_have_count(2)  # small packages together, the program
    await expect(page.locator("[data-live]")).to_have_count(0)


async def test_a_running_build_is_cancelled(visitor: Visitor, stack: Stack, links: Path, platform: Platform) -> None:
    page = await visitor.open("/builds")
    Gate(links, "endless")
    build = begin(stack, "look/cancelled", "endless", platform=platform)
    row = page.locator(f"#build-{build}")
    await expect(row.locator(".status")).to_contain_text("Building")
    await row.get_by_role("link").click()
    await page.get_by_role("button", name="Cancel the build").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("stop look/cancelled")
    await dialog.get_by_role("button", name="Go on building").click()
    await expect(dialog).to_have_count(0)
    await visitor.sees("Building", "#head")
    await page.get_by_role("button", name="Cancel the build").press("Enter")
    await dialog.get_by_role("button", name="Cancel the build").click()
    await visitor.sees("Cancelled", "#head")
    await page.get_by_role("link", name="Builds").first.click()
    await expect(row.locator(".status")).to_contain_text("Cancelled")


async def test_a_build_that_is_over_at_once_is_seen_all_the_same(visitor: Visitor, stack: Stack) -> None:
    page = await visitor.open("/builds")
    build = finished(stack, "look/quick", "greeting")
    await expect(page.locator(f"#build-{build} .status")).to_contain_text("Done")
    # Also where it was over before its page began to listen.
    address = f"{visitor.base}/builds/{build}/live?after={'9' * 5000}"
    assert "event: refresh" in requests.get(address, timeout=30).text


async def test_packages_are_searched_and_taken_away(visitor: Visitor, stack: Stack) -> None:
    build = finished(stack, "look/packages", "greeting")
    page = visitor.page
    await page.goto(f"{visitor.base}/builds/{build}")
    rows = page.locator("#packages tbody tr:visible")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Search packages").fill("MIT greet")
    await expect(rows).to_have_text(re.compile(r"greeting\s*1\.2\s*python\s*MIT"))
    async with page.expect_download() as bill:
        await page.get_by_role("link", name="SBOM").click()
    parts = json.loads((await (await bill.value).path()).read_text())["components"]
    assert {("greeting", "1.2"), ("politeness", "1.0")} <= {(part["name"], part.get("version")) for part in parts}
    async with page.expect_download() as context:
        await page.get_by_role("link", name="Build context").click()
    data = (await (await context.value).path()).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {"Dockerfile", "requirements.txt", "program/server.py"} <= set(tar.getnames())
    await visitor.sees("pip", "section:has(#h-dockerfile) pre")


async def test_what_a_package_says_is_shown_as_text(
    visitor: Visitor, stack: Stack, links: Path, platform: Platform
) -> None:
    gate = Gate(links, "hostile", then=f"raise SystemExit({HOSTILE!r})\n")
    build = begin(stack, "look/hostile", "hostile", platform=platform)
    page = await visitor.open(f"/builds/{build}")
    gate.open()
    await visitor.sees("Failed", "#head")
    await visitor.sees(HOSTILE, ".notice")
    await visitor.sees(HOSTILE, "#log li.failed")
    await page.goto(visitor.base + "/builds")
    await visitor.sees(HOSTILE, f"#build-{build}")
    assert await page.locator("main img").count() == 0


async def test_why_a_build_failed_is_told_in_the_list_and_on_its_page(visitor: Visitor, stack: Stack) -> None:
    build = finished(stack, "look/missing", "nobody-has-this")
    page = await visitor.open("/builds")
    await visitor.sees("nobody-has-this was not found", f"#build-{build}")
    await page.get_by_role("link", name="look/missing").click()
    await visitor.sees("What to do", ".notice")
    await visitor.sees("It came to no layers.", "#layers")
    assert (await page.goto(f"{visitor.base}/builds/none-of-this")).status == 404  # type: ignore[union-attr]
    await visitor.sees("What to do", ".notice")
    visitor.faults[:] = [fault for fault in visitor.faults if "404" not in fault]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_no_page_of_builds_keeps_anybody_out(
    browser: Browser, stack: Stack, links: Path, platform: Platform, scheme: str, width: int
) -> None:
    """Also with more layers than a screen holds, with the longest names, and while it runs."""
    name = "a-name-as-long-as-they-come-" + "x" * 36
    many = [make_wheel(links, f"part{number:02}", files={"x": "x" * 40_000}).name for number in range(3)]
    Gate(links, "running")
    done = finished(stack, f"{name}/{name}", "greeting", *(each.partition("-")[0] for each in many))
    failed = finished(stack, "look/failed", "nobody-has-this")
    runs = begin(stack, f"look/{width}", "running", platform=platform)
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        locale="en-US",
    )
    visitor = await Visitor.of(context, stack)
    for path in ("/builds", *(f"/builds/{each}" for each in (done, failed, runs))):
        await visitor.page.goto(visitor.base + path)
        await visitor.check_access()
        assert await is_not_wide(visitor.page), path
    requests.delete(f"http://127.0.0.1:{stack.builder_port}/builds/{runs}", timeout=30)
    await context.close()
    visitor.judge()


async def is_not_wide(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
