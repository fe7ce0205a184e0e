"""What goes wrong in Artifact Registry, in its words.

Form: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from gcp_emulator.faults import Fault
from gcp_emulator.run_errors import Refused

_CODES = {"PERMISSION_DENIED": "DENIED", "RESOURCE_EXHAUSTED": "TOOMANYREQUESTS", "UNAUTHENTICATED": "UNAUTHORIZED"}


class RegistryError(Exception):
    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def response(self) -> Response:
        body = {"errors": [{"code": self.code, "message": self.message}]}
        return JSONResponse(body, status_code=self.status, headers=self.headers)


def fault_response(fault: Fault, words: str) -> Response:
    return RegistryError(fault.http_status, _CODES.get(fault.code, fault.code), words).response()


def disabled(refused: Refused) -> Response:
    """The API is not enabled."""
    return RegistryError(403, "DENIED", refused.message).response()


def denied(action: str, resource: str, *, anonymous: bool) -> RegistryError:
    """action: `download` or `upload`."""
    permission = f"artifactregistry.repositories.{action}Artifacts"
    if anonymous:
        words = f'Unauthenticated request. Unauthenticated requests do not have permission "{permission}" on resource'
        return RegistryError(403, "DENIED", f'{words} "{resource}" (or it may not exist)')
    return RegistryError(
        403, "DENIED", f'Permission "{permission}" denied on resource "{resource}" (or it may not exist)'
    )


def no_repository(name: str) -> RegistryError:
    return RegistryError(404, "NAME_UNKNOWN", f'Repository "{name}" not found')


def bad_name(name: str) -> RegistryError:
    return RegistryError(400, "NAME_INVALID", f'"{name}" is not PROJECT/REPOSITORY/IMAGE')


def no_manifest(reference: str, path: str) -> RegistryError:
    return RegistryError(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{reference}" from request "{path}".')


def bad_manifest(why: str) -> RegistryError:
    return RegistryError(400, "MANIFEST_INVALID", why)


def no_part(digest: str) -> RegistryError:
    return RegistryError(400, "MANIFEST_BLOB_UNKNOWN", f"Manifest refers to {digest}, which is not in this image.")


def tagged(digest: str, tags: list[str]) -> RegistryError:
    words = f"Manifest {digest} is still referenced by tag: {', '.join(tags)}."
    return RegistryError(400, "GOOGLE_MANIFEST_DANGLING_TAG", words)


def no_blob(digest: str) -> RegistryError:
    return RegistryError(404, "BLOB_UNKNOWN", f"Failed to fetch {digest}.")


def no_upload() -> RegistryError:
    return RegistryError(404, "BLOB_UPLOAD_UNKNOWN", "The upload session does not exist, or it has ended.")


def bad_digest(said: str, found: str) -> RegistryError:
    return RegistryError(400, "DIGEST_INVALID", f"Digest {said} was promised, and {found} came.")


def unsupported(status: int, method: str, path: str) -> RegistryError:
    return RegistryError(status, "UNSUPPORTED", f"UNIMPLEMENTED: {method} {path} is not served by gcp_emulator.")
