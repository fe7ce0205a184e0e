"""Judging a deployment.yaml on this machine, without a manager."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cloud_manager import deployment_yaml, project_files
from cloud_manager.errors import InvalidSpec
from cloud_manager.finding import Finding
from image_builder.problem_words.catalogue import Words

FILE = "deployment.yaml"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a file. Without findings it is good; notes tell what was translated or assumed."""

    file: str
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def told(self, words: Words) -> Verdict:
        """The same in another language."""
        findings = tuple(replace(each, message=words.text(each.message)) for each in self.findings)
        return replace(self, notes=tuple(map(words.text, self.notes)), findings=findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "valid": not self.findings,
            "notes": list(self.notes),
            "findings": [asdict(finding) for finding in self.findings],
        }


def judge(path: Path, *, files: bool) -> Verdict:
    """Judge a file, or the deployment.yaml of a project folder.

    Args:
        files: also check that what the file names exists beside it.

    Raises:
        InvalidSpec: there is no such file, or it cannot be read; nothing can be said of its lines.
    """
    file = path / FILE if path.is_dir() else path
    try:
        loaded = deployment_yaml.load(file, display=str(file))
    except InvalidSpec as error:
        if not error.findings:
            raise
        return Verdict(str(file), findings=tuple(error.findings))
    findings = tuple(project_files.check(loaded, file.parent)) if files else ()
    return Verdict(str(file), loaded.notes, findings)


def schema() -> dict[str, Any]:
    return deployment_yaml.json_schema()
