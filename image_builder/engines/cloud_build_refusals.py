"""What Google's clients raise, as errors with cause and fix. Pure."""

from __future__ import annotations

import re

from google.api_core import exceptions as google
from google.auth import exceptions as auth

from image_builder.engines.cloud_build_spec import Place
from image_builder.errors import BuildError

LOST = (
    google.ServiceUnavailable,
    google.DeadlineExceeded,
    google.InternalServerError,
    google.BadGateway,
    google.GatewayTimeout,
    google.RetryError,
    google.Unknown,
    OSError,  # of requests and of google-resumable-media, which both say so for a broken connection
)
"""After these nobody knows whether what was asked was done."""

CAUGHT = (google.GoogleAPIError, auth.GoogleAuthError, OSError)
_MESSAGE = re.compile(r'"message": "([^"]+)"')
_DISABLED = re.compile(r"has not been used in project|is disabled|SERVICE_DISABLED")


def translated(error: Exception, place: Place, what: str) -> BuildError:
    """what: was to be done, e.g. `read the bucket x`."""
    words = _words(error)
    cause = f"Cloud Build cannot be used to {what}: {words}"
    if isinstance(error, auth.GoogleAuthError):
        fix = "Correct GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login."
        return BuildError(cause, fix, code="google_credentials", retryable=isinstance(error, auth.TransportError))
    if isinstance(error, google.Forbidden) and _DISABLED.search(words):
        services = "cloudbuild.googleapis.com storage.googleapis.com artifactregistry.googleapis.com"
        return BuildError(
            cause, f"gcloud services enable {services} --project={place.project}", code="google_api_disabled"
        )
    if isinstance(error, google.Forbidden | google.Unauthorized):
        fix = (
            "Give the account roles/cloudbuild.builds.editor in the project "
            f"{place.project}, and roles/storage.objectAdmin on the bucket {place.bucket}."
        )
        return BuildError(cause, fix, code="google_permission")
    return _of_what_is_asked(error, place, words, cause)


def _words(error: Exception) -> str:
    """Google's own; of Cloud Storage's answer the first message in it."""
    said = " ".join(str(getattr(error, "message", "") or error).split())
    inner = _MESSAGE.search(said)
    return (inner[1] if inner else said)[:400]


def _of_what_is_asked(error: Exception, place: Place, words: str, cause: str) -> BuildError:
    if isinstance(error, google.NotFound) or "invalid bucket" in words:
        fix = f"gcloud storage buckets create gs://{place.bucket} --project={place.project} --location={place.region}"
        return BuildError(cause, fix, code="cloud_build_bucket")
    if isinstance(error, google.TooManyRequests):
        fix = f"It is tried again by itself; a larger quota is asked for in the console of {place.project}."
        return BuildError(cause, fix, code="google_quota", retryable=True)
    if isinstance(error, LOST):
        fix = "It is tried again by itself; see to the network or the proxy (https_proxy)."
        return BuildError(cause, fix, code="google_unreachable", retryable=True)
    return BuildError(cause, f"Look at the builds of the project {place.project} in the console.", code="engine_failed")
