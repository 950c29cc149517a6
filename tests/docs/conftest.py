"""The module pages.py beside this file; tests are no package, so it is loaded by its path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pages", Path(__file__).with_name("pages.py"))
    if spec is None or spec.loader is None:
        raise ImportError("pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_PAGES = _load()


@pytest.fixture(scope="session")
def pages() -> ModuleType:
    return _PAGES
