"""Whole projects in a real Engine: they answer, stop when told, and pip inside agrees with the bill of materials."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_manager import deployment_yaml
from tests.integration.judges import inspected
from tests.integration.works import Container, Works

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OF_THE_BASE = {"pip", "setuptools", "wheel"}
IN_TIME = 9.0
"""Seconds; Docker and Cloud Run kill after ten."""

OWNED = """
import importlib.metadata as m, sys
print(*(p.locate() for p in m.distribution(sys.argv[1]).files), sep="\\n")
"""
SHADOW = """
set -e
mkdir -p "$(python -m site --user-site)/humanize"
echo "raise SystemExit(9)" >"$(python -m site --user-site)/humanize/__init__.py"
python -c "import humanize"
rm -r "$(python -m site --user-site)/humanize"
"""
"""A package of the same name in the user's own site does not come before the image's."""
SCRIPTS = """
import importlib.metadata as m
print(*(e.name for e in m.entry_points(group="console_scripts") if e.dist.name.lower() not in {"pip", "wheel"}))
"""


def agrees_with_pip(works: Works, name: str, container: Container) -> None:
    """What the bill of materials says is what pip finds, no more, no less, and nothing is missing."""
    assert "No broken requirements found" in container.say("pip", "check")
    ours = works.packages(works.image(name))
    assert container.listed("--local") == ours
    assert container.listed().keys() == ours.keys() | OF_THE_BASE, "the base's own stay usable"


def stops_in_time(container: Container) -> None:
    seconds, status = container.stop()
    assert seconds < IN_TIME and status == 0


def test_hello_answers_is_managed_by_pip_and_stops(works: Works) -> None:
    image = works.image("hello")["image"]
    assert inspected(image["pushed"])["Digest"] == image["digest"]
    with works.container(image["pushed"]) as container:
        assert container.answer()["greeting"] == "Hello"
        agrees_with_pip(works, "hello", container)
        container.say("sh", "-c", SHADOW)
        owned = container.say("python", "-c", OWNED, "humanize").split()
        assert len(owned) > 20
        container.say("ls", *owned)
        container.say("pip", "uninstall", "-y", "humanize")
        assert container.refuses("ls", *owned).count("No such file") == len(owned), "RECORD names every file"
        assert "No module named 'humanize'" in container.refuses("python", "-c", "import humanize")
        stops_in_time(container)


@pytest.mark.long  # CI has `make demo SAMPLE=digits`
def test_digits_answers_with_torch(works: Works) -> None:
    """An image of the size that people really have."""
    with works.container(works.image("digits")["image"]["pushed"]) as container:
        assert container.answer("/predict", str([[8] * 8] * 8))["digit"] in range(10)
        agrees_with_pip(works, "digits", container)
        scripts = container.say("python", "-c", SCRIPTS).split()
        assert "torchrun" in scripts
        container.say("sh", "-c", 'for name; do test -x "$(command -v "$name")" || exit 1; done', "sh", *scripts)
        assert "usage: torchrun" in container.say("torchrun", "--help")
        stops_in_time(container)


@pytest.mark.long
def test_system_packages_are_there_beside_pythons(works: Works) -> None:
    with works.container(works.image("apt")["image"]["pushed"]) as container:
        assert container.answer()["greeting"] == "Hello"
        assert container.say("hello") == "Hello, world!\n"
        assert "VIM - Vi IMproved" in container.say("vim", "--version")
        assert "ii" in container.say("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "vim")
        assert container.say("readlink", "/etc/alternatives/vi") == "/usr/bin/vim.basic\n", "alternatives are set"
        assert container.say("find", "/var/lib/apt/lists", "-type", "f", "-size", "+0") == "", (
            "apt's own lists are gone"
        )
        agrees_with_pip(works, "apt", container)
        stops_in_time(container)


@pytest.mark.long
def test_an_own_dockerfile_answers(works: Works) -> None:
    with works.container(works.image("own")["image"]["pushed"]) as container:
        assert container.answer()["running_for"] == "a while"
        stops_in_time(container)


def test_a_published_image_is_one_that_another_deployment_names(works: Works, tmp_path: Path) -> None:
    """Prebuilt: nothing is asked of the builder, and what the target is given is the digest that skopeo sees."""
    image = works.image("hello")["image"]
    (tmp_path / "deployment.yaml").write_text(f"build:\n  image_uri: {image['pushed']}\ndeploy:\n  type: docker\n")
    spec = deployment_yaml.load(tmp_path / "deployment.yaml").spec
    assert spec.prebuilt and spec.build.image_uri == image["pushed"]
    assert inspected(str(spec.build.image_uri))["Digest"] == image["digest"] == image["pushed"].partition("@")[2]
