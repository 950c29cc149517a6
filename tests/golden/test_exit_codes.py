"""How command lines end: exit code, error code, and what is said, to people and to machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def _add(line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        recipe = folder / "float.toml"
        recipe.write_text(f"{line}\n{recipe.read_text(encoding='utf-8')}", encoding="utf-8")

    return change


def _replace(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        recipe = folder / "float.toml"
        recipe.write_text(recipe.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    return change


def _overlap(folder: Path) -> None:
    shutil.copy(folder / "evaluation.npz", folder / "calibration.npz")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command line.

    Attributes:
        line: What is typed.
        code: Its exit code.
        error: The error's code; "" where it is none.
        change: Of the folder, before.
        as_json: The error is looked at with `--json` too.
        slow: It takes more than some seconds.

    """

    line: str
    code: int
    error: str = ""
    change: Callable[[Path], None] = lambda folder: None
    as_json: bool = True
    slow: bool = False


_QUANTIZE = "quantize net.onnx --precision"
CASES = {
    "no-arguments": Case(line="", code=2, error="USAGE", as_json=False),
    "version": Case(line="--version", code=0),
    "unknown-command": Case(line="quantise net.onnx", code=2, error="USAGE"),
    "unknown-option": Case(line="run float.toml --outptu x", code=2, error="USAGE"),
    "missing-argument": Case(line="calibrate net.onnx", code=2, error="USAGE"),
    "missing-file": Case(line="bench nett.onnx", code=2, error="USAGE"),
    "wrong-choice": Case(line="quantize net.onnx --precision int7", code=2, error="USAGE"),
    "number-out-of-range": Case(line="bench net.onnx --rounds 0", code=2, error="USAGE"),
    "wrong-quantity": Case(line="bench net.onnx --budget p99=soon", code=2, error="USAGE"),
    "int8-without-samples": Case(line="quantize net.onnx", code=2, error="USAGE", as_json=False),
    "unknown-method": Case(
        line=f"{_QUANTIZE} int8 --samples calibration.npz --method median -q",
        code=1,
        error="CALIBRATION_FAILED",
        as_json=False,
    ),
    "broken-recipe": Case(line="run float.toml", code=2, error="RECIPE_INVALID", change=_add("model = [")),
    "unknown-key": Case(line="run float.toml", code=2, error="RECIPE_INVALID", change=_add("model.nmae = 'x'")),
    "wrong-type": Case(
        line="run float.toml", code=2, error="RECIPE_INVALID", change=_add("budget.accuracy_drop = 'x'")
    ),
    "missing-samples": Case(
        line="run float.toml", code=2, error="RECIPE_INVALID", change=_replace("evaluation.npz", "evalution.npz")
    ),
    "same-samples": Case(
        line="run float.toml", code=2, error="RECIPE_INVALID", change=_replace("calibration.npz", "evaluation.npz")
    ),
    "overlapping-samples": Case(
        line="run float.toml -q", code=1, error="SAMPLES_INVALID", change=_overlap, slow=True, as_json=False
    ),
    "wrong-samples": Case(line="calibrate net.onnx wrong.npz -q", code=1, error="SAMPLES_INVALID"),
    "nan-samples": Case(line="calibrate net.onnx nan.npz -q", code=1, error="SAMPLES_INVALID", as_json=False),
    "damaged-model": Case(line="quantize damaged.onnx --precision fp32", code=1, error="MODEL_FORMAT"),
    "unknown-backend": Case(line=f"{_QUANTIZE} fp32 --backend tflite", code=2, error="USAGE"),
    "unsupported-precision": Case(line=f"{_QUANTIZE} int16 -q", code=1, error="BACKEND_UNSUPPORTED", as_json=False),
    "unknown-node": Case(line=f"{_QUANTIZE} int8-dynamic --node conv_9=fp32 -q", code=1, error="PLAN_INVALID"),
    "broken-factory": Case(
        line="export net:broken --example calibration.npz -q", code=1, error="SOURCE_INVALID", slow=True
    ),
    "missing-module": Case(
        line="export nett:Net --example calibration.npz -q", code=1, error="SOURCE_INVALID", slow=True
    ),
    "no-such-device": Case(line="bench net.onnx --device pi5", code=2, error="USAGE"),
    "no-bundle": Case(line="bundle verify .", code=5),
    "unknown-device": Case(line="devices remove pi5", code=2, error="USAGE"),
    "occupied-output": Case(line="init net.onnx -o float.toml --yes", code=1, error="OUTPUT_REFUSED"),
    "explained-recipe": Case(line="run float.toml --explain", code=0),
    "dry-run": Case(line="run both.toml --dry-run -q", code=0, slow=True),
    "quantized": Case(line=f"{_QUANTIZE} fp32 -q", code=0),
    "over-size": Case(line="bench net.onnx --rounds 1 --duration 0.01 --budget size=1KB -q", code=3, slow=True),
    "thin-evidence": Case(
        line="bench net.onnx --rounds 1 --duration 0.01 --budget p99.9=10s --time 0.1s -q", code=4, slow=True
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if case.slow else []) for name, case in CASES.items()]
)
def test_command_ends_as_it_did(
    name: str, edgeport: Callable[[str], Any], fresh: Callable[[], Path], golden: Any, snapshot: Any
) -> None:
    case = CASES[name]
    folder = fresh()
    case.change(folder)
    ran = edgeport(case.line)
    ends: dict[str, Any] = {"line": case.line, "code": ran.code}
    ends["stderr"] = snapshot.plain_text(ran.err, folder).splitlines()
    if case.error and case.as_json:
        ends["json"] = snapshot.normalise(json.loads(edgeport(f"{case.line} --json").out), folder)

    assert ran.code == case.code
    assert ran.err.startswith(f"Error {case.error}\n") == bool(case.error)
    golden.check(f"exit-codes/{name}.json", lambda: ends)


@pytest.mark.slow
def test_a_changed_bundle_is_told(
    edgeport: Callable[[str], Any], fresh: Callable[[], Path], golden: Any, snapshot: Any
) -> None:
    folder = fresh()
    assert edgeport("run float.toml -q").code == 0
    with (folder / "edgeport-out" / "bundle" / "artifact" / "model.onnx").open("ab") as file:
        file.write(b"x")
    ran = edgeport("bundle verify edgeport-out/bundle --json")

    assert ran.code == 5
    golden.check("exit-codes/changed-bundle.json", lambda: snapshot.normalise(json.loads(ran.out), folder))
