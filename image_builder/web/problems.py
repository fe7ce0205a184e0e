"""What goes wrong while a page is made, as something a page can show."""

from __future__ import annotations

from image_builder.contract import Problem
from image_builder.problem_words.speech import speak


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

    def said(self, language: str) -> Problem:
        """In the visitor's language; what the manager itself says is in it already."""
        return speak(language).problem(self.problem)
