"""Quantization-aware training of ResNet-20 on CIFAR-10: what it gives back of what rounding costs.

And that a kill costs nothing.

Rates, epochs and who teaches were chosen on 5,000 training images that nobody learns from; the dev file is only judged
on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.pruning.cifar import FILES, images_of
from benchmarks.pruning.data import drawn
from benchmarks.pruning.judging import outputs_of_file
from benchmarks.results import Arguments, Check, Part, Table, at_least, at_most
from benchmarks.zoo import missing
from edgeport.contracts import Array, OnnxModel, QuantizationPlan, QuantizationRules, dump_json, load_json

__all__ = ["Row", "qat_checks", "qat_part"]

SAMPLES, SAMPLES_SHORT = 8_000, 2_000
RATE = {4: 3e-4, 8: 2e-5}
EPOCHS = {4: 2, 8: 1}
SEEDS, SEEDS_SHORT = (0, 1, 2), (0,)
CALIBRATED = 512
RECOVERED = 0.5
"""Of what rounding without training loses."""
MARGIN = 0.003
"""Of the accuracy: what int8 may be worse by, at the unfavourable end of a paired 95 % interval."""
DIFFERENCE = 0.01
"""Root mean square of the runtime's outputs less PyTorch's, over that of the outputs."""
KILL_AFTER_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file, judged on the dev images.

    Attributes:
        name: For the table.
        bits: Of its weights; 32 for the float.
        seed: Of the training; None where there was none.
        top1: On the dev file.
        right: Which images are told right, as text of 0 and 1.
        difference: Of the runtime's outputs from PyTorch's; None where nothing was trained.

    """

    name: str
    bits: int
    seed: int | None
    top1: float
    right: str
    difference: float | None = None


def qat_part(arguments: Arguments) -> Part:
    """Trains what is not there yet, and judges all of it."""
    lacking = missing(FILES)
    if lacking:
        print(f"qat: skipped, without {', '.join(lacking)}")
        return Part(figures=[], checks=(at_least("qat: measured", 0.0, 1.0),))
    base = _base(arguments.out.resolve() / "base")
    images, labels = images_of("test_dev")
    rows = [_judged("float", 32, base / "net.onnx", images, labels)]
    for name, file in _untrained(base).items():
        rows.append(_judged(name, 8 if "int8" in name else 4, file, images, labels))
    samples = SAMPLES_SHORT if arguments.short else SAMPLES
    for seed in SEEDS_SHORT if arguments.short else SEEDS:
        for bits in (8, 4):
            folder = _trained(arguments.out.resolve() / f"int{bits}-seed{seed}", base, bits, seed, samples)
            file = _written(base, folder, bits)
            row = _judged(f"int{bits} trained", bits, file, images, labels, seed)
            rows.append(_with_difference(row, file, base, folder))
            print(f"{row.name}, seed {seed}: {row.top1:.4f}", flush=True)
    same = _killed_is_the_same(arguments.out.resolve(), base)
    checks = [*qat_checks(rows), at_least("killed training ends with the same bytes", float(same), 1.0)]
    return Part(figures=[asdict(row) for row in rows], checks=tuple(checks), tables=(_table(rows),))


def _base(folder: Path) -> Path:
    """What all trainings share: the export, its calibration, the plans, the training images in a fixed random order."""
    if (folder / "made").exists():
        return folder
    from benchmarks.pruning.four_bits import four_bit_plan
    from benchmarks.pruning.learn import rules_of
    from benchmarks.quantization.networks import resnet20
    from edgeport.backends.onnxruntime.passes.float_outputs import leave_ends_float
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data import ArraySamples
    from edgeport.calibration.observers import OBSERVERS
    from edgeport.calibration.plan import make_plan
    from edgeport.exporter.onnx_export import export_onnx
    from edgeport.onnx_files import read_ir

    folder.mkdir(parents=True, exist_ok=True)
    lesson = drawn(SAMPLES, 0)
    images = lesson.images
    np.savez(folder / "train.npz", images=images, labels=lesson.labels)
    model = export_onnx(resnet20().eval(), {"images": images[:2]}, output=folder / "net.onnx").model
    observers = {name: OBSERVERS[name] for name in ("extremes", "histogram")}
    calibration = collect(model, ArraySamples({"images": images[:CALIBRATED]}), open_reference, observers=observers)
    rules: QuantizationRules = rules_of(8)  # type: ignore[assignment] # it refuses what is none
    plan = leave_ends_float(read_ir(model).graph, make_plan(model, calibration, rules))
    (folder / "plan-8.json").write_bytes(dump_json(plan))
    (folder / "plan-4.json").write_bytes(dump_json(four_bit_plan(model, rules)))
    (folder / "made").touch()
    return folder


def _untrained(base: Path) -> dict[str, Path]:
    """The plans without training; of four bits in two ways."""
    from benchmarks.pruning.four_bits import write_four_bits
    from edgeport.onnx_files import open_onnx

    model = open_onnx(base / "net.onnx")
    files = {name: base / f"{name.replace(' ', '-')}.onnx" for name in ("int8", "int4 to nearest", "int4 clipped")}
    if not files["int4 clipped"].exists():
        _write_int8(model, base / "plan-8.json", files["int8"])
        write_four_bits(model, files["int4 to nearest"])
        write_four_bits(model, files["int4 clipped"], clip=True)
    return files


