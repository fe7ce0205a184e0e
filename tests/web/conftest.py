"""A real browser on the GUI of a real builder and manager.

All tests of a worker share the pair and the browser: each takes projects of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests import needs
from tests.image_builder.wheels import make_wheel, offline
from tests.integration.stack import Stack, running
from tests.web.visitor import Visitor

# As root in a container there is no sandbox; nothing of the browser's own may go out.
expect.set_options(timeout=30_000)  # a busy machine is not a broken page
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only packages that there are."""
    folder = tmp_path_factory.mktemp("links")
    make_wheel(folder, "greeting", "1.2", requires=("politeness",), metadata="License-Expression: MIT\n")
    make_wheel(folder, "politeness", files={"politeness.py": bytes(range(256)) * 200})
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, links: Path) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("gui"), **offline(links)) as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = needs.program("chromium")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield opened
        await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, stack: Stack, tmp_path: Path) -> AsyncIterator[Visitor]:
    """Somebody with an English browser. At the end: no error on the console, and nothing asked of other machines."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US")
    visitor = await Visitor.of(context, stack)
    yield visitor
    await context.close()
    visitor.judge()
