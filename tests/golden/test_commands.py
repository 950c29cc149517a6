"""What commands print as JSON and write, on small models: structure, and digests of every model, plan and statistic."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DIGESTED = {".onnx", ".ort", ".xml", ".bin", ".safetensors", ".npz", ".npy"}
_CALIBRATE = "calibrate net.onnx calibration.npz --target label -o cal.safetensors --json"
_SAMPLES = "--samples calibration.npz --target label"
_TRAINING = "--samples training.npz --target label"
_QUICK = "--epochs 1 --batch-size 32 --device cpu --json"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Command lines that follow each other in one folder.

    Attributes:
        lines: What is typed.
        needs: A module without which it is skipped.
        measured: All that is printed and written depends on this machine: the structure alone is looked at.
        ships: What ships is not decided by measuring, so that the bundle is looked at.
        slow: It takes more than some seconds.

    """

    lines: tuple[str, ...]
    needs: str = "onnxruntime"
    measured: bool = False
    ships: bool = False
    slow: bool = True


def _quantized(backend: str, **options: str) -> tuple[str, ...]:
    """A line per folder that is written; its options are given."""
    return tuple(f"quantize net.onnx --backend {backend} {text} -o {name} --json" for name, text in options.items())


FLOWS = {
    "onnxruntime": Flow(
        slow=False,
        lines=(
            _CALIBRATE,
            *_quantized(
                "onnxruntime",
                static="--calibration cal.safetensors --method minmax --streams 2 --threads 1",
                entropy="--calibration cal.safetensors --method entropy",
                dynamic="--precision int8-dynamic",
                blocks="--precision uint4-weights-32",
                mixed="--calibration cal.safetensors --node 'conv_*=fp32' --node Gemm=int8-dynamic",
                board="--calibration cal.safetensors --method percentile:99.9 --for raspberry-pi-5",
            ),
        ),
    ),
    "openvino": Flow(
        needs="openvino",
        slow=False,
        lines=(_CALIBRATE, *_quantized("openvino", static="--calibration cal.safetensors --rest bf16")),
    ),
    "devices": Flow(
        slow=False,
        lines=(
            "devices add pi5 ssh://pi@raspberrypi.invalid --json",
            "devices list --json",
            "devices profiles --json",
            "devices remove pi5 --json",
        ),
    ),
    "onnxruntime-more": Flow(
        lines=(
            _CALIBRATE,
            (
                "calibrate net.onnx calibration.npz --target label -o smooth.safetensors --workers 2"
                " --recover equalization --recover smoothing:0.5 --json"
            ),
            *_quantized(
                "onnxruntime",
                float="--precision fp32",
                bfloat="--precision bf16",
                weights="--precision int8-weights",
                small="--precision int4-weights-32",
                average="--calibration cal.safetensors --method average",
                auto="--calibration cal.safetensors --method auto",
                mse="--calibration cal.safetensors --method mse",
                pow2="--calibration cal.safetensors --method pow2",
                general="--calibration cal.safetensors --method global",
                measured=_SAMPLES,
                recovered=f"{_SAMPLES} --recover rounding:20 --recover bias-correction --method minmax",
                stages="--precision fp32 --stages 2",
                batched="--precision fp32 --batch 4 --batch-wait 2ms --form onnx-fused",
                saved="--precision fp32 --form ort",
            ),
            "quantize smooth.recovered.onnx --calibration smooth.safetensors -o smooth --json",
        )
    ),
    "openvino-more": Flow(
        needs="openvino",
        lines=(
            _CALIBRATE,
            *_quantized(
                "openvino",
                float="--precision fp32",
                half="--precision fp16",
                bfloat="--precision bf16",
                dynamic="--precision int8-dynamic",
                weights="--precision int8-weights",
                small="--precision int4-weights-32",
                mse="--calibration cal.safetensors --method mse --node Gemm=fp32",
            ),
        ),
    ),
    "tensorrt": Flow(
        needs="tensorrt_rtx_libs",
        lines=(
            _CALIBRATE,
            *_quantized(
                "tensorrt",
                static="--calibration cal.safetensors --rest fp16",
                half="--precision fp16",
                eight="--precision fp8 --calibration cal.safetensors",
                weights="--precision int8-weights",
            ),
        ),
    ),
    "torch": Flow(
        needs="torch",
        lines=(
            "export net:Net --example calibration.npz --target label --argument width=12 -o out.onnx --json",
            f"verify net:Net out.onnx --argument width=12 {_SAMPLES} --metric top1 --json",
            "init net:Net --samples calibration.npz --target label --backend onnxruntime --quick --yes --json",
            f"prune net:Net {_TRAINING} --amount 0.4 --by l1 --round-to 4 -o units.safetensors {_QUICK}",
            f"prune net:Net {_TRAINING} --amount 0.5 --what weights --scope layer -o zeros.safetensors --json",
            f"prune net:Net {_TRAINING} --amount 0.4 --by taylor --schedule iterative:2 -o later.safetensors {_QUICK}",
            f"distill net:Net {_TRAINING} --prune 0.5 -L '0.9 soft-targets:4' -R confidence {_QUICK}",
        ),
    ),
    "learned": Flow(needs="torch", lines=(f"qat trained.toml -q {_QUICK}",)),
    "imitated": Flow(
        needs="torch",
        lines=(
            "imitate calibration.npz --count 8 --latent 4 --width 4 --epochs 1 --batch-size 16 --device cpu --json",
            (
                "distill net:Net --student net:Net --student-argument width=8 --without-data fast"
                " --input image=batch,3,8,8 --range -1:1 --steps 24 --batch-size 16 --device cpu --json"
            ),
        ),
    ),
    "doctor": Flow(measured=True, lines=("doctor --json",)),
    "init": Flow(
        lines=("init net.onnx --samples calibration.npz --target label --backend onnxruntime --quick --yes --json",)
    ),
    "bench": Flow(
        measured=True,
        lines=("bench net.onnx --rounds 2 --duration 0.01 --threads 1 --budget p50=1s --save-baseline b.json --json",),
    ),
    "compare": Flow(
        measured=True,
        lines=(
            "compare net.onnx net.onnx --rounds 6 --duration 0.01 --threads 1 --markdown c.md --junit c.xml --json",
        ),
    ),
    "schedule": Flow(
        measured=True,
        lines=(
            *_quantized("onnxruntime", a="--precision fp32 --threads 1", b="--precision int8-dynamic --threads 1"),
            "schedule a b --budget p50=1s --rounds 6 -o both --json",
        ),
    ),
    "tune": Flow(measured=True, lines=("tune both.toml --time 5s -o tuned --json",)),
    "recipe-float": Flow(ships=True, lines=("run float.toml -q --json", "bundle verify edgeport-out/bundle --json")),
    "recipe-targets": Flow(needs="openvino", lines=("run both.toml -q --json",)),
    "recipe-folded": Flow(needs="torch", lines=("run folded.toml -q --json",)),
    "recipe-state": Flow(lines=("run state.toml -q --json",)),
    "recipe-compress": Flow(needs="torch", lines=("run compress.toml -q --json",)),
    "recipe-student": Flow(needs="torch", lines=("run student.toml -q --json",)),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if flow.slow else []) for name, flow in FLOWS.items()]
)
def test_commands_print_and_write_what_they_did(
    name: str, edgeport: Callable[[str], Any], fresh: Callable[[], Path], golden: Any, snapshot: Any
) -> None:
    flow = FLOWS[name]
    pytest.importorskip(flow.needs)

    def run() -> dict[str, Any]:
        folder = fresh()
        before = set(folder.rglob("*"))
        ends = {line: _end(edgeport(line), folder, snapshot) for line in flow.lines}
        written = {_named(path, folder): path for path in sorted(folder.rglob("*")) if path not in before}
        skipped = {"__pycache__"} if flow.ships else {"__pycache__", "bundle", "courses"}
        files = {name: path for name, path in written.items() if path.is_file() and skipped.isdisjoint(path.parts)}
        contents = {name: _content(path, folder, snapshot) for name, path in files.items()}
        if flow.measured:
            printed = {line: snapshot.skeleton(end["json"]) for line, end in ends.items()}
            return {"printed": printed, "files": sorted(files), "contents": snapshot.skeleton(contents)}
        models = {name: path for name, path in files.items() if path.suffix in _DIGESTED or path.name == "plan.json"}
        for result in (path for path in files.values() if path.name == "result.json"):
            models |= _of_candidates(json.loads(result.read_text(encoding="utf-8")))
        return {
            "environment": snapshot.environment(),
            "ends": ends,
            "files": sorted(files),
            "contents": contents,
            "digests": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in models.items()},
            "graphs": {name: snapshot.graph_text(path) for name, path in models.items()},
        }

    golden.check(f"commands/{name}.json", run)