def _write_int8(model: OnnxModel, plan: Path, output: Path) -> None:
    from benchmarks.pruning.learn import rules_of
    from edgeport.backends.qdq.write import write_plan

    rules: QuantizationRules = rules_of(8)  # type: ignore[assignment] # it refuses what is none
    write_plan(model, load_json(QuantizationPlan, plan.read_bytes()), rules, output)


def _spec(base: Path, bits: int, seed: int, samples: int, **more: object) -> dict[str, object]:
    spec: dict[str, object] = {
        "bits": bits,
        "seed": seed,
        "rate": RATE[bits],
        "epochs": EPOCHS[bits],
        "samples": samples,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "2")),
        "checkpoint_every": 50,
        "base": str(base),
    }
    return spec | more


def _trained(folder: Path, base: Path, bits: int, seed: int, samples: int) -> Path:
    if not (folder / "told.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.json").write_text(json.dumps(_spec(base, bits, seed, samples)), encoding="utf-8")
        print(f"training int{bits}, seed {seed}", flush=True)
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            subprocess.run([sys.executable, "-m", "benchmarks.pruning.learn", folder], check=True, stdout=log)
    return folder


def _written(base: Path, folder: Path, bits: int) -> Path:
    from benchmarks.pruning.four_bits import write_four_bits
    from edgeport.onnx_files import open_onnx

    del base
    model, output = open_onnx(folder / "learned" / "model.onnx"), folder / f"int{bits}.onnx"
    if not output.exists():
        if bits == 4:
            write_four_bits(model, output)
        else:
            _write_int8(model, folder / "plan.json", output)
    return output


def _judged(name: str, bits: int, file: Path, images: Array, labels: Array, seed: int | None = None) -> Row:
    """Judged in an earlier start, or now."""
    kept = file.with_suffix(".right")
    if not kept.exists():
        right = outputs_of_file(file, images).argmax(axis=1) == labels
        part = kept.with_suffix(".part")
        part.write_text("".join(map(str, right.astype(int).tolist())), encoding="utf-8")
        part.replace(kept)
    told = kept.read_text(encoding="utf-8")
    return Row(name=name, bits=bits, seed=seed, top1=told.count("1") / len(told), right=told)


def _with_difference(row: Row, file: Path, base: Path, folder: Path) -> Row:
    wanted = np.load(folder / "outputs.npy")
    with np.load(base / "train.npz") as arrays:
        found = outputs_of_file(file, arrays["images"][: len(wanted)])
    difference = float(np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()))
    return Row(**{**asdict(row), "difference": difference})


def _killed_is_the_same(out: Path, base: Path) -> bool:
    """A short training, and the same one killed in the middle and started again, end with the same files."""
    folders = [out / "uninterrupted", out / "killed"]
    for folder in folders:
        if (folder / "told.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        spec = _spec(base, 4, 7, 2000, epochs=1, checkpoint_every=5)
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.pruning.learn", str(folder)]
        if folder.name == "killed":
            _kill_in_the_middle(command, folder)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    names = ("learned/model.onnx", "plan.json", "outputs.npy", "learned/training/checkpoint.safetensors")
    return all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)


def _kill_in_the_middle(command: Sequence[str], folder: Path) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    metrics = folder / "learned" / "training" / "metrics.jsonl"
    while process.poll() is None:
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()] if metrics.exists() else [0]
        if max(steps, default=0) >= KILL_AFTER_STEPS:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.1)
    process.wait()


def qat_checks(rows: Sequence[Row]) -> list[Check]:
    """What is claimed, from rows alone; of several seeds the worst counts."""
    whole = next(row for row in rows if row.bits == 32)
    int8 = next(row for row in rows if row.bits == 8 and row.seed is None)
    int4 = max((row for row in rows if row.bits == 4 and row.seed is None), key=lambda row: row.top1)
    trained4 = [row for row in rows if row.bits == 4 and row.seed is not None]
    trained8 = [row for row in rows if row.bits == 8 and row.seed is not None]
    lost = whole.top1 - int4.top1
    checks = [at_least(f"{int4.name} loses enough to judge by", lost, 0.005)]
    if lost > 0:
        part = min((row.top1 - int4.top1) / lost for row in trained4)
        checks.append(at_least(f"int4: part of the loss of {int4.name} that training gives back", part, RECOVERED))
    low = min(_paired_low(row.right, int8.right) for row in trained8)
    checks.append(at_least("int8: trained less untrained, low end of the paired 95 % interval", low, -MARGIN))
    worst = max(row.difference or 0.0 for row in (*trained4, *trained8))
    checks.append(at_most("ONNX Runtime against the trained PyTorch model, root mean square", worst, DIFFERENCE))
    return checks


def _paired_low(one: str, other: str) -> float:
    """Low end of the 95 % interval of the mean difference of right answers."""
    from scipy import stats

    differences = np.array([int(a) - int(b) for a, b in zip(one, other, strict=True)], dtype=float)
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - half)


def _table(rows: Sequence[Row]) -> Table:
    return Table(
        title="ResNet-20 on CIFAR-10",
        columns=("weights", "seed", "top-1", "runtime against PyTorch"),
        rows=tuple(
            (
                row.name,
                "" if row.seed is None else str(row.seed),
                f"{row.top1:.4f}",
                "" if row.difference is None else f"{row.difference:.2%}",
            )
            for row in rows
        ),
    )
