"""The manager's own sentences and codes; the form is `image_builder.problem_words`."""

from __future__ import annotations

from image_builder.problem_words.catalogue import Words, words


def speak(language: str) -> Words:
    """Knows the builder's as well: its problems are shown here."""
    return words(language, "image_builder.problem_words", __name__)
