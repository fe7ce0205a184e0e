"""The form that writes a deployment.yaml, and the editor of its text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio
import requests
import yaml
from playwright.async_api import Browser, Page, expect

from tests.integration.stack import YAML, Stack
from tests.web.visitor import Visitor

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = "'\"</textarea></script><img src=x onerror=alert(1)>{{7*7}}{% x %}&amp; \u202eevil\u202c 🙂 # : [\\"
LINES = ("packages", "weights", "apt", "env", "secrets")
TEXTS = (
    *("user", "project", "image_uri", "entrypoint", "base_image", "port", "host_port", "health_path"),
    *("startup_seconds", "cpu", "memory", "gpu", "min_instances", "max_instances", "concurrency"),
    *("timeout_seconds", "region", "service_account"),
)


@pytest_asyncio.fixture(loop_scope="session")
async def form(visitor: Visitor) -> Page:
    await visitor.page.goto(visitor.base + "/new")
    return visitor.page


@pytest_asyncio.fixture(loop_scope="session")
async def plain(browser: Browser, stack: Stack) -> AsyncIterator[Page]:
    """A browser without JavaScript, before the form."""
    context = await browser.new_context(java_script_enabled=False, locale="en-US")
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{stack.web_port}/new")
    yield page
    await context.close()


def with_program(stack: Stack, user: str, project: str) -> Path:
    """A project of which nobody has written the deployment.yaml; returns where it will be."""
    file = stack.project(user, project, text="from the form") / "deployment.yaml"
    file.unlink()
    return file


async def say_where(page: Page, user: str, project: str) -> None:
    await page.get_by_label("User").fill(user)
    await page.get_by_label("Project", exact=True).fill(project)


async def test_a_form_becomes_a_service_its_image_is_looked_at_and_it_is_stopped(
    visitor: Visitor, form: Page, stack: Stack
) -> None:
    file = with_program(stack, "form", "hello")
    await say_where(form, "form", "hello")
    await form.get_by_role("radio", name="local").check()
    await form.get_by_label("Base image").fill("scratch")
    await form.get_by_label("Python packages").fill("greeting")
    await visitor.sees("Can be started", "#preview")
    await visitor.sees("greeting", "#preview .code")
    await form.get_by_role("button", name="Save and start").click()
    await expect(form).to_have_url(f"{visitor.base}/deployments/form/hello")
    await expect(form.locator("#head .status")).to_contain_text("Running", timeout=60_000)
    assert yaml.safe_load(file.read_text())["deploy"] == {
        "type": "local",
        "entrypoint": ["server.py"],
        "network": {"service_container_port": 8080},
        "health": {"path": "/"},
    }
    assert stack.answer("form", "hello")["text"] == "from the form"

    await form.get_by_role("link", name="Builds").click()
    await form.get_by_role("link", name="form/hello").click()
    await visitor.sees("Done", "#head")
    await expect(form.locator("svg.picture.wide")).to_be_visible()
    await visitor.sees("greeting", "#packages")
    await form.locator("#head").get_by_role("link", name="form/hello").click()
    await form.get_by_role("button", name="Stop").click()
    await form.get_by_role("dialog").get_by_role("button", name="Stop").click()
    await expect(form.locator("#head .status")).to_contain_text("Stopped", timeout=60_000)


async def test_a_mistake_is_told_at_its_field_and_its_line_until_it_is_mended(visitor: Visitor, form: Page) -> None:
    port = form.get_by_label("Port of the program")
    await port.fill("99999")
    await expect(form.locator("#told-port")).to_contain_text("65535")
    await expect(port).to_have_attribute("aria-invalid", "true")
    await expect(form.locator("#preview li.wrong code")).to_have_text("    service_container_port: 99999")
    await visitor.sees("1 thing to mend", "#preview")
    await port.fill("8000")
    await expect(form.locator("#told-port")).to_be_hidden()
    await expect(port).not_to_have_attribute("aria-invalid", "true")
    await visitor.sees("Can be started", "#preview")
    await form.get_by_label("User").fill("no spaces")
    await visitor.sees("not beginning with a dot", "#told-user")


async def test_a_prebuilt_image_asks_for_nothing_of_a_build(visitor: Visitor, form: Page) -> None:
    await form.get_by_label("Python packages").fill("greeting")
    await visitor.sees("greeting", "#preview .code")
    await form.get_by_label("Use an image that is built already").check()
    await expect(form.get_by_label("Python packages")).to_be_hidden()
    await form.get_by_label("Image", exact=True).fill("ghcr.io/team/service:1.0")
    await visitor.sees("image_uri", "#preview .code")
    await expect(form.locator("#preview .code")).not_to_contain_text("greeting")
    await form.get_by_label("Use an image that is built already").uncheck()
    await expect(form.get_by_label("Python packages")).to_have_value("greeting")


async def test_what_a_target_does_not_heed_is_said_at_the_field(form: Page) -> None:
    note = form.locator("[data-field=region] .means-nothing")
    for target, heeded in (("local", False), ("gcp-cloudrun", True), ("docker", False)):
        await form.get_by_role("radio", name=target).check()
        await expect(note).to_be_visible(visible=not heeded)


async def test_packages_are_weighed_while_one_types(visitor: Visitor, form: Page) -> None:
    await form.get_by_label("Python packages").fill("greeting")
    await visitor.sees("Packages: about", "#size")
    await visitor.sees("politeness 1.2 kB", "#size")
    await form.get_by_label("Python packages").fill("greeting\nnobody-has-this")
    await visitor.sees("nobody-has-this was not found", "#size")


async def test_a_file_is_edited_judged_and_saved(visitor: Visitor, stack: Stack) -> None:
    file = stack.project("form", "edited") / "deployment.yaml"
    page = visitor.page
    await page.goto(visitor.base + "/deployments/form/edited/yaml")
    await page.get_by_role("link", name="Edit").click()
    editor = page.get_by_role("textbox", name="deployment.yaml")
    await expect(editor).to_have_value(YAML)
    await editor.fill(YAML.replace("entrypoint", "entrypiont"))
    await visitor.sees("did you mean `entrypoint`?", "#preview .code")
    await page.get_by_role("button", name="Save", exact=True).click()
    await visitor.sees("did you mean `entrypoint`?", ".notice")
    assert file.read_text() == YAML
    await editor.fill(YAML + "  env:\n    GREETING: changed\n")
    await visitor.sees("Can be started", "#preview")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page).to_have_url(f"{visitor.base}/deployments/form/edited/yaml")
    assert file.read_text() == YAML + "  env:\n    GREETING: changed\n"
    visitor.faults[:] = [fault for fault in visitor.faults if "422" not in fault]


async def test_a_file_that_is_there_is_not_replaced_unawares(visitor: Visitor, form: Page, stack: Stack) -> None:
    stack.project("form", "taken")
    await say_where(form, "form", "taken")
    await visitor.sees("has a deployment.yaml already; saving replaces it", "#preview")
    await form.get_by_role("link", name="Edit that one instead").click()
    await expect(form.get_by_role("textbox", name="deployment.yaml")).to_have_value(YAML)


async def test_a_disk_that_takes_nothing_is_told_and_the_text_stays(visitor: Visitor, form: Page, stack: Stack) -> None:
    (stack.shared / "common" / "full").write_text("a file where a folder must be")
    await say_where(form, "full", "1")
    await form.get_by_label("Base image").fill("scratch")
    await form.get_by_role("button", name="Save", exact=True).click()
    await visitor.sees("cannot be written", ".notice")
    await visitor.sees("write to the shared disk", ".notice")
    await expect(form.get_by_label("Base image")).to_have_value("scratch")
    visitor.faults[:] = [fault for fault in visitor.faults if "507" not in fault]


async def test_what_is_typed_outlives_a_manager_that_goes_away(visitor: Visitor, form: Page, stack: Stack) -> None:
    file = with_program(stack, "form", "away")
    await say_where(form, "form", "away")
    await form.get_by_role("radio", name="local").check()
    stack.kill("manager")
    try:
        await form.get_by_label("Python packages").fill("greeting")
        await visitor.sees("does not answer", "#preview")
        await form.get_by_role("button", name="Save", exact=True).click()
        await visitor.sees("does not answer", "#preview")
        await expect(form.get_by_label("Python packages")).to_have_value("greeting")
    finally:
        stack.start("manager")
        stack.wait_healthy("manager")
    await form.get_by_role("button", name="Save", exact=True).click()
    await expect(form).to_have_url(f"{visitor.base}/deployments/form/away/yaml")
    assert "greeting" in file.read_text()
    visitor.faults[:] = [fault for fault in visitor.faults if "503" not in fault]


async def test_whatever_is_typed_is_shown_as_text_and_comes_back(visitor: Visitor, form: Page) -> None:
    for name in (*TEXTS, *LINES):
        await form.locator(f"#f-{name}").fill(f"{HOSTILE}{name}"[:64] if name in ("user", "project") else HOSTILE)
    await form.locator("#f-packages").fill(f"\n\n{HOSTILE}\n  {HOSTILE}\n")
    await visitor.sees("things to mend", "#preview")
    await visitor.sees("{{7*7}}", "#preview .code")
    await form.get_by_role("button", name="Save", exact=True).click()
    await expect(form.locator("#told-user")).to_be_visible()
    await expect(form.locator("#f-packages")).to_have_value(f"\n\n{HOSTILE}\n  {HOSTILE}\n")
    for name in (*TEXTS[2:], *LINES[1:]):
        await expect(form.locator(f"#f-{name}")).to_have_value(HOSTILE)
    assert await form.locator("main img").count() == 0
    visitor.faults[:] = [fault for fault in visitor.faults if "422" not in fault]


async def test_a_hostile_file_is_edited_as_it_is(visitor: Visitor, stack: Stack) -> None:
    text = f"\n{YAML}  env:\n    QUOTED: |\n      {HOSTILE}\n"
    file = stack.project("form", "hostile", yaml=text) / "deployment.yaml"
    page = visitor.page
    await page.goto(visitor.base + "/deployments/form/hostile/edit")
    await expect(page.get_by_role("textbox", name="deployment.yaml")).to_have_value(text)
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page).to_have_url(f"{visitor.base}/deployments/form/hostile/yaml")
    assert file.read_text() == text
    assert await page.locator("main img").count() == 0


async def test_without_javascript_the_form_comes_back_with_its_mistakes(plain: Page, stack: Stack) -> None:
    file = with_program(stack, "form", "plain")
    await plain.get_by_label("Port of the program").fill("99999")
    await plain.get_by_role("button", name="Save", exact=True).click()
    await expect(plain.locator("#told-user")).to_contain_text("not beginning with a dot")
    await expect(plain.locator("#told-port")).to_contain_text("65535")
    await say_where(plain, "form", "plain")
    await plain.get_by_role("button", name="Save", exact=True).click()
    await expect(plain.locator(".notice")).to_contain_text("65535")
    await expect(plain.locator("#size")).to_be_empty()
    await plain.get_by_label("Port of the program").fill("8000")
    await plain.get_by_label("Port of the program").press("Enter")
    await expect(plain.locator("#preview .status")).to_contain_text("Can be started")
    assert not file.exists()  # Enter saves nothing
    await plain.get_by_role("button", name="Save", exact=True).click()
    await expect(plain).to_have_url(re.compile("/deployments/form/plain/yaml$"))
    assert yaml.safe_load(file.read_text())["deploy"]["network"] == {"service_container_port": 8000}


async def test_a_keyboard_fills_the_form(visitor: Visitor, form: Page, stack: Stack) -> None:
    file = with_program(stack, "form", "keys")
    await form.get_by_label("User").focus()
    for key in ("form", "Tab", "keys", "Tab", "ArrowDown", "ArrowUp", "Tab", "Tab"):
        await (form.keyboard.press(key) if key[0].isupper() else form.keyboard.type(key))
    await expect(form.locator(":focus")).to_have_attribute("name", "image_uri")
    await form.keyboard.press("Enter")
    await expect(form.get_by_role("radio", name="local")).to_be_checked()
    await visitor.sees("Can be started", "#preview")
    assert not file.exists()
    for _ in range(60):
        await form.keyboard.press("Tab")
        if await form.evaluate("document.activeElement.value === 'save'"):
            break
    await form.keyboard.press("Enter")
    await expect(form).to_have_url(f"{visitor.base}/deployments/form/keys/yaml")
    assert yaml.safe_load(file.read_text())["deploy"]["type"] == "local"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_no_form_keeps_anybody_out(browser: Browser, stack: Stack, scheme: str, width: int) -> None:
    stack.project("form", "access")
    context = await browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        locale="en-US",
    )
    visitor = await Visitor.of(context, stack)
    for path in ("/new", "/new?user=form&project=access", "/deployments/form/access/edit"):
        await visitor.page.goto(visitor.base + path)
        if path == "/new":
            await visitor.page.get_by_label("Port of the program").fill("99999")
            await visitor.sees("65535", "#told-port")
        await visitor.check_access()
        assert await visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    await context.close()
    visitor.judge()


async def test_what_is_too_large_is_refused(stack: Stack) -> None:
    for path in ("/new", "/new/preview", "/new/size"):
        answer = requests.post(f"http://127.0.0.1:{stack.web_port}{path}", data={"text": "x" * (256 << 10)}, timeout=30)
        assert answer.status_code == 413, path


async def test_many_who_type_at_once_are_all_answered(stack: Stack) -> None:
    """And what they set in motion stays within bounds: two estimates at a time, each for a while."""
    draft = {"target": "local", "entrypoint": "server.py", "packages": "greeting", "python": "3.11"}

    def ask(path: str) -> int:
        return requests.post(f"http://127.0.0.1:{stack.web_port}{path}", data=draft, timeout=60).status_code

    with ThreadPoolExecutor(60) as people:
        answers = list(people.map(ask, ["/new/preview"] * 50 + ["/new/size"] * 10))
    assert answers == [200] * 60
