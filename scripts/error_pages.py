"""Writes docs/errors from the catalogues of both packages."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "errors"


def pages() -> dict[str, str]:
    """Name of the file -> its text."""
    from cloud_manager.problem_words import speak
    from image_builder.problem_words.pages import markdown

    return {"README.md": markdown(speak("en")), "README.ko.md": markdown(speak("ko"))}


def main() -> None:
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/errors/{name}\n")


if __name__ == "__main__":
    main()