def _named(path: Path, folder: Path) -> str:
    """Its name without the moment and process that curves for TensorBoard are named by."""
    return re.sub(r"tfevents\..*", "tfevents", str(path.relative_to(folder)))


def _end(ran: Any, folder: Path, snapshot: Any) -> dict[str, Any]:
    return {"code": ran.code, "json": snapshot.normalise(json.loads(ran.out or "null"), folder)}


def _of_candidates(result: Mapping[str, Any]) -> dict[str, Path]:
    """The model and the artifacts of a run, which lie in its store."""
    files = {"model.onnx": Path(result["model"]["path"])}
    for one in result["candidates"]:
        folder = Path((one["artifact"] or {"folder": "/none"})["folder"])
        found = [path for path in sorted(folder.rglob("*")) if path.suffix in _DIGESTED]
        files |= {f"{one['variant']} {one['name']}/{path.relative_to(folder)}": path for path in found}
    files = {f"candidates of {result['name']} {result['target']}/{name}": path for name, path in files.items()}
    for one in result["targets"]:
        files |= _of_candidates(one)
    return files


def _content(path: Path, folder: Path, snapshot: Any) -> Any:
    """Of JSON and TOML; all else is in the digests, or is Edgeport's own code and prose."""
    if path.suffix == ".json":
        return snapshot.normalise(json.loads(path.read_text(encoding="utf-8")), folder)
    if path.suffix == ".toml":
        return snapshot.plain_text(path.read_text(encoding="utf-8"), folder).splitlines()
    return None
