"""The folder that EDGEPORT_ZOO names: trained models and data that benchmarks need and the repository has not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["missing"]


def missing(files: Sequence[str]) -> list[str]:
    """Those of the files that are not there; all of them without the folder."""
    folder = os.environ.get("EDGEPORT_ZOO")
    return [name for name in files if folder is None or not Path(folder, name).is_file()]
