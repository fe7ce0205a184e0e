"""The memory from which status requests are answered: no disk, no database, no cloud call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from cloud_manager.deployment import Deployment, Key, Phase

_WORDS: dict[Phase, bytes] = {phase: phase.value.encode() for phase in Phase}


class Board:
    """The status word of every known project. Rows are kept in the database; this holds one reference per project."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], bytes] = {}
        self._updated: dict[tuple[str, str], float] = {}
        self.listeners: set[Callable[[Deployment], None]] = set()
        """Called with every row that is newer than what was known; they return at once."""
        self._kinds: dict[tuple[str, str], tuple[str, str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def word(self, user_id: str, project_id: str) -> bytes | None:
        """The status word, e.g. b"running", or None for a project that was never started."""
        return self._words.get((user_id, project_id))

    def put(self, deployments: Iterable[Deployment]) -> None:
        """Take over newer rows; an older one (read before a write that we know of) changes nothing."""
        for row in deployments:
            key = (row.key.user_id, row.key.project_id)
            known = self._updated.get(key, 0.0)
            if row.updated >= known:
                self._words[key] = _WORDS[row.phase]
                self._updated[key] = row.updated
                self._count(key, (row.phase.value, row.spec.deploy.type if row.spec else ""))
                for listener in self.listeners if row.updated > known else ():
                    listener(row)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Projects by status word and `deploy.type`, which is empty for one without a file. Kept, not counted now."""
        return self._counts

    def _count(self, key: tuple[str, str], kind: tuple[str, str]) -> None:
        before = self._kinds.get(key)
        if before == kind:
            return
        self._kinds[key] = kind
        self._counts[kind] += 1
        if before is not None:
            self._counts[before] -= 1

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, key: Key) -> bool:
        return (key.user_id, key.project_id) in self._words
