"""What int8 can gain at most: products alone, in each float and in int8, without anything between them.

`python -m benchmarks.quantization.ceiling --out FOLDER`. What a network gains in integers is bounded by what its
products gain. The products are those of a MiniLM's feed-forward layers over 96 tokens, one behind the other.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quantization.candidates import FLOATS, Candidate
from benchmarks.quantization.latency import measured_rounds, median_us, speedups_of
from benchmarks.quantization.ours import OURS, calibrate_command, float_command, quantize_command
from benchmarks.quantization.watched import watched
from benchmarks.results import Table, argument_parser, parsed, report

TOKENS, WIDTH, HIDDEN, LAYERS = 96, 384, 1536, 6
ROUNDS, ROUNDS_SHORT = 20, 6
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the products, compiles them and times them in turn."""
    common = parsed(argument_parser("What int8 products gain over float ones").parse_args(arguments))
    folder = common.out.resolve() / "products"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder)
    every = [_built(folder, name, runtime) for name, runtime in _names().items()]
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
    table = Table(title="Products", columns=("int8", "median us", "beside", "times as fast"), rows=tuple(lines))
    return report("quantization.ceiling", common, {"medians_us": medians}, [], seed=SEED, tables=[table])


def _names() -> Mapping[str, str]:
    """Of candidates, and their runtimes."""
    floats = {name: runtime for name, (runtime, _) in FLOATS.items()}
    return floats | {name: one.runtime for name, one in OURS.items() if one.checked}


def _write(folder: Path) -> None:
    """The graph, weights of unit gain, and 128 samples."""
    import numpy as np
    import onnx

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


def _built(folder: Path, name: str, runtime: str) -> Candidate:
    model, samples = folder / "model.onnx", folder / "calibration.npz"
    built, calibration = folder / name, folder / "calibration.safetensors"
    if name in FLOATS:
        commands = [float_command(model, built, runtime=runtime, precision=FLOATS[name][1])]
    else:
        commands = [
            calibrate_command(model, samples, calibration, method="measured"),
            quantize_command(model, calibration, samples, built, OURS[name]),
        ]
    for command in commands if not (built / "artifact.json").exists() else ():
        ended = watched(command)
        if ended.why:
            raise SystemExit(f"{name}: {ended.why}: {ended.told}")
    return Candidate(name=name, kind="float" if name in FLOATS else "ours", runtime=runtime, folder=built)


if __name__ == "__main__":
    sys.exit(main())
