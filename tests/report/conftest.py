from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edgeport.contracts import RunResult

_CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module fake_result beside this file."""
    return _beside("fake_result")


@pytest.fixture(scope="session")
def variants() -> ModuleType:
    """The module variants beside this file."""
    return _beside("variants")


def _beside(name: str) -> ModuleType:
    """Tests are no package, so a module beside this file is loaded by its path."""
    spec = importlib.util.spec_from_file_location(f"report_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def result(fake: ModuleType) -> RunResult:
    made: RunResult = fake.make_result(Path("run"))
    return made


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], str]:
    """Opens a page in headless Chromium and returns the document as it is once its scripts have run."""
    if _CHROMIUM is None:
        pytest.skip("headless Chromium is not installed")

    def dump(page: Path) -> str:
        switches = (
            "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
            "disable-component-update disable-sync window-size=1300,5000 virtual-time-budget=8000 dump-dom"
        )
        command = [str(_CHROMIUM), *(f"--{switch}" for switch in switches.split())]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [*command, profile, page.as_uri()], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout

    return dump
