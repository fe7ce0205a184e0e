"""What of a project stays out of its image: the rules of its `.dockerignore`."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import pathspec

from image_builder.errors import BadBuildRequest
from image_builder.real_path import read_small

IGNORE_FILE = ".dockerignore"
_LARGEST, _RULES_MAX = 1 << 20, 1000

Ignored = Callable[[str], bool]
"""Whether a path below the project, with `/`, stays out."""


def ignored_files(root: Path) -> Ignored:
    """The rules of the project in `root`, a real path.

    Raises:
        BadBuildRequest: the file cannot be read, or is none.
    """
    return ignore_rules(_lines(root))


def ignore_rules(lines: list[str]) -> Ignored:
    """The rules of a `.dockerignore`: https://docs.docker.com/build/concepts/context/#dockerignore-files

    As there: patterns start at the top of the project, the last one that matches decides, `!` takes back in.
    Unlike there: `[!a]` negates as `[^a]` does, and a pattern may not climb out of the project and back in.
    """
    anchored = [pattern for pattern in map(_anchored, lines) if pattern]
    if len(anchored) > _RULES_MAX:
        raise BadBuildRequest(
            f"{IGNORE_FILE} has {len(anchored)} rules", f"Write at most {_RULES_MAX}.", code="bad_ignore_file"
        )
    patterns = []
    for found in pathspec.PathSpec.from_lines("gitignore", anchored).patterns:
        if isinstance(found, pathspec.RegexPattern) and found.regex is not None:
            patterns.append(pathspec.RegexPattern(re.compile(linear(found.regex.pattern), re.DOTALL), found.include))
    return pathspec.PathSpec(patterns).match_file


def _anchored(line: str) -> str:
    text = line.strip()
    if not text or text.startswith("#"):
        return ""
    negated, text = text.startswith("!"), text.removeprefix("!").strip()
    cleaned = posixpath.normpath(text).lstrip("/")
    if cleaned in ("", "."):
        return ""
    return f"{'!' if negated else ''}/{cleaned}"


_STAR, _STARS, _FIRST_STARS = r"[^/]*", r"(?:/.+)?/", r"(?:.+/)?"
"""As pathspec writes `*`, `/**/`, and `**/` at the start."""
_SIGN = r"(?:\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\\[/(])"
_STAR_THEN = re.compile(rf"{re.escape(_STAR)}((?:(?!{re.escape(_STAR)}){_SIGN})+)(?={re.escape(_STAR)})")


def linear(regex: str) -> str:
    r"""An expression of pathspec's that matches the same in time that is bounded by the product of both lengths.

    `*a*a*a*b` would try all ways to share a name among the stars. It is enough that what stands between two stars is
    found as early as can be, once for all (`(?>…)`), as `fnmatch.translate` does.
    """
    regex = re.sub(rf"(?:{re.escape(_STAR)}){{2,}}", lambda _: _STAR, regex)
    regex = _STAR_THEN.sub(lambda found: rf"(?>[^/]*?{found[1]})", regex)
    first, *rest = regex.split(_STARS)
    if first.startswith("^" + _FIRST_STARS) and rest:
        first = rf"^(?>(?:.+?/)??{first.removeprefix('^' + _FIRST_STARS)}(?=/))"
    middle = [rf"(?>(?:/.+?)??/{block}(?=/))" for block in rest[:-1]]
    return "".join([first, *middle, *(_STARS + block for block in rest[-1:])])


def _lines(root: Path) -> list[str]:
    try:
        path = Path(os.path.realpath(root / IGNORE_FILE))
        if not path.is_relative_to(root):
            raise BadBuildRequest(
                f"{IGNORE_FILE} is a link that leads out of the project", "Put the file itself there, or remove it."
            )
        data = read_small(path, _LARGEST)
        if len(data) > _LARGEST:
            raise BadBuildRequest(f"{IGNORE_FILE} has more than {_LARGEST} bytes", "Write fewer and wider rules.")
        return data.decode().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadBuildRequest(
            f"cannot read {IGNORE_FILE}: {error}", "Make it a readable UTF-8 text file, or remove it."
        ) from error
