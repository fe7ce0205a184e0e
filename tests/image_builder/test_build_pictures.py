"""What a build's page draws and says: areas that are true, and words that name what was slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder.contract import BuildRequest, BuildState, BuildStatus, BuildSummary, LayerProgress
from image_builder.web.build_costs import sentences, steps_of
from image_builder.web.builds_page import project_of
from image_builder.web.image_picture import fitting, picture
from image_builder.web.words import read_words


def layer(name: str, size: int, state: str = "built", seconds: float = 0.0) -> LayerProgress:
    return LayerProgress.model_validate(
        {"name": name, "kind": "wheel", "state": state, "size": size, "seconds": seconds}
    )


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=100), st.sampled_from([(1000, 300), (340, 380)]))
def test_every_layer_is_to_be_seen_and_none_covers_another(sizes: list[int], shape: tuple[int, int]) -> None:
    """A picture that hides the layer one looks for, or lies about what is large, is worse than none."""
    width, height = shape
    drawn = picture([layer(f"l{n}", size) for n, size in enumerate(sizes)], width, height)
    assert len(drawn.boxes) == len(sizes)
    for box in drawn.boxes:
        assert box.width >= 1 and box.height >= 1
        assert box.x >= 0 and box.y >= 0 and box.x + box.width <= width + 1 and box.y + box.height <= height + 1
    for one, other in zip(drawn.boxes, drawn.boxes[1:], strict=False):
        apart = one.x + one.width <= other.x + 0.2 or other.x + other.width <= one.x + 0.2
        assert apart or one.y + one.height <= other.y + 0.2 or other.y + other.height <= one.y + 0.2


def test_areas_are_as_the_bytes_are() -> None:
    boxes = picture([layer("torch", 300_000_000), layer("numpy", 100_000_000)], 1000, 300).boxes
    areas = {box.name: box.width * box.height for box in boxes}
    assert areas["torch"] / areas["numpy"] == pytest.approx(3, rel=0.05)
    assert [box.size for box in boxes] == ["300 MB", "100 MB"]
    assert picture([layer("not here yet", 0)], 1000, 300).boxes == ()


def test_words_fit_into_their_area() -> None:
    assert fitting("numpy 2.4", 200) == "numpy 2.4"
    assert fitting("numpy 2.4", 70) == "numpy…" and fitting("numpy 2.4", 30) == ""


def status(**changes: object) -> BuildStatus:
    request = BuildRequest(owner="7/42", source="common/7/42", entrypoint=("python", "a.py"))
    base: dict[str, object] = {"id": "a" * 32, "state": BuildState.SUCCEEDED, "request": request, "created": 100.0}
    return BuildStatus.model_validate(base | changes)


def said(told: BuildStatus) -> list[str]:
    words = read_words()
    return sentences(lambda key, **values: words.say("en", key, **values), told)


def test_what_was_slow_is_named() -> None:
    summary = BuildSummary(
        fetched=190_000_000, built=200_000_000, uploaded=9, steps={"resolve": 1.0, "fetch": 9.0}, slowest="torch 2.13.0"
    )
    torch = layer("torch 2.13.0", 190_000_000, seconds=8.4)
    told = said(status(finished=130.0, summary=summary, layers=(torch,)))
    assert told == [
        "9.0 s of 10 s: fetching.",
        "The layer that took longest is torch 2.13.0: 8.4 s.",
        "It waited 20 s before it began.",
        "190 MB of packages came over the network.",
        "200 MB of layers were made anew.",
        "9 B were sent to the registry.",
    ]


def test_of_a_quick_build_nothing_is_called_slow() -> None:
    summary = BuildSummary(reused=5_000_000, steps={"resolve": 0.01, "layers": 0.2})
    assert said(status(finished=100.3, summary=summary)) == ["5.0 MB were there already."]
    assert [step.name for step in steps_of(summary)] == ["layers"]
    assert said(status(state=BuildState.RUNNING)) == []


@pytest.mark.parametrize(
    ("owner", "address"),
    [("7/42", "/deployments/7/42"), ("cli/common/7/42", ""), ("cli/x", ""), ("a b/1", ""), ("../x", "")],
)
def test_a_build_leads_to_the_project_that_asked(owner: str, address: str) -> None:
    assert project_of(owner) == address
