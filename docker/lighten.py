"""Take from a folder of packages what no program reads that runs: `python lighten.py SITE-PACKAGES`.

Packages' own tests, sources of their compiled parts, databases that are not ours; and, from shared libraries, symbols
and debugging sections, as `strip` would (no binutils are needed). The loader reads what the program headers name; what
lies behind that is for debuggers and linkers: a third of the packages.
https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
"""

import shutil
import struct
import sys
from pathlib import Path

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
FOLDERS = (
    "*/tests",
    "*/testing",
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/mysql",
    "sqlalchemy/dialects/oracle",
)
KINDS = {".c", ".cpp", ".h", ".hpp", ".proto", ".pxd", ".pyi", ".pyx"}
LEXERS = {"__init__.py", "_mapping.py", "python.py"}
"""Of pygments: what shows a traceback in colours. It has 250 more."""
LITTLE_64 = b"\x7fELF\x02\x01"


def strip(path: Path) -> None:
    data = path.read_bytes()
    if not data.startswith(LITTLE_64):
        return
    fields = list(HEADER.unpack_from(data))
    start, size, count = fields[5], fields[9], fields[10]
    segments = [SEGMENT.unpack_from(data, start + number * size) for number in range(count)]
    end = max([start + size * count, *(offset + length for _, _, offset, _, _, length, _, _ in segments)])
    fields[6], fields[12], fields[13] = 0, 0, 0  # no table of sections any more
    mode = path.stat().st_mode
    path.write_bytes(HEADER.pack(*fields) + data[HEADER.size : end])
    path.chmod(mode)


packages = Path(sys.argv[1])
for pattern in FOLDERS:
    for folder in packages.glob(pattern):
        shutil.rmtree(folder)
for each in packages.rglob("*"):
    if each.suffix in KINDS or (each.parent == packages / "pygments" / "lexers" and each.name not in LEXERS):
        each.unlink()
    elif ".so" in each.suffixes and each.is_file() and not each.is_symlink():
        strip(each)
