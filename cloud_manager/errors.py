"""One error tree. Every error has a code, a cause, a fix, and says whether trying again may help.

HTTP codes are decided once, in `app.py`, from `http_status`.
"""

from __future__ import annotations

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


class InvalidSpec(DeployError):
    """deployment.yaml or the files it names are not right."""

    code = "invalid_deployment_yaml"
    http_status = 422


class TargetError(DeployError):
    """A target refused or failed. Final unless said otherwise."""

    code = "target_failed"
    http_status = 502


class Unavailable(DeployError):
    """Something that is needed does not answer now: the builder, the database, a cloud."""

    code = "unavailable"
    http_status = 503
    retryable = True


class BuilderUnavailable(Unavailable):
    code = "builder_unavailable"


class LostOwnership(DeployError):
    """Another manager owns the project now; whatever this one still wants to write is void (fencing)."""

    code = "lost_ownership"
    http_status = 409
    retryable = True
