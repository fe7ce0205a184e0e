"""The builder's error tree; each error becomes a `Problem` on the wire. HTTP codes are decided in `app.py`."""

from __future__ import annotations

from image_builder.contract import Problem

_LONGEST = 4000
"""Characters of a cause: what was sent may be quoted in it."""


class BuildError(Exception):
    """A build cannot go on. `str(error)` is `<cause>. <fix>`."""

    code = "build_failed"
    http_status = 500
    retryable = False

    def __init__(self, cause: str, fix: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        self.problem = Problem(
            code=code or self.code,
            cause=one_line(cause)[:_LONGEST],
            fix=one_line(fix),
            retryable=self.retryable if retryable is None else retryable,
        )
        super().__init__(str(self.problem))


class BadBuildRequest(BuildError):
    """The request asks for something that cannot be: outside the shared root, not supported yet, a bad name."""

    code = "bad_build_request"
    http_status = 422


class BuildNotFound(BuildError):
    code = "build_not_found"
    http_status = 404


class ImageNotFound(BuildError):
    code = "image_not_found"
    http_status = 404


class NoDockerfile(BuildError):
    """A build that cannot be said as a Dockerfile, or not yet."""

    code = "no_dockerfile"
    http_status = 409


class QueueFull(BuildError):
    code = "queue_full"
    http_status = 429
    retryable = True


class ResolveFailed(BuildError):
    """The python requirements cannot be met. Final: only a changed request helps."""

    code = "resolve_failed"


class FetchFailed(BuildError):
    """A wheel could not be downloaded."""

    code = "fetch_failed"
    retryable = True


class SourceChanged(BuildError):
    """A project file changed while it was read; the request must be planned again."""

    code = "source_changed"
    http_status = 409
    retryable = True


class DiskFull(BuildError):
    code = "disk_full"
    http_status = 507
    retryable = True


class Stopping(BuildError):
    """The builder is being stopped; the next one goes on with what was asked."""

    code = "stopping"
    http_status = 503
    retryable = True


def one_line(text: str) -> str:
    """What cannot be shown is written as python writes it: names of files may hold any bytes, and orders to a terminal.

    Bytes of a name that are not UTF-8 become `\\xff`.
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # https://peps.python.org/pep-0383/
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()
