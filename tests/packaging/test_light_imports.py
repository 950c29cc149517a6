"""What is imported before anybody asked for work."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "onnx", "onnx_ir", "scipy")
HEAVY += ("pydantic", "rich", "sklearn", "bokeh", "psutil", "safetensors", "timm", "torchvision")

_SAY = "import sys; print([name for name in {heavy!r} if name in sys.modules])"


def _loaded(code: str, *heavy: str) -> str:
    command = [sys.executable, "-c", f"{code}\n{_SAY.format(heavy=heavy or HEAVY)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "name",
    [
        "edgeport",
        "edgeport.api",
        "edgeport.backends",
        "edgeport.backends.onnxruntime",
        "edgeport.backends.openvino",
        "edgeport.backends.tensorrt",
        "edgeport.calibration",
        "edgeport.cli",
        "edgeport.contracts",
        "edgeport.devices",
        "edgeport.errors",
        "edgeport.exporter",
        "edgeport.isolation",
        "edgeport.onnx_files",
        "edgeport.store",
    ],
)
def test_importing_a_package_loads_nothing_heavy(name):
    assert _loaded(f"import {name}") == "[]"


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['edgeport', '--help']\nfrom edgeport.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass"
    assert _loaded(code, *(name for name in HEAVY if name != "rich")) == "[]"


def test_importing_edgeport_loads_nothing_of_its_own_but_itself():
    code = "import sys, edgeport; print(sorted(name for name in sys.modules if name.startswith('edgeport.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell a child's CPU time")
def test_help_costs_little_more_than_an_empty_python():
    """CPU seconds, so that other work on the machine counts less; pairs, because the machine's speed drifts."""

    def cpu_s(*arguments: str) -> float:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    asked = ("-c", "import sys; sys.argv = ['edgeport', '--help']; from edgeport.cli import main; main()")
    cpu_s(*asked)  # writes the bytecode
    extra = [cpu_s(*asked) - cpu_s("-c", "pass") for _ in range(7)]
    assert statistics.median(extra) <= 0.2, extra


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "edgeport", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("edgeport, version"), done.stderr
