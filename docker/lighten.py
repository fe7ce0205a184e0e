"""Take symbols and debugging sections from the shared libraries in a folder, as `strip` would: no binutils are needed.

`python strip_libraries.py FOLDER`. The loader reads what the program headers name; what lies behind that is for
debuggers and linkers: a third of the packages. https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
"""

import struct
import sys
from pathlib import Path

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
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


for each in Path(sys.argv[1]).rglob("*.so*"):
    if each.is_file() and not each.is_symlink():
        strip(each)
