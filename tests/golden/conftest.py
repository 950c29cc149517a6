"""The option that writes the goldens anew, a folder of small models, and the command line in this process."""

from __future__ import annotations

import importlib.util
import itertools
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"golden_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_SNAPSHOT, _PROBLEM = _load("snapshot"), _load("problem")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/data anew, from two runs")


@pytest.fixture(scope="session")
def snapshot() -> ModuleType:
    return _SNAPSHOT


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Any:
    update = request.config.getoption("--update-golden", default=False)
    return _SNAPSHOT.Golden(folder=Path(__file__).with_name("data"), update=update)


@pytest.fixture(scope="session")
def _problem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("problem")
    _PROBLEM.write_problem(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def fresh(tmp_path: Path, _problem: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """`fresh()` goes to a new folder of models, samples and recipes, with a store of its own."""
    count = itertools.count()

    def fresh() -> Path:
        folder = shutil.copytree(_problem, tmp_path / f"{next(count)}" / "work")
        monkeypatch.chdir(folder)
        for variable in ("STORE", "CONFIG"):
            monkeypatch.setenv(f"EDGEPORT_{variable}", str(folder.parent / variable.lower()))
        return folder

    return fresh


@pytest.fixture
def edgeport(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ran]:
    """The console script, in this process."""

    def call(line: str) -> Ran:
        from edgeport.cli import main

        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["edgeport", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Ran(code=int(end.value.code or 0), out=captured.out, err=captured.err)

    return call
