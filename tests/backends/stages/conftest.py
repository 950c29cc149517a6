from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def graphs():
    """The module `graphs_of_parts.py` of this folder."""
    spec = importlib.util.spec_from_file_location("graphs_of_parts", Path(__file__).with_name("graphs_of_parts.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
