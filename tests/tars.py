"""Unpacking in tests, on every python that we serve."""

from __future__ import annotations

import tarfile
from pathlib import Path


def extract(tar: tarfile.TarFile, folder: Path) -> None:
    """`extractall(filter="data")`, which python has from 3.11.4 on and warns about the lack of from 3.12 on."""
    tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
    tar.extractall(folder)
