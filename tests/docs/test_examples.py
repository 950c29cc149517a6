"""The programs and recipes of examples/ run, and end as they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeport

EXAMPLES = Path(edgeport.__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not a checkout")


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=folder,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `([\w./]+)` \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in EXAMPLES.iterdir()}
    assert named == there - {"README.md", "__pycache__/"}


def test_an_onnx_file(tmp_path: Path) -> None:
    printed = _run("python", str(EXAMPLES / "onnx_file.py"), folder=tmp_path)
    assert re.search(r"^onnxruntime int8: \d+ bytes in model\.onnx$", printed, re.MULTILINE)
    assert re.search(r"^openvino int8: \d+ bytes in model\.xml$", printed, re.MULTILINE)


@pytest.mark.slow  # six pairs of processes
def test_the_python_api(tmp_path: Path) -> None:
    printed = _run("python", str(EXAMPLES / "python_api.py"), folder=tmp_path)
    assert printed.startswith("verified on 64 samples: pass\n")
    assert re.search(r"^against float: [\d.]+x, [\d.]+ to [\d.]+$", printed, re.MULTILINE)


@pytest.mark.slow  # whole runs; tests/docs/test_pages.py follows the same files in README.md
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "program"), [("stripes", "stripes.py"), ("own_metric", "locate.py")])
def test_a_recipe(name: str, program: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    _run("python", program, folder=folder)
    _run("edgeport", "run", "edgeport.toml", folder=folder)
    result = json.loads((folder / "edgeport-out" / "result.json").read_text(encoding="utf-8"))
    assert result["outcome"] == "pass"
    assert result["chosen"]
