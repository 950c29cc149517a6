"""ONNX's own node tests through each adapter in float32: as the runtime alone gives, or refused, by it or by a list.

`python -m benchmarks.adapters --out FOLDER [--runtime NAME ...] [--short]`

Every node test that the onnx package ships for backends, with its own inputs, expected outputs and tolerances. The same
file goes to the runtime directly, and through Edgeport: opened and checked, compiled, opened as an artifact, bound and
run. What the runtime refuses or computes otherwise itself is its own affair and is told apart; what only Edgeport
refuses must be on the list below. For TensorRT engines are built, by the parser alone and by Edgeport; none is run.

Files are walked in children, of which one that dies has met its match. What lies in `--out` already is not done again.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.harness import Arguments, Table, argument_parser, at_least, at_most, parsed, report, walk_each, walked
from benchmarks.robustness.node_tests import arrays_of, fits, plain, written
from benchmarks.robustness.refusals import Refusal, listed, refusals_table
from benchmarks.robustness.walk import outputs_of, run_plainly
from edgeport.backends.registry import backend
from edgeport.calibration.plan import float_plan
from edgeport.contracts import Artifact, ExecutionConfig, Limits, OnProgress, ProgressEvent
from edgeport.errors import EdgeportError
from edgeport.npz import load_npz, save_npz
from edgeport.onnx_files import open_onnx

RUN = ("onnxruntime", "openvino")
BUILT = "tensorrt"
"""Its engines are built, and not run."""
RUNTIMES = (*RUN, BUILT)
LEAST_RIGHT = 1000
LEAST_BUILT = 800
"""Of what is not run: a parser that refused all would tell nothing."""
SHORT_EVERY = 20
TOGETHER = 100
"""Files that one child takes."""
_TOLD = 120
"""Characters of what was found that the page shows; the rest is in the rows."""
_FOLDERS = re.compile(r"/\S*/")
_LIMITS = Limits(time_s=1800.0, memory_bytes=6 << 30)
"""Of a child: a busy machine, which gives it a tenth of a processor, is no fault of a file."""
_UNFED = "no array type for what is fed"


class Outcome(StrEnum):
    """What becomes of a test."""

    RIGHT = "right"
    """As the reference says, within the test's own tolerance."""
    BUILT = "built, not run"
    """An engine was built; nothing is known of its numbers."""
    RUNTIME_REFUSES = "the runtime refuses it"
    """And so does Edgeport, by an error of its own."""
    RUNTIME_DIFFERS = "the runtime gives something else"
    """And through Edgeport it gives the same, or is refused."""
    NOT_FED = "not fed"
    """It takes or gives bfloat16, which numpy has not, so that neither was asked."""
    LISTED = "refused, on the list"
    UNLISTED = "refused, not on the list"
    WRONG = "wrong"
    """The runtime alone is right, and through Edgeport it is not."""
    FAULT = "fault"
    """An error that is none of Edgeport's own, or a crash where the runtime alone is right."""


