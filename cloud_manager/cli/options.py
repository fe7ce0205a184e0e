"""What several commands share: options, the builder they name, and the two ways out."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cloud_manager.api_token import token_of
from cloud_manager.cli.builder_api import Builder
from cloud_manager.problem_words import speak
from cloud_manager.settings import ClientSettings
from image_builder.problem_words.catalogue import Words

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
BuilderUrl = Annotated[
    str | None, typer.Option("--builder", help="The image builder; else IMAGE_BUILDER_URL.", show_default=False)
]


def builder(url: str | None) -> Builder:
    settings = ClientSettings()
    return Builder(url or settings.image_builder_url, own_token(), language=settings.language)


def own_words() -> Words:
    """Of the language of this terminal."""
    return speak(ClientSettings().language)


def own_token() -> str:
    """What the manager and the builder are told; empty: nothing. Raises BadToken."""
    settings = ClientSettings()
    return token_of(settings.api_token, settings.api_token_file)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def tell(text: str) -> None:
    """For people, not for pipes: stderr."""
    typer.echo(text, err=True)
