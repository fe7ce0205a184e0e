"""What uv says when it cannot resolve, in words for the person who wrote the requirement. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.requirements import Requirement as PythonRequirement
from packaging.utils import canonicalize_name

from image_builder.contract import Requirement
from image_builder.errors import BuildError, DiskFull, ResolveFailed

_LONGEST = 600
_NETWORK = re.compile(
    r"failed to fetch|error sending request|request failed after|dns error|connection refused|timed out|"
    r"connection reset|server error|network (is )?unreachable|too many requests",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(401 unauthorized|403 forbidden)\b|lack of valid authentication", re.IGNORECASE)

# (what uv writes, code, fix), the first that matches is meant.
_KINDS = (
    (
        r"was not found in the (package registry|provided package locations|cache)",
        "package_not_found",
        "Correct the name, or tell the builder of the index that has it (UV_INDEX, or pip's extra-index-url).",
    ),
    (
        r"building from source is disabled|no usable wheels|has no wheels\b(?! with)",
        "source_only",
        "Ask for a version that comes as a wheel for the image's platform and python.",
    ),
    (
        r"no wheels with a matching|does not satisfy Python|depends on Python|wheels are available for",
        "no_matching_wheel",
        "Ask for another version of the package, or of python, that fit each other and the platform.",
    ),
    (
        r"there (is|are) no versions? of|only .{0,200}(is|are) available|no version of",
        "version_not_found",
        "Ask for a version that exists, or leave the version out.",
    ),
)


def failure(errors: str, requirements: Sequence[Requirement]) -> BuildError:
    """The error for what uv wrote to stderr. It names the lines of deployment.yaml whose packages uv speaks of."""
    cause = _one_line(errors)
    if "no space left on device" in errors.lower():
        return DiskFull(f"no space left while packages were resolved: {cause}", "Make room, then start it again.")
    solved = "no solution found" not in errors.lower()
    if _DENIED.search(errors):
        return ResolveFailed(
            f"{_places(cause, requirements)}the package index refuses access: {cause}",
            "Give the builder the right credentials (in the index's address, or in ~/.netrc).",
            code="index_denied",
        )
    if "invalid peer certificate" in errors:
        return ResolveFailed(
            f"the certificate of the package index is not trusted: {cause}",
            "Set SSL_CERT_FILE to the CA bundle of your network.",
            code="index_untrusted",
        )
    if solved and _NETWORK.search(errors):
        return ResolveFailed(
            f"the package index cannot be reached: {cause}",
            "It is tried again by itself; see to the network, the proxy or the index's address if it lasts.",
            code="index_unreachable",
            retryable=True,
        )
    code, fix = _kind(errors)
    return ResolveFailed(f"{_places(cause, requirements)}{cause}", fix, code=code)


def _kind(errors: str) -> tuple[str, str]:
    flat = " ".join(errors.split())
    for pattern, code, fix in _KINDS:
        if re.search(pattern, flat):
            return code, fix
    return "resolve_conflict", "Change the versions asked for so that they agree with each other."


def _one_line(errors: str) -> str:
    """The reason without uv's layout: older versions draw a tree (`╰─▶`), newer ones write `cause:`."""
    text = " ".join(re.sub(r"[\u00d7╰─▶│├]", " ", errors).split())
    text = re.sub(r"^.*?\berror:\s*", "", text)
    text = re.sub(r"^No solution found when resolving dependencies:?( for [^:]*:)?\s*", "", text)
    text = re.sub(r"\s*\bcause:\s*", ": ", text).lstrip(": ")
    text = text.partition(" hint: ")[0]
    # In a chain of reasons each counts; with a single one the conclusion says nothing new.
    single = re.match(
        r"Because ((?:(?!, we can conclude).)*?)(?: and you require [^,]*)?, we can conclude [^.]*\.?$", text
    )
    return (single[1] if single else text).strip().rstrip(".")[:_LONGEST]


def _places(cause: str, requirements: Sequence[Requirement]) -> str:
    """`file:line:column: path: ` of every requirement that the text speaks of."""
    named = [row.origin for row in requirements if row.origin and _speaks_of(cause, row)]
    return "".join(f"{origin}: " for origin in dict.fromkeys(named))


def _speaks_of(cause: str, requirement: Requirement) -> bool:
    name = canonicalize_name(PythonRequirement(requirement.text).name)
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", cause, re.IGNORECASE) is not None


def is_about_building(cause: str) -> bool:
    """True if packages that come as wheels might do where a source did not."""
    return re.search(r"failed to (download and )?build|build backend|build isolation", cause, re.IGNORECASE) is not None