_NONE = {
    "refused by Edgeport alone, not on the list": Outcome.UNLISTED,
    "wrong, though the runtime alone is right": Outcome.WRONG,
    "crashes and errors without a name": Outcome.FAULT,
}
"""What no test may end with."""

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        code="MODEL_FORMAT",
        found=r"of type (sequence|optional)_type|of element type",
        why="Edgeport's samples, sessions and bundles hold tensors of the types that numpy has",
    ),
    Refusal(
        code="BACKEND_FAILED",
        found=r"to_shape was called on a dynamic shape",
        why="OpenVINO's compiler takes the ONNX file, and its converter to IR does not",
    ),
    Refusal(
        code="SAMPLES_INVALID",
        found=r"takes \[(\d+,)*0(,\d+)*\]",
        why="the test feeds an empty array where any number of samples fits, which OpenVINO's session refuses",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one test on one runtime."""

    name: str
    runtime: str
    outcome: Outcome
    code: str = ""
    found: str = ""


def _write(test: Any, folder: Path) -> None:
    onnx.save(test.model, folder / "model.onnx")
    graph = test.model.graph
    for name, values, ports in zip(("feeds", "wanted"), test.data_sets[0], (graph.input, graph.output), strict=True):
        arrays = arrays_of(values, ports)
        if all(fits(array) for array in arrays.values()):
            save_npz(folder / f"{name}.npz", {key: plain(array) for key, array in arrays.items()})
    tolerance = {"rtol": test.rtol, "atol": test.atol}
    (folder / "tolerance.json").write_text(json.dumps(tolerance), encoding="utf-8")


def walk_many(payload: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    """Walks the folders of tests in `payload["cases"]` on `payload["runtime"]`."""
    walk_each(payload, "runtime", lambda case: _walked(Path(case), payload["runtime"], on_progress), on_progress)
    return {}


def _walked(case: Path, runtime: str, on_progress: OnProgress) -> Row:
    files = case / "feeds.npz", case / "wanted.npz"
    fed = all(file.exists() for file in files)
    feeds, expected = (load_npz(file) if fed else {} for file in files)
    if runtime == BUILT:
        alone = _parsed_alone(case / "model.onnx")
    elif not fed:
        alone = _UNFED
    else:
        try:
            alone = differs(run_plainly(runtime, case / "model.onnx", feeds), expected, case)
        except Exception as error:  # noqa: BLE001 (whatever the runtime raises is its refusal)
            alone = f"refuses: {' '.join(str(error).split())[:200]}"
    on_progress(ProgressEvent(stage=case.name, message="Edgeport"))
    outcome, code, text = Outcome.BUILT, "", ""
    try:
        with tempfile.TemporaryDirectory(prefix="edgeport-adapters-") as folder:
            artifact = _compiled(case, runtime, Path(folder) / "artifact")
            if runtime != BUILT:
                text = differs(outputs_of(backend(runtime), artifact, feeds), expected, case)
                outcome = _of_difference(text, alone)
    except EdgeportError as error:
        outcome, code, text = _of_refusal(error, alone), error.code, error.found[:300]
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        outcome, text = Outcome.FAULT, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Row(name=case.name, runtime=runtime, outcome=outcome, code=code, found=text)


def _of_difference(text: str, alone: str) -> Outcome:
    if not text:
        return Outcome.RIGHT
    return Outcome.NOT_FED if alone == _UNFED else Outcome.RUNTIME_DIFFERS if alone else Outcome.WRONG


def _parsed_alone(path: Path) -> str:
    """What TensorRT itself says of a file without Edgeport; empty where it builds an engine."""
    from edgeport.backends.tensorrt.capabilities import DEFAULT_TARGET
    from edgeport.backends.tensorrt.runtime import load_tensorrt

    tensorrt, said = load_tensorrt(), list[str]()
    logger = tensorrt.logger(said.append)
    builder = tensorrt.module.Builder(logger)
    network = tensorrt.network(builder)
    parser = tensorrt.module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        return f"refuses: {parser.get_error(0).desc() if parser.num_errors else 'no reason'}"
    if builder.build_serialized_network(network, tensorrt.config(builder, DEFAULT_TARGET)) is None:
        return f"refuses: {said[-1] if said else 'no reason'}"
    return ""


def _of_refusal(error: EdgeportError, alone: str) -> Outcome:
    if listed(REFUSALS, error.code, error.found):
        return Outcome.LISTED
    if alone == _UNFED:
        return Outcome.NOT_FED
    if alone.startswith("refuses"):
        return Outcome.RUNTIME_REFUSES
    return Outcome.RUNTIME_DIFFERS if alone else Outcome.UNLISTED


def _compiled(case: Path, runtime: str, folder: Path) -> Artifact:
    model = open_onnx(case / "model.onnx")
    threads = None if runtime == BUILT else 1
    execution = ExecutionConfig(threads=threads, batch=model.fixed_batch or 1)
    return backend(runtime).compile(model, float_plan(model), execution, folder)


def differs(found: Mapping[str, Any], wanted: Mapping[str, Any], case: Path) -> str:
    """What is not as wanted, within the test's tolerance; empty where all is."""
    tolerance = json.loads((case / "tolerance.json").read_text(encoding="utf-8"))
    if set(found) != set(wanted):
        return f"outputs {sorted(found)} instead of {sorted(wanted)}"
    for name, right in wanted.items():
        got = np.asarray(found[name])
        kinds = got.dtype.kind, right.dtype.kind
        if got.shape != right.shape or (kinds[0] != kinds[1] and kinds != ("O", "U")):
            return f"{name}: {got.dtype} {got.shape} instead of {right.dtype} {right.shape}"
        if right.dtype.kind in "fc":
            if not np.allclose(got, right, **tolerance, equal_nan=True):
                return f"{name}: other numbers"
        elif not np.array_equal(got.astype(right.dtype), right):
            return f"{name}: other values"
    return ""


def main() -> int:
    """All tests on every runtime that is asked for."""
    parser = argument_parser("ONNX's node tests through each adapter")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="this one alone; may be repeated")
    given = parser.parse_args()
    arguments = parsed(given)
    out = arguments.out.resolve()
    tests = written(out / "tests", _write)[:: SHORT_EVERY if arguments.short else 1]
    rows = {
        runtime: walked(
            "benchmarks.adapters:walk_many",
            {test.name: str(test) for test in tests},
            out / f"rows-{runtime}.jsonl",
            Row,
            partial(_died, runtime),
            limits=_LIMITS,
            together=TOGETHER,
            runtime=runtime,
        )
        for runtime in given.runtime or RUNTIMES
    }
    return _report(arguments, rows)


def _died(runtime: str, step: ProgressEvent, error: EdgeportError) -> Row:
    outcome = Outcome.RUNTIME_REFUSES if step.message == "runtime" else Outcome.FAULT
    return Row(name=step.stage, runtime=runtime, outcome=outcome, code=error.code, found=error.found[:300])


def _report(arguments: Arguments, rows: Mapping[str, Sequence[Row]]) -> int:
    counts = {runtime: Counter(row.outcome for row in found) for runtime, found in rows.items()}
    checks = []
    for runtime, count in counts.items():
        if not arguments.short:
            name, outcome, least = (
                ("engines built", Outcome.BUILT, LEAST_BUILT)
                if runtime == BUILT
                else ("as the reference says", Outcome.RIGHT, LEAST_RIGHT)
            )
            checks.append(at_least(f"{runtime}: {name}", float(count[outcome]), least))
        for name, outcome in _NONE.items():
            if runtime in RUN or outcome is not Outcome.WRONG:
                checks.append(at_most(f"{runtime}: {name}", float(count[outcome]), 0.0))
    every = [row for found in rows.values() for row in found]
    tables = [
        Table(
            title="What became of the tests",
            columns=("runtime", *Outcome),
            rows=tuple((name, *(str(count[outcome]) for outcome in Outcome)) for name, count in counts.items()),
        ),
        Table(
            title="All that is not right, or not built",
            columns=("test", "runtime", "outcome", "found"),
            rows=tuple(
                (row.name, row.runtime, str(row.outcome), _FOLDERS.sub("", row.found)[:_TOLD])
                for row in every
                if row.outcome not in (Outcome.RIGHT, Outcome.BUILT)
            ),
        ),
        refusals_table(REFUSALS),
    ]
    figures = {runtime: dict(count) for runtime, count in counts.items()}
    return report("adapters", arguments, figures, checks, seed=None, tables=tables)


if __name__ == "__main__":
    sys.exit(main())
