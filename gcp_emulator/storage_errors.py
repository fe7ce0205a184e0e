"""What goes wrong, in the words and the JSON of Cloud Storage.

https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

from typing import Any

_PRECONDITION = "At least one of the pre-conditions you specified did not hold."


class StorageError(Exception):
    """`status` is HTTP's; `reason` and `location` are what client libraries look at."""

    def __init__(self, status: int, reason: str, message: str, *, location: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location

    def body(self) -> dict[str, Any]:
        """`{"error": {"code", "message", "errors": [{"message", "domain", "reason", …}]}}`"""
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location is not None:
            detail["locationType"], detail["location"] = self.location
        error: dict[str, Any] = {"code": self.status, "message": self.message, "errors": [detail]}
        if self.status == 501:
            error["status"] = "UNIMPLEMENTED"
        return {"error": error}


class NotModified(Exception):
    """304: a read whose "not match" condition found what the client has already. It has no body."""


class RangeNotSatisfiable(Exception):
    """416; `size` is that of the object, which the answer names."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class PlainError(StorageError):
    """One that the upload servers answer as text instead of JSON."""


def no_bucket() -> StorageError:
    return StorageError(404, "notFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> StorageError:
    return StorageError(404, "notFound", f"No such object: {bucket}/{name}")


def no_session() -> StorageError:
    return PlainError(404, "notFound", "Upload session not found: it never was, or it has expired.")


def condition_not_met(location: str = "If-Match") -> StorageError:
    return StorageError(412, "conditionNotMet", _PRECONDITION, location=("header", location))


def conflict(message: str) -> StorageError:
    return StorageError(409, "conflict", message)


def invalid(message: str) -> StorageError:
    return StorageError(400, "invalid", message)


def invalid_parameter(name: str, value: str) -> StorageError:
    return StorageError(400, "invalidParameter", f"Invalid value '{value}' of {name}.", location=("parameter", name))


def required(name: str) -> StorageError:
    return StorageError(400, "required", f"Required parameter: {name}", location=("parameter", name))


def unimplemented(name: str) -> StorageError:
    """`name` is the method, parameter or field that is not served."""
    return StorageError(501, "notImplemented", f"{name} is not served by gcp_emulator.")


def unauthenticated(method: str, *, anonymous: bool) -> StorageError:
    """https://cloud.google.com/storage/docs/json_api/v1/status-codes#401-unauthorized"""
    if anonymous:
        words = f"Anonymous caller does not have {method} access to the Google Cloud Storage resource."
        return StorageError(401, "required", words, location=("header", "Authorization"))
    return StorageError(401, "authError", "Invalid Credentials", location=("header", "Authorization"))
