"""What is tracked is what ships; built from a copy of the tracked files, so that nothing else can slip in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgeport

ROOT = Path(edgeport.__file__).parent.parent
FOLDERS = ("backends", "calibration", "devices", "exporter")
NOT_SHIPPED = ("README.md", "ruff.toml")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory) -> Path:
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(built)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_the_tracked_files_and_no_others(tracked, wheel):
    expected = set()
    for name in tracked:
        top, _, rest = name.partition("/")
        if rest and Path(name).name not in NOT_SHIPPED and not (ROOT / name).is_symlink():
            if top in FOLDERS:
                expected.add(f"edgeport/{name}")
            elif top == "edgeport":
                expected.add(name)
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert sorted(found - expected) == []
    assert sorted(expected - found) == []


def test_the_wheel_carries_licence_and_entry_points(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = (name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        (points,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        assert "edgeport = edgeport.cli:main" in archive.read(points).decode()
        text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert f"Version: {edgeport.__version__}" in text
    heavy = [line for line in text.splitlines() if re.match(r"Requires-Dist: (torch|openvino|tensorrt)", line)]
    assert heavy
    assert all("extra ==" in line for line in heavy)


def test_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import edgeport, edgeport.backends, edgeport.calibration, edgeport.devices, edgeport.exporter, edgeport.api\n"
        "from edgeport.isolation import run_isolated\n"
        "print(edgeport.__file__, edgeport.backends.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(tmp_path)) for path in done.stdout.split())
