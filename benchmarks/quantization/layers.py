"""Where a convolutional network's time goes on OpenVINO, by kind of layer: in its best float, and in int8.

`python -m benchmarks.quantization.layers --out FOLDER [--model KEY]`. FOLDER is that of `python -m
benchmarks.quantization`, whose artifacts it opens, or makes where they are not there yet, with the samples beside them.
The times are the runtime's own of each kernel, on one thread; what lies between two kernels is in none of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Table, argument_parser, parsed, report
from benchmarks.quantization.candidates import candidates
from benchmarks.quantization.subjects import SUBJECTS
from edgeport.backends.openvino.session import import_openvino

BESIDE = {"bf16 OpenVINO": "bf16", "Edgeport OpenVINO": "f32"}
"""Candidates by name, and what they compute in where they have no integers."""
CALLS, CALLS_SHORT, FIRST = 1000, 200, 20
QUANTILE = 0.02
"""Of a kernel's times: other load only ever adds to them."""
FEW, MANY = 100, 500
"""Input channels of a pointwise convolution: each output is a sum of so many products."""
SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Times both in turn."""
    parser = argument_parser("A network's time on OpenVINO by kind of layer")
    parser.add_argument("--model", default="lite0", choices=sorted(one.key for one in SUBJECTS.values()))
    given = parser.parse_args(arguments)
    common = parsed(given)
    subject = next(one for one in SUBJECTS.values() if one.key == given.model)
    folder = common.out.resolve() / "models" / subject.key
    every = {one.name: one for one in candidates(subject, folder, make=True, names=tuple(BESIDE))}
    for one in every.values():
        if one.why:
            raise SystemExit(f"{one.name}: {one.why}: {one.told}")
    paths = {name: every[name].folder / "artifact" / "model.xml" for name in BESIDE}
    with np.load(folder / "calibration.npz") as samples:
        feeds = {name: samples[name][:1] for name in samples.files}
    times = _kernel_times(paths, feeds, CALLS_SHORT if common.short else CALLS)
    lines = _by_kind(times, {name: _kinds(path) for name, path in paths.items()})
    for line in lines:
        print("{:<52}{:>4}{:>8}{:>8}{:>8}".format(*line), flush=True)
    columns = ("layers", "number", *(f"{name}, us" for name in BESIDE), "times as fast")
    table = Table(title=subject.name, columns=columns, rows=tuple(lines))
    own = replace(common, out=common.out / "layers")  # beside the results of the benchmark whose artifacts these are
    own.out.mkdir(exist_ok=True)
    return report("quantization.layers", own, {"times_us": times}, [], seed=SEED, tables=[table])


def _kernel_times(paths: Mapping[str, Path], feeds: Mapping[str, Any], calls: int) -> dict[str, dict[str, float]]:
    """By candidate and name of a kernel, us."""
    ov = import_openvino()
    requests = {}
    for name, path in paths.items():
        model = ov.Core().read_model(path)
        model.reshape({port.get_any_name(): feeds[port.get_any_name()].shape for port in model.inputs})
        settings = {
            "INFERENCE_NUM_THREADS": "1",
            "PERF_COUNT": "YES",
            "INFERENCE_PRECISION_HINT": BESIDE[name],
        }
        requests[name] = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in requests}
    for index in range(FIRST + calls):
        for name, request in requests.items():
            request.infer(dict(feeds))
            for kernel in request.profiling_info if index >= FIRST else ():
                if kernel.status.name == "EXECUTED":
                    found[name][kernel.node_name].append(kernel.real_time.total_seconds() * 1e6)
    return {
        name: {kernel: float(np.quantile(each, QUANTILE)) for kernel, each in kernels.items()}
        for name, kernels in found.items()
    }


def _kinds(path: Path) -> dict[str, str]:
    """What each convolution is, by its name."""
    found = {}
    for operation in import_openvino().Core().read_model(path).get_ordered_ops():
        if operation.get_type_name() in ("Convolution", "GroupConvolution"):
            weight = list(operation.input(1).get_partial_shape().get_max_shape())
            found[str(operation.get_friendly_name())] = _kind(weight)
    return found


def _kind(weight: Sequence[int]) -> str:
    """Of a convolution by its weight: [outputs, inputs, height, width], before them the groups where there are any."""
    inputs, *window = weight[-3:]
    if len(weight) == 5:
        return "convolutions, depthwise" if inputs == 1 else "convolutions in groups"
    if max(window) > 1:
        return "convolutions, wider than a point"
    of = f"fewer than {FEW}" if inputs < FEW else f"{FEW} to {MANY - 1}" if inputs < MANY else f"{MANY} or more"
    return f"convolutions, pointwise, of {of} channels"


def _by_kind(times: Mapping[str, Mapping[str, float]], kinds: Mapping[str, Mapping[str, str]]) -> list[tuple[str, ...]]:
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in times})
    for name, kernels in times.items():
        for kernel, time_us in kernels.items():
            sums[kinds[name].get(kernel, "all else")][name].append(time_us)
            sums["in all"][name].append(time_us)
    before, after = BESIDE
    ordered = sorted(sums.items(), key=lambda item: (item[0] == "in all", -sum(item[1][before])))
    return [
        (
            kind,
            str(len(each[after])),
            f"{sum(each[before]):.0f}",
            f"{sum(each[after]):.0f}",
            f"{sum(each[before]) / sum(each[after]):.2f}" if each[after] else "",
        )
        for kind, each in ordered
    ]


if __name__ == "__main__":
    sys.exit(main())
