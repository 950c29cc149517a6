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
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, at_most, kept, paired
from benchmarks.harness.cifar import HELD, Images, decoded, drawn
from benchmarks.harness.judging import outputs_of_file
from benchmarks.harness.networks import resnet20
from benchmarks.harness.training import command, trained
from benchmarks.pruning.four_bits import four_bit_plan, write_four_bits
from benchmarks.pruning.learn import rules_of
from edgeport.backends.onnxruntime.passes.float_outputs import leave_ends_float
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.observers import OBSERVERS
from edgeport.calibration.plan import make_plan
from edgeport.contracts import QuantizationPlan, dump_json, load_json
from edgeport.exporter.onnx_export import export_onnx
from edgeport.onnx_files import open_onnx, read_ir

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
_LEARN = "benchmarks.pruning.learn"


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


def qat_part(arguments: Arguments) -> PartResult:
    """Trains what is not there yet, and judges all of it."""
    out = arguments.out.resolve()
    base = _base(out / "base")
    images = decoded("test_dev", np.arange(HELD)).scaled("resnet20")
    rows = [_judged("float", 32, base / "net.onnx", images)]
    for name, bits, clip in (("int8", 8, False), ("int4 to nearest", 4, False), ("int4 clipped", 4, True)):
        file = base / f"{name.replace(' ', '-')}.onnx"
        _write(base / "net.onnx", base / f"plan-{bits}.json", bits, file, clip=clip)
        rows.append(_judged(name, bits, file, images))
    samples = SAMPLES_SHORT if arguments.short else SAMPLES
    for seed in SEEDS_SHORT if arguments.short else SEEDS:
        for bits in (8, 4):
            folder = trained(_LEARN, out / f"int{bits}-seed{seed}", _spec(base, bits, seed, samples))
            file = folder / f"int{bits}.onnx"
            _write(folder / "learned" / "model.onnx", folder / "plan.json", bits, file)
            row = _judged(f"int{bits} trained", bits, file, images, seed)
            rows.append(replace(row, difference=_difference(file, base, folder)))
            print(f"{row.name}, seed {seed}: {row.top1:.4f}", flush=True)
    checks = [*qat_checks(rows), at_least("killed training ends with the same bytes", float(_same(out, base)), 1.0)]
    return PartResult(figures=[asdict(row) for row in rows], checks=checks, tables=(_table(rows),))


def _base(folder: Path) -> Path:
    """What all trainings share: the export, its calibration, the plans, the training images in a fixed random order."""
    if (folder / "made").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    lesson = drawn(SAMPLES, 0).scaled("resnet20")
    np.savez(folder / "train.npz", images=lesson.images, labels=lesson.labels)
    model = export_onnx(resnet20().eval(), {"images": lesson.images[:2]}, output=folder / "net.onnx").model
    observers = {name: OBSERVERS[name] for name in ("extremes", "histogram")}
    samples = ArraySamples({"images": lesson.images[:CALIBRATED]})
    calibration, rules = collect(model, samples, open_reference, observers=observers), rules_of(8)
    plan = leave_ends_float(read_ir(model).graph, make_plan(model, calibration, rules))
    (folder / "plan-8.json").write_bytes(dump_json(plan))
    (folder / "plan-4.json").write_bytes(dump_json(four_bit_plan(model, rules)))
    (folder / "made").touch()
    return folder


def _write(model: Path, plan: Path, bits: int, output: Path, *, clip: bool = False) -> None:
    if output.exists():
        return
    if bits == 4:
        write_four_bits(open_onnx(model), output, clip=clip)
    else:
        write_plan(open_onnx(model), load_json(QuantizationPlan, plan.read_bytes()), rules_of(8), output)


def _spec(base: Path, bits: int, seed: int, samples: int) -> dict[str, object]:
    return {
        "bits": bits,
        "seed": seed,
        "rate": RATE[bits],
        "epochs": EPOCHS[bits],
        "samples": samples,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "2")),
        "checkpoint_every": 50,
        "base": str(base),
    }


def _judged(name: str, bits: int, file: Path, images: Images, seed: int | None = None) -> Row:
    """Judged in an earlier start, or now."""

    def right() -> str:
        return "".join(map(str, (outputs_of_file(file, images.images).argmax(axis=1) == images.labels).astype(int)))

    told = kept(file.with_suffix(".right.json"), str, right)
    return Row(name=name, bits=bits, seed=seed, top1=told.count("1") / len(told), right=told)


def _difference(file: Path, base: Path, folder: Path) -> float:
    expected = np.load(folder / "outputs.npy")
    with np.load(base / "train.npz") as arrays:
        outputs = outputs_of_file(file, arrays["images"][: len(expected)])
    return float(np.sqrt(np.square(outputs - expected).mean() / np.square(expected).mean()))


def _same(out: Path, base: Path) -> bool:
    """A short training, and the same one killed in the middle and started again, end with the same files."""
    folders = [out / "uninterrupted", out / "killed"]
    spec = {**_spec(base, 4, 7, 2000), "epochs": 1, "checkpoint_every": 5}
    if not (folders[1] / "told.json").exists():
        _kill_in_the_middle(command(_LEARN, folders[1], spec), folders[1])
    for folder in folders:
        trained(_LEARN, folder, spec)
    names = ("learned/model.onnx", "plan.json", "outputs.npy", "learned/training/checkpoint.safetensors")
    return all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)


def _kill_in_the_middle(arguments: Sequence[str], folder: Path) -> None:
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
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
    low = min(paired(*(list(map(int, one.right)) for one in (row, int8)))[0] for row in trained8)
    checks.append(at_least("int8: trained less untrained, low end of the paired 95 % interval", low, -MARGIN))
    worst = max(row.difference or 0.0 for row in (*trained4, *trained8))
    checks.append(at_most("ONNX Runtime against the trained PyTorch model, root mean square", worst, DIFFERENCE))
    return checks


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
