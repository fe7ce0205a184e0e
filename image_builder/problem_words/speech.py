"""The words of the image builder."""

from __future__ import annotations

from image_builder.problem_words.catalogue import Words, words


def speak(language: str) -> Words:
    return words(language, "image_builder.problem_words")
