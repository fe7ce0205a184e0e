"""What makes a folder of packages a virtual environment: https://docs.python.org/3/library/venv.html"""

from __future__ import annotations

import posixpath

from image_builder.layers.tar import Bytes, Entry
from image_builder.layers.wheel import VENV

_PIP = f"""#!/{VENV}/bin/python
import runpy

runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""The base's own `pip` runs with the base's python: it neither lists nor checks nor removes what is in here."""


def venv_entries(interpreter: str, python: str) -> list[Entry]:
    """The links to the interpreter (absolute) of a base, and the note by which it knows where it is. python: X.Y"""
    # The base's own packages stay usable: pip, and what a base for models brings.
    note = f"home = {posixpath.dirname(interpreter)}\ninclude-system-site-packages = true\nversion = {python}\n"
    return [
        Entry(f"{VENV}/pyvenv.cfg", content=Bytes(note.encode())),
        Entry(f"{VENV}/bin/python", "link", target=interpreter),
        Entry(f"{VENV}/bin/python3", "link", target="python"),
        Entry(f"{VENV}/bin/python{python}", "link", target="python"),
        Entry(f"{VENV}/bin/pip", mode=0o755, content=Bytes(_PIP.encode())),
        Entry(f"{VENV}/bin/pip3", "link", target="pip"),
        Entry(f"{VENV}/bin/pip{python}", "link", target="pip"),
    ]
