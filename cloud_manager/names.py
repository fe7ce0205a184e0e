"""Names: which identifiers are taken, where a project's folder is, and what remote things are called."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

from cloud_manager.deployment import Key
from cloud_manager.errors import BadRequest, NotFound
from cloud_manager.finding import quoted

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
# https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services: a letter first, under 50 characters
_SERVICE_ID_LENGTH = 49
# https://cloud.google.com/resource-manager/docs/labels-overview#requirements
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
OWNER_LABEL = "cloud-deploy-owner"
DEFAULT_OWNER = "cloud-deploy"
"""Whose a service without that label is, too: one of an older release."""
_HASHED_LABEL = re.compile(r".*-h[a-z2-7]{16}")


def check_id(value: str, what: str) -> str:
    """`value`, if it may name a user or a project (`what` says which, e.g. `user_id`).

    1 to 64 ASCII letters, digits, `.`, `_`, `-`, and no dot first: as a folder's name it stays where it is put.

    Raises:
        BadRequest: anything else.
    """
    if _ID.fullmatch(value):
        return value
    raise BadRequest(f"{what} {quoted(value)} {_id_fault(value)}", "Use 1-64 letters, digits, '.', '_' or '-'.")


def _id_fault(value: str) -> str:
    if not value:
        return "is empty"
    if len(value) > 64:
        return f"has {len(value)} characters; at most 64 are allowed"
    if value.startswith("."):
        return "begins with a dot"
    wrong = next(character for character in value if not _ID.fullmatch(f"a{character}"))
    return f"holds the character {wrong!r}"


def project_dir(shared_root: Path, key: Key) -> Path:
    """The folder `shared_root/common/<user>/<project>`, links resolved, still written under `shared_root`.

    Raises:
        NotFound: the user or the project has no folder, or a symbolic link leads out of `shared_root/common`.
    """
    root = _real(shared_root / "common", "the folder `common` of the shared root")
    user = _inside(root, root / key.user_id, f"user {key.user_id}")
    project = _inside(root, user / key.project_id, f"project {key.project_id} of user {key.user_id}")
    return shared_root / "common" / project.relative_to(root)


def make_project_dir(shared_root: Path, key: Key) -> Path:
    """As `project_dir`; the user's folder and the project's are made where they are missing.

    Raises:
        NotFound: there is no shared folder, or a symbolic link leads out of it.
        OSError: they cannot be made.
    """
    root = _real(shared_root / "common", "the folder `common` of the shared root")
    (root / key.user_id).mkdir(exist_ok=True)
    (_inside(root, root / key.user_id, f"user {key.user_id}") / key.project_id).mkdir(exist_ok=True)
    return project_dir(shared_root, key)


def _inside(root: Path, folder: Path, what: str) -> Path:
    real = _real(folder, what)
    if root not in real.parents:
        raise NotFound(
            f"the folder of {what} is a link to a place outside the shared folder",
            "Put the project's files into the shared folder itself.",
        )
    return real


def _real(folder: Path, what: str) -> Path:
    try:
        real = Path(os.path.realpath(folder, strict=True))
        if real.is_dir():
            return real
        reason = "is not a folder"
    except FileNotFoundError:
        reason = "does not exist"
    except OSError as error:  # no permission, links in a circle, a name too long for this disk
        reason = f"cannot be read: {error.strerror}"
    raise NotFound(f"{what} {reason}", "Check user_id and project_id; TANGO's code generator makes the folder.")


def service_id(key: Key, service_name: str | None = None, owner: str = DEFAULT_OWNER) -> str:
    """What the service of a project is called remotely: readable, and different for every project and installation.

    A letter first, then lowercase letters, digits and `-`, at most 49 characters (Cloud Run's rule).
    """
    other = () if owner == DEFAULT_OWNER else (owner,)
    suffix = _short_hash(key.user_id, key.project_id, *other, length=10)
    default = "-".join((*other, key.user_id, key.project_id))
    words = re.sub(r"[^a-z0-9]+", "-", (service_name or default).lower()).strip("-")
    if not words[:1].isalpha():
        words = f"s-{words}"
    return f"{words[: _SERVICE_ID_LENGTH - 1 - len(suffix)].strip('-')}-{suffix}"


def labels(key: Key, revision: str, owner: str = DEFAULT_OWNER) -> dict[str, str]:
    """Ownership labels of a remote object: valid on Google Cloud, different for different projects.

    owner: the installation, for several may share one Google project.
    """
    return {
        "managed-by": "cloud-deploy",
        OWNER_LABEL: owner,
        "cloud-deploy-user": _label(key.user_id),
        "cloud-deploy-project": _label(key.project_id),
        "cloud-deploy-revision": _label(revision),
    }


def _label(value: str) -> str:
    """The value itself if it is a valid label; else readable letters and a hash. No two values share a label:
    one that merely looks like a hashed one is hashed too."""
    if _LABEL.fullmatch(value) and not _HASHED_LABEL.fullmatch(value):
        return value
    readable = re.sub(r"[^a-z0-9_-]", "-", value.lower())[:44]
    return f"{readable}-h{_short_hash(value, length=16)}"


def _short_hash(*parts: str, length: int) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:length]
