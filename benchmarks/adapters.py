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
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.results import Arguments, Table, argument_parser, at_least, at_most, parsed, report
from benchmarks.robustness.refusals import Refusal
from edgeport.contracts import Artifact, ExecutionConfig, Limits, OnProgress, ProgressEvent
from edgeport.errors import EdgeportError, IsolationError
from edgeport.npz import load_npz, save_npz

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
_FITS = "fiubUS"
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


def write_tests(folder: Path) -> list[str]:
    """Writes each test once, into a folder of its own; the names, sorted."""
    from onnx.backend.test.case.node import collect_testcases

    listed = folder / "written"
    if not listed.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tests divide by zero on purpose
            for test in collect_testcases(None):
                _write(test, folder / test.name)
        listed.touch()
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _write(test: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(test.model, folder / "model.onnx")
    given, wanted = test.data_sets[0]
    for name, values, ports in (("feeds", given, test.model.graph.input), ("wanted", wanted, test.model.graph.output)):
        arrays = {
            port.name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
            for port, value in zip(ports, values, strict=False)
        }
        if all(_fits(array) for array in arrays.values()):
            plain = {key: np.asarray(array) for key, array in arrays.items()}
            save_npz(
                folder / f"{name}.npz",
                {key: array.astype(np.str_) if array.dtype.kind == "O" else array for key, array in plain.items()},
            )
    tolerance = {"rtol": test.rtol, "atol": test.atol}
    (folder / "tolerance.json").write_text(json.dumps(tolerance), encoding="utf-8")


def _fits(array: Any) -> bool:
    if not isinstance(array, np.ndarray | np.generic):
        return False
    dtype = np.asarray(array).dtype
    return dtype.isbuiltin == 1 and dtype.kind in f"{_FITS}O"


def walk_many(payload: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    """Walks the tests of `payload["names"]` below `payload["folder"]`; each row is appended to `payload["rows"]`."""
    for name in payload["names"]:
        on_progress(ProgressEvent(stage=name, message="runtime"))
        row = _walked(Path(payload["folder"]) / name, payload["runtime"], on_progress)
        with Path(payload["rows"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    return {}


def _walked(case: Path, runtime: str, on_progress: OnProgress) -> Row:
    from benchmarks.robustness.walk import run_plainly

    about = {"name": case.name, "runtime": runtime}
    if runtime == BUILT:
        return _built(case, about, on_progress)
    if not (case / "feeds.npz").exists() or not (case / "wanted.npz").exists():
        alone, wanted, feeds = _UNFED, {}, {}
    else:
        feeds, wanted = load_npz(case / "feeds.npz"), load_npz(case / "wanted.npz")
        try:
            alone = differs(run_plainly(runtime, case / "model.onnx", feeds), wanted, case)
        except Exception as error:  # noqa: BLE001 (whatever the runtime raises is its refusal)
            alone = f"refuses: {' '.join(str(error).split())[:200]}"
    on_progress(ProgressEvent(stage=case.name, message="Edgeport"))
    try:
        found = differs(_through(case, runtime, feeds), wanted, case)
    except EdgeportError as error:
        return Row(**about, outcome=_of_refusal(error, alone), code=error.code, found=error.found[:300])
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Row(**about, outcome=Outcome.FAULT, found=text)
    if not found:
        return Row(**about, outcome=Outcome.RIGHT)
    outcome = Outcome.NOT_FED if alone == _UNFED else Outcome.RUNTIME_DIFFERS if alone else Outcome.WRONG
    return Row(**about, outcome=outcome, found=found)


def _built(case: Path, about: Mapping[str, str], on_progress: OnProgress) -> Row:
    alone = _parsed_alone(case / "model.onnx")
    on_progress(ProgressEvent(stage=case.name, message="Edgeport"))
    try:
        with tempfile.TemporaryDirectory(prefix="edgeport-adapters-") as folder:
            _compiled(case, BUILT, Path(folder) / "artifact")
    except EdgeportError as error:
        return Row(**about, outcome=_of_refusal(error, alone), code=error.code, found=error.found[:300])
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Row(**about, outcome=Outcome.FAULT, found=text)
    return Row(**about, outcome=Outcome.BUILT)


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
    if any(error.code == each.code and re.search(each.found, error.found) for each in REFUSALS):
        return Outcome.LISTED
    if alone == _UNFED:
        return Outcome.NOT_FED
    if alone.startswith("refuses"):
        return Outcome.RUNTIME_REFUSES
    return Outcome.RUNTIME_DIFFERS if alone else Outcome.UNLISTED


def _through(case: Path, runtime: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the file as Edgeport runs it."""
    from edgeport.backends.registry import backend

    with tempfile.TemporaryDirectory(prefix="edgeport-adapters-") as folder:
        session = backend(runtime).open(_compiled(case, runtime, Path(folder) / "artifact"))
        try:
            call = session.bind(feeds)
            call.run()
            return {name: np.array(array) for name, array in call.outputs().items()}
        finally:
            session.close()


def _compiled(case: Path, runtime: str, folder: Path) -> Artifact:
    from edgeport.backends.registry import backend
    from edgeport.calibration.plan import float_plan
    from edgeport.onnx_files import open_onnx

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
        if got.shape != right.shape or (got.dtype.kind, right.dtype.kind) not in _alike(got, right):
            return f"{name}: {got.dtype} {got.shape} instead of {right.dtype} {right.shape}"
        if right.dtype.kind in "fc":
            if not np.allclose(got, right, **tolerance, equal_nan=True):
                return f"{name}: other numbers"
        elif not np.array_equal(got.astype(right.dtype), right):
            return f"{name}: other values"
    return ""


def _alike(got: Any, right: Any) -> tuple[tuple[str, str], ...]:
    return ((right.dtype.kind, right.dtype.kind), *((("O", "U"),) if got.dtype.kind == "O" else ()))


def main() -> int:
    """All tests on every runtime that is asked for."""
    parser = argument_parser("ONNX's node tests through each adapter")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="this one alone; may be repeated")
    given = parser.parse_args()
    arguments = parsed(given)
    out = arguments.out.resolve()
    names = write_tests(out / "tests")[:: SHORT_EVERY if arguments.short else 1]
    rows = {runtime: _all(names, runtime, out) for runtime in given.runtime or RUNTIMES}
    return _report(arguments, rows)


def _all(names: Sequence[str], runtime: str, out: Path) -> list[Row]:
    path = out / f"rows-{runtime}.jsonl"
    while True:
        known = {row.name: row for row in _read(path)}
        pending = [name for name in names if name not in known][:TOGETHER]
        if not pending:
            return [known[name] for name in names]
        _walk(pending, runtime, out, path)
        print(f"{runtime}: {len(known)} of {len(names)}, now {pending[0]}", flush=True)


def _walk(names: Sequence[str], runtime: str, out: Path, rows: Path) -> None:
    from edgeport.isolation import run_isolated

    last: list[ProgressEvent] = []
    payload = {"names": list(names), "runtime": runtime, "folder": str(out / "tests"), "rows": str(rows)}
    try:
        run_isolated("benchmarks.adapters:walk_many", payload, limits=_LIMITS, on_progress=last.append)
    except IsolationError as error:
        if not last:
            raise
        outcome = Outcome.RUNTIME_REFUSES if last[-1].message == "runtime" else Outcome.FAULT
        row = Row(name=last[-1].stage, runtime=runtime, outcome=outcome, code=error.code, found=error.found[:300])
        with rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _read(path: Path) -> Iterator[Row]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            yield Row(**{**values, "outcome": Outcome(values["outcome"])})


def _report(arguments: Arguments, rows: Mapping[str, Sequence[Row]]) -> int:
    counts = {runtime: Counter(row.outcome for row in found) for runtime, found in rows.items()}
    checks = []
    for runtime, count in counts.items():
        if runtime in RUN and not arguments.short:
            checks.append(at_least(f"{runtime}: as the reference says", float(count[Outcome.RIGHT]), LEAST_RIGHT))
        if runtime == BUILT and not arguments.short:
            checks.append(at_least(f"{runtime}: engines built", float(count[Outcome.BUILT]), LEAST_BUILT))
        checks += [
            at_most(f"{runtime}: refused by Edgeport alone, not on the list", float(count[Outcome.UNLISTED]), 0.0),
            *(
                [at_most(f"{runtime}: wrong, though the runtime alone is right", float(count[Outcome.WRONG]), 0.0)]
                if runtime in RUN
                else []
            ),
            at_most(f"{runtime}: crashes and errors without a name", float(count[Outcome.FAULT]), 0.0),
        ]
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
        Table(
            title="The list of refusals",
            columns=("code", "found", "why"),
            rows=tuple((each.code, each.found, each.why) for each in REFUSALS),
        ),
    ]
    figures = {runtime: dict(count) for runtime, count in counts.items()}
    return report("adapters", arguments, figures, checks, seed=None, tables=tables)


if __name__ == "__main__":
    sys.exit(main())
