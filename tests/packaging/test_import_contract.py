"""The import contract of what is sent to devices names every module that stays at home."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import edgeport

PACKAGE = Path(edgeport.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
SENT = {"devices.agent", "devices.bandwidth_session", "backends.session_support"}


def modules(folder: str) -> set[str]:
    """Names below `edgeport`: of modules, and of packages as a whole."""
    prefix = f"{folder}." if folder else ""
    found = (path for path in (PACKAGE / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return {prefix + path.stem for path in found if not path.stem.startswith("__")}


def test_whatever_is_not_sent_is_forbidden() -> None:
    if not PROJECT.exists():
        pytest.skip("not a checkout")
    contracts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (agent,) = (contract for contract in contracts if contract["id"] == "agent")
    sources = {name.removeprefix("edgeport.") for name in agent["source_modules"]}
    runtimes = {name for name in modules("backends") if f"{name}.session" in sources}
    assert len(runtimes) == 3
    own = {
        f"{name}.session_support"
        for name in runtimes
        if (PACKAGE.joinpath(*name.split("."), "session_support")).exists()
    }
    assert sources == SENT | {f"{name}.session" for name in runtimes} | own
    at_home = (modules("") - {"backends", "devices"}) | ((modules("devices") | modules("backends")) - SENT - runtimes)
    assert {name.removeprefix("edgeport.") for name in agent["forbidden_modules"]} == at_home
