"""What int8 can gain at most: products alone, in each float and in int8, without anything between them.

`python -m benchmarks.quantization.ceiling --out FOLDER`. What a network gains in integers is bounded by what its
products gain. The products are those of a MiniLM's feed-forward layers over 96 tokens, one behind the other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.harness import Table, argument_parser, parsed, report
from benchmarks.quantization.candidates import FLOATS, candidates
from benchmarks.quantization.latency import measured_rounds, median_us, speedups_of
from benchmarks.quantization.quantizers import OURS
from benchmarks.quantization.subjects import Subject

TOKENS, WIDTH, HIDDEN, LAYERS = 96, 384, 1536, 6
NAMES = (*FLOATS, *(name for name, one in OURS.items() if one.checked))
"""Of the candidates."""
ROUNDS, ROUNDS_SHORT = 20, 6
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the products, compiles them and times them in turn."""
    common = parsed(argument_parser("What int8 products gain over float ones").parse_args(arguments))
    folder = common.out.resolve() / "products"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder)
    every = candidates(Subject(name="products", key="products", judged=()), folder, make=True, names=NAMES)
    for one in every:
        if one.why:
            raise SystemExit(f"{one.name}: {one.why}: {one.told}")
    rounds = ROUNDS_SHORT if common.short else ROUNDS
    found, _ = measured_rounds(every, folder, rounds, folder / "rounds")
    kinds = {one.name: one.kind for one in every}
    medians = {name: median_us(one) for name, one in found.items()}
    speedups = speedups_of(found, kinds)
    lines = [
        (name, f"{medians[name]:.1f}", other, f"{estimate:.2f} ({low:.2f}..{high:.2f})")
        for name, others in speedups.items()
        for other, (low, estimate, high) in others.items()
    ]
    for line in lines:
        print("{:<24}{:>10} us  {:<24}{}".format(*line), flush=True)
    table = Table(title="Products", columns=("int8", "median us", "beside", "times as fast"), rows=tuple(lines))
    return report("quantization.ceiling", common, {"medians_us": medians}, [], seed=SEED, tables=[table])


def _write(folder: Path) -> None:
    """The graph, weights of unit gain, and 128 samples."""
    rng = np.random.default_rng(SEED)
    shapes = {f"w{index}": (WIDTH, HIDDEN) if index % 2 == 0 else (HIDDEN, WIDTH) for index in range(2 * LAYERS)}
    nodes = " ".join(
        f"a{index} = MatMul({f'a{index - 1}' if index else 'x'}, {name})" for index, name in enumerate(shapes)
    )
    last = f"a{len(shapes) - 1}"
    text = f"g (float[batch,{TOKENS},{WIDTH}] x) => (float[batch,{TOKENS},{WIDTH}] {last}) {{ {nodes} }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32) / np.float32(shape[0] ** 0.5)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = f"{node.output[0]}_MatMul"
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "model.onnx")
    samples = rng.standard_normal((128, TOKENS, WIDTH)).astype(np.float32)
    np.savez(folder / "calibration.npz", x=samples)


if __name__ == "__main__":
    sys.exit(main())
