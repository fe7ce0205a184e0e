"""What goes wrong while a page is made, as something a page can show."""

from __future__ import annotations

from image_builder.contract import Problem


class PageProblem(Exception):
    """Shown as a page with cause and fix. Raised where the manager says no, or says nothing."""

    def __init__(self, problem: Problem, status: int) -> None:
        self.problem = problem
        self.status = status
        super().__init__(str(problem))


class ManagerAway(PageProblem):
    """The manager does not answer, or not as one."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(Problem(code="manager_unavailable", cause=cause, fix=fix, retryable=True), 503)
