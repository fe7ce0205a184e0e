"""What a person is told of an image's size while typing, and that typing sets nothing in motion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from image_builder.errors import ResolveFailed
from image_builder.size_estimate import Estimator
from image_builder.workshop import Workshop
from tests.image_builder.test_sources import make_source
from tests.image_builder.wheels import make_request, make_wheel, offline


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return tmp_path / "links"


@pytest.fixture
async def workshop(tmp_path: Path, links: Path) -> AsyncIterator[Workshop]:
    opened = Workshop.open(tmp_path / "state", offline(links))
    yield opened
    opened.close()


async def test_packages_are_weighed_with_what_they_need(workshop: Workshop, links: Path) -> None:
    needed = make_wheel(links, "needed", files={"needed.py": bytes(range(256)) * 40})
    wheel = make_wheel(links, "asked", requires=("needed",))
    estimate = await Estimator(workshop).estimate(make_request("asked"))
    assert [(share.name, share.size) for share in estimate.shares] == [
        ("needed", needed.stat().st_size),
        ("asked", wheel.stat().st_size),
    ]
    assert (estimate.size, estimate.unknown) == (needed.stat().st_size + wheel.stat().st_size, 0)


@pytest.mark.parametrize("needs", ["", "dynamic = ['dependencies']\n"], ids=["written", "computed"])
async def test_typing_a_name_runs_no_code_of_a_package(
    workshop: Workshop, links: Path, tmp_path: Path, needs: str
) -> None:
    """Else whoever opens the page could have a source package's setup code run on the builder, be what it needs
    written in it or found out by its code.
    """
    proof = tmp_path / "it-ran"
    make_wheel(links, "asked")
    make_source(links, before=f"open({str(proof)!r}, 'w').close()", project=needs)
    estimate = await Estimator(workshop).estimate(make_request("srconly", "asked"))
    assert [share.name for share in estimate.shares if share.size is None] == ["srconly"]
    assert [share.name for share in estimate.shares if share.size] == ["asked"]
    assert not proof.exists()
    assert not list(workshop.locks.glob("*.toml")), "a build would take this lock for its own"


async def test_an_address_is_not_fetched(workshop: Workshop, links: Path) -> None:
    """Else the page would be a way to ask whatever the builder's network reaches."""
    make_wheel(links, "asked")
    asked: list[str] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        wishes = make_request(f"remote @ http://127.0.0.1:{port}/remote-1.0-py3-none-any.whl", "asked")
        estimate = await Estimator(workshop).estimate(wishes)
    assert [share.name for share in estimate.shares if share.size is None] == ["remote"]
    assert asked == []


async def test_versions_that_disagree_are_told_while_one_types(workshop: Workshop, links: Path) -> None:
    make_wheel(links, "asked", requires=("needed<2",))
    make_wheel(links, "needed", "2.0")
    with pytest.raises(ResolveFailed):
        await Estimator(workshop).estimate(make_request("asked", "needed"))


async def test_an_estimate_that_takes_too_long_is_given_up(workshop: Workshop, links: Path) -> None:
    make_wheel(links, "asked")
    with pytest.raises(TimeoutError):
        await Estimator(workshop, seconds=0).estimate(make_request("asked"))
