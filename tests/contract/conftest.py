"""Makes the suites of this folder importable by the tests that run them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Tests are imported without their folder on the path; a suite is a module that several of them share.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "devices" / "sessions"))
pytest.register_assert_rewrite("backend_suite", "device_suite")
