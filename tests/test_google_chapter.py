"""The README's chapter on Google, in both languages: what it says to type is what the product needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_manager.targets.cloud_run_preflight_spec import LOGGING, PUBLIC, RUN

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.ko.md")


def chapter(name: str) -> str:
    found = re.search(r"^## [^\n]*Google Cloud Run.*?(?=^## )", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found[0]


@pytest.mark.parametrize("name", READMES)
def test_the_role_holds_the_permissions_that_are_used_and_no_other(name: str) -> None:
    """One too few, and the first deployment fails; one too many, and it is not the least."""
    told = re.search(r"gcloud iam roles create .* --permissions=(\S+)", chapter(name))
    assert told and set(told[1].split(",")) == {*RUN, PUBLIC, *LOGGING}


def test_both_languages_have_the_same_commands_and_files() -> None:
    english, korean = (
        [*re.findall(r"^```(?:sh|yaml)\n.*?^```", chapter(name), re.DOTALL | re.MULTILINE)] for name in READMES
    )
    assert english == korean and len(english) >= 4


@pytest.mark.parametrize("name", READMES)
def test_the_samples_that_are_named_are_there(name: str) -> None:
    for sample in re.findall(r"`(deployment_\w+)\.yaml`", chapter(name)):
        assert (ROOT / "samples" / f"{sample}.yaml").is_file()
    for ending in re.findall(r"`…(_\w+)\.yaml`", chapter(name)):
        assert (ROOT / "samples" / f"deployment_gcp_cloudrun{ending}.yaml").is_file()
