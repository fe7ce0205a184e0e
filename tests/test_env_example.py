"""`.env.example` and docker-compose.yml against the settings classes: an operator sets what there is, as it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from cloud_manager.settings import ClientSettings
from cloud_manager.settings import Settings as Manager
from image_builder.settings import Settings as Builder

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / ".env.example").read_text()
OFFERED = dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
FIXED = set(re.findall(r"[A-Z_]{8,}", EXAMPLE.partition("# Fixed by")[2]))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
FILES = sorted(path.name for path in ROOT.glob("docker-compose*.yml"))
SERVICES = {"cloud-manager": Manager, "image-builder": Builder}
LOCALE = {"LC_ALL", "LC_MESSAGES", "LANG"}
"""Of every program, not of ours: the command line speaks its language."""


@pytest.mark.parametrize("kind", [Manager, Builder, ClientSettings])
def test_every_setting_is_explained(kind: type[BaseSettings]) -> None:
    names = {name.upper() for name in kind.model_fields} - LOCALE
    assert names - OFFERED.keys() - FIXED == set()
    assert names & OFFERED.keys() & FIXED == set(), "set here, or fixed: not both"


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_set_reaches_the_container(service: str) -> None:
    """A line in .env that changes nothing would be believed."""
    told = COMPOSE["services"][service]["environment"]
    for name in SERVICES[service].model_fields:
        if name.upper() in OFFERED:
            assert told.get(name.upper(), "not told") is None, f"{service} is not told {name.upper()}"


@pytest.mark.parametrize("service", SERVICES)
def test_the_values_shown_are_those_that_hold(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = SERVICES[service]
    for name in OFFERED:
        monkeypatch.delenv(name, raising=False)
    usual = kind()
    for name in kind.model_fields:
        if OFFERED.get(name.upper()):
            monkeypatch.setenv(name.upper(), OFFERED[name.upper()])
    assert kind() == usual


def test_every_name_of_the_compose_files_is_explained_with_the_value_that_holds() -> None:
    for file in FILES:
        for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / file).read_text()):
            assert OFFERED.get(name) == default, f"{file}: {name}"


def test_names_that_nobody_reads_are_not_offered() -> None:
    texts = "".join((ROOT / file).read_text() for file in FILES)
    of_compose = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    assert {name for name in OFFERED.keys() - of_compose if not re.search(rf"\b{name}\b", texts)} == set()


def test_fixed_settings_are_fixed() -> None:
    """Each is set in the image, in docker-compose.yml, or has the default that the volumes are mounted at."""
    images = "".join((ROOT / f"Dockerfile.{name}").read_text() for name in ("manager", "builder"))
    said = {name for service in SERVICES for name, value in environment(service).items() if value is not None}
    engine = {"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}
    by_default = {"SHARED_ROOT", "STATE_DIR", "CACHE_DIR", "CLOUD_MANAGER_URL", "API_TOKEN_FILE"} | engine
    assert {name for name in FIXED - said - by_default if f"{name}=" not in images} == set()
    assert str(Manager.model_fields["shared_root"].default) == "/shared"
    assert str(Manager.model_fields["state_dir"].default) == "/var/lib/cloud-deploy"


def environment(service: str) -> dict[str, Any]:
    return dict(COMPOSE["services"][service]["environment"])


def test_the_images_are_locked_to_what_pyproject_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise an image lacks a package that the program imports, and is only noticed where it runs."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    from lock_images import judge, wishes

    assert [find for name in wishes() for find in judge(name)] == []


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_entry_for_tangos_own_file_is_the_same_in_both_languages_and_fits(readme: str) -> None:
    """It is pasted into TANGO's compose file: a slip there stops all of TANGO."""
    pasted = re.findall(r"```yaml\n(  cloud_deploy:.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert len(pasted) == 1 and pasted[0] in (ROOT / "README.md").read_text()
    entries = yaml.safe_load(pasted[0])
    assert "cloud-deploy" in entries["cloud_deploy"]["networks"]["default"]["aliases"]
    builder = f"http://{entries['image_builder']['networks']['default']['aliases'][0]}:7007"
    assert entries["cloud_deploy"]["environment"] == [f"IMAGE_BUILDER_URL={builder}"]
    for entry in entries.values():
        assert (ROOT / entry["build"]["dockerfile"]).is_file()
        assert entry["volumes"][0] == "shared:/shared:ro" and entry["volumes"][1].endswith(":/var/lib/cloud-deploy")
