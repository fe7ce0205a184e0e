"""The log of one project of the `local` target: one writer (the supervisor), rotated, and readers that follow it."""

from __future__ import annotations

import asyncio
import io
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

NAME = "service.log"
LIMIT = 10 * 1024 * 1024
"""Bytes after which the log is turned over."""
KEPT = 3
LONGEST_LINE = 64 * 1024


class LogWriter:
    """Writes whole lines; the file stays below `limit` bytes, `KEPT` older ones are kept beside it."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._path = folder / NAME
        self._limit = limit
        self._file = self._open()

    def write(self, line: bytes) -> None:
        try:
            if self._file.tell() + len(line) > self._limit:
                self._turn_over()
            self._file.write(line.rstrip(b"\r\n") + b"\n")
        except OSError:
            # A full disk must not stop the service: the line is lost, the next may fit again.
            return

    def say(self, message: str) -> None:
        """A line of the supervisor's own."""
        self.write(f"[cloud-deploy] {message}".encode())

    def close(self) -> None:
        self._file.close()

    def _open(self) -> io.FileIO:
        return io.FileIO(self._path, "a")

    def _turn_over(self) -> None:
        self._file.close()
        for number in range(KEPT - 1, -1, -1):
            older = self._path.with_name(f"{NAME}.{number}" if number else NAME)
            if older.exists():
                older.replace(self._path.with_name(f"{NAME}.{number + 1}"))
        self._file = self._open()


async def pump(stream: asyncio.StreamReader, log: LogWriter, keep: deque[str]) -> None:
    """Copy a program's output line by line to the log; the last lines are kept for error messages."""
    rest = b""
    while chunk := await stream.read(LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _record(line, log, keep)
    if rest:
        _record(rest, log, keep)


def _record(line: bytes, log: LogWriter, keep: deque[str]) -> None:
    log.write(line)
    if text := line.decode(errors="replace").strip():
        keep.append(text)


def last_lines(folder: Path, count: int) -> tuple[list[str], LogPosition]:
    """The last `count` lines over all rotated files, and where to go on reading."""
    position = LogPosition.end_of(folder / NAME)
    lines: deque[str] = deque(maxlen=count)
    for number in range(KEPT, -1, -1):
        path = folder / (f"{NAME}.{number}" if number else NAME)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        if number == 0:
            data = data[: position.offset]
        lines.extend(data.decode(errors="replace").splitlines())
    return list(lines), position


class LogPosition:
    """A place in a log that may be turned over, or not be there yet."""

    def __init__(self, path: Path, inode: int | None, offset: int) -> None:
        self._path = path
        self._inode = inode
        self.offset = offset

    @classmethod
    def end_of(cls, path: Path) -> LogPosition:
        """After the last whole line."""
        try:
            with path.open("rb") as file:
                data = file.read()
                return cls(path, os.fstat(file.fileno()).st_ino, data.rfind(b"\n") + 1)
        except FileNotFoundError:
            return cls(path, None, 0)

    def read(self) -> list[str]:
        """Whole lines written since, the rest of a file that was turned over first."""
        lines: list[str] = []
        for path in self._unread():
            lines += self._read_from(path)
        return lines

    def _unread(self) -> list[Path]:
        """The file we were in, wherever rotation has put it, then all newer ones."""
        newer: list[Path] = []
        for number in range(KEPT + 1):
            path = self._path.with_name(f"{NAME}.{number}") if number else self._path
            if not path.exists():
                break
            newer.insert(0, path)
            if path.stat().st_ino == self._inode:
                break
        return newer

    def _read_from(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            start = self.offset if inode == self._inode else 0
            file.seek(start)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._inode, self.offset = inode, start + whole
        return data[:whole].decode(errors="replace").splitlines()


async def read_log(
    folder: Path, *, tail: int, follow: bool, sleep: Callable[[float], Awaitable[None]]
) -> AsyncIterator[str]:
    """The last `tail` lines, then new ones for ever if `follow`."""
    lines, position = await asyncio.to_thread(last_lines, folder, max(0, tail))
    for line in lines:
        yield line
    while follow:
        for line in await asyncio.to_thread(position.read):
            yield line
        await sleep(0.25)
