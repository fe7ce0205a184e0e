"""Runs alone, by the interpreter that the bytecode is for: modules below `src` become bytecode below `out`.

stdin: paths relative to both, one on each line. stdout: those that do not compile. Works in the current folder.
The files are of the kind that is never compared with its source (https://peps.python.org/pep-0552/), since a layer's
times are all the same; the path in them is that in the image.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys

_UNCHECKED = (1).to_bytes(4, "little")


def main() -> None:
    for line in sys.stdin.buffer:
        path = os.fsdecode(line.rstrip(b"\n"))
        try:
            _compile(path)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            sys.stdout.buffer.write(line)  # as with pip: what is no module of this python stays source only


def _compile(path: str) -> None:
    with open(os.path.join("src", path), "rb") as file:  # noqa: PTH118, PTH123 - starts faster without pathlib
        source = file.read()
    code = compile(source, f"/{path}", "exec", dont_inherit=True)
    target = os.path.join("out", importlib.util.cache_from_source(path))  # noqa: PTH118
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    with open(target, "wb") as file:  # noqa: PTH123
        hashed = importlib.util.source_hash(source)
        file.write(importlib.util.MAGIC_NUMBER + _UNCHECKED + hashed + marshal.dumps(code))


if __name__ == "__main__":
    main()
