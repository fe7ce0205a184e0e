"""One error tree. Every error has a code, a cause, a fix, and says whether trying again may help.

HTTP codes are decided once, in `app.py`, from `http_status`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from cloud_manager.finding import Finding, in_order, summary
from image_builder.contract import Problem


class DeployError(Exception):
    """Base of all errors that a person may meet. `str(error)` is `<cause>. <fix>`."""

    code = "internal"
    http_status = 500
    retryable = False

    def __init__(self, cause: str, fix: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        self.problem = Problem(
            code=code or self.code,
            cause=cause,
            fix=fix,
            retryable=self.retryable if retryable is None else retryable,
        )
        super().__init__(str(self.problem))

    @classmethod
    def of(cls, problem: Problem) -> DeployError:
        """The error that carries a problem reported by another process."""
        return cls(problem.cause, problem.fix, code=problem.code, retryable=problem.retryable)


class BadRequest(DeployError):
    """The call itself is wrong: an identifier, a header, a parameter."""

    code = "bad_request"
    http_status = 400


class Forbidden(DeployError):
    """The call is understood and refused, e.g. a cross-site request."""

    code = "forbidden"
    http_status = 403


class NotFound(DeployError):
    """No such project, deployment or file."""

    code = "not_found"
    http_status = 404


class Conflict(DeployError):
    """The call is right, but the project is not in a state for it."""

    code = "conflict"
    http_status = 409


class InvalidSpec(DeployError):
    """deployment.yaml or the files it names are not right. `findings` says where, in the order of the file."""

    code = "invalid_deployment_yaml"
    http_status = 422
    findings: tuple[Finding, ...] = ()

    @classmethod
    def found(cls, findings: Iterable[Finding], *, fix: str = "", retryable: bool = False) -> Self:
        """One error for all findings (at least one); `problem.cause` holds them in one line."""
        rows = in_order(findings)
        many = "Mend these lines and start again." if len(rows) > 1 else "Mend this line and start again."
        error = cls(summary(rows), fix or many, retryable=retryable)
        error.findings = rows
        return error


class TargetError(DeployError):
    """A target refused or failed. Final unless said otherwise."""

    code = "target_failed"
    http_status = 502


class Unavailable(DeployError):
    """Something that is needed does not answer now: the builder, the database, a cloud."""

    code = "unavailable"
    http_status = 503
    retryable = True


class PlaceUnavailable(Unavailable):
    """Where services run does not answer: nobody can say that they run."""


class BuilderUnavailable(Unavailable):
    code = "builder_unavailable"


class LostOwnership(DeployError):
    """Another manager owns the project now; whatever this one still wants to write is void (fencing)."""

    code = "lost_ownership"
    http_status = 409
    retryable = True
