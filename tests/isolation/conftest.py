from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def jobs(monkeypatch) -> str:
    """Makes `isolation_jobs` importable here; children must find it by the path that is forwarded to them."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    return folder
