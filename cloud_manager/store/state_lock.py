"""One manager per state folder: a lock on a file, held until the store is closed or the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cloud_manager.errors import DeployError


class StateLock:
    """An exclusive `flock`. The kernel lets go of it with the process, however that ends, so it is never stale.

    The file itself stays: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            DeployError: `state_dir_in_use`, another process holds it.
            OSError: the file cannot be made.
        """
        # O_CLOEXEC, which python sets: a service started by the manager must not inherit the lock and outlive it.
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._refused(path) from error
        except OSError:
            self.release()
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refused(self, path: Path) -> DeployError:
        holder = os.read(self._file, 20).decode("ascii", "replace").strip() if self._file is not None else ""
        self.release()
        return DeployError(
            f"another manager (pid {holder or 'unknown'}) works on this state: it holds {path}",
            "stop that one first, give this one its own STATE_DIR, or use PostgreSQL for several managers",
            code="state_dir_in_use",
        )
