"""The results of single steps, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import bytes_of, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import (
    Artifact,
    Calibration,
    Capabilities,
    Outcome,
    Precision,
    TensorSpec,
    Verification,
)

if TYPE_CHECKING:
    from edgeport.doctor import Diagnosis
    from edgeport.pipeline.dry_run import DryRun
    from edgeport.recipe_init import Draft

__all__ = [
    "draw_artifact",
    "draw_calibration",
    "draw_diagnosis",
    "draw_draft",
    "draw_dry_run",
    "draw_export",
    "draw_verification",
]

_STYLES = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red"}


def _rows(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(headers), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _named(rows: list[tuple[str, str]]) -> Table:
    table = _rows()
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(clean(value)))
    return table


def _verdict(outcome: Outcome) -> Text:
    return Text(str(outcome).upper(), style=_STYLES.get(outcome, "bold yellow"))


def draw_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Versions, this machine, packages, runtimes, the store; what to do comes last."""
    device, store = diagnosis.device, diagnosis.store
    console.print(
        _named(
            [
                ("Edgeport", f"{diagnosis.edgeport} on Python {diagnosis.python}, {device.system}"),
                ("machine", f"{device.cpu or device.machine}, {device.cores} cores, {bytes_of(device.memory_bytes)}"),
                ("features", ", ".join(device.isa) or "none that matter to inference"),
                (
                    "store",
                    f"{store.root}, {bytes_of(store.size_bytes)}{'' if store.writable else ', can not be written'}",
                ),
            ]
        )
    )
    console.print()
    table = _rows("package", "version", "for", "get it with")
    for package in diagnosis.packages:
        version = Text(package.version) if package.version else Text("missing", style="yellow")
        table.add_row(package.name, version, package.purpose, "" if package.version else package.install)
    console.print(table)
    console.print()
    console.print(_matrix(diagnosis.backends))
    console.print()
    for backend in diagnosis.backends:
        for reason in _reasons(backend):
            console.print(Text(clean(f"{backend.backend}: {reason}"), style="dim"))
    console.print()
    for problem in diagnosis.problems:
        console.print(Text(clean(problem), style="yellow"))
    if not diagnosis.problems:
        console.print(Text("Nothing that is needed is missing.", style="green"))


def _matrix(backends: Sequence[Capabilities]) -> Table:
    """A column per runtime; what it is, then what it can do."""
    table = _rows("", *(clean(backend.backend) for backend in backends))
    table.add_row("version", *(Text(clean(backend.version or "missing")) for backend in backends))
    table.add_row("runs here", *(_answer(yes=backend.can_run) for backend in backends))
    table.add_row("devices", *(Text(clean(", ".join(map(_device, backend.devices)) or "-")) for backend in backends))
    known = list(dict.fromkeys(precision for backend in backends for precision in backend.precisions))
    for label in _shortened([str(precision) for precision in known]):
        stem, _, sizes = label.rpartition("-")
        names = [f"{stem}-{size}" for size in sizes.split("/")] if "/" in sizes else [label]
        members = [precision for precision in known if str(precision) in names]
        table.add_row(label, *(_support(backend, members) for backend in backends))
    operators = [str(len(backend.rules.operators)) if backend.rules is not None else "-" for backend in backends]
    table.add_row("operators in int8", *operators)
    table.add_row("opset", *("-" if not one.installed else _opset(one.highest_opset) for one in backends))
    for layout in dict.fromkeys(layout for backend in backends for layout in backend.layouts):
        table.add_row(
            clean(layout), *(_answer(yes=backend.installed and layout in backend.layouts) for backend in backends)
        )
    return table


def _opset(highest: int | None) -> str:
    return "any" if highest is None else f"up to {highest}"


def _device(name: str) -> str:
    return name.removesuffix("ExecutionProvider")


def _answer(*, yes: bool) -> Text:
    return Text("yes", style="green") if yes else Text("no", style="yellow")


def _support(backend: Capabilities, members: Sequence[Precision]) -> Text:
    found = [one.available for precision in members if (one := backend.precisions.get(precision)) is not None]
    if found and any(found) and not all(found):
        return Text("some", style="yellow")
    return _answer(yes=bool(found) and all(found))


def _reasons(backend: Capabilities) -> list[str]:
    """Why not, a line for each reason; precisions that share one together."""
    lacking: dict[str, list[str]] = {}
    for precision, support in backend.precisions.items():
        if not support.available and support.reason not in ("", backend.reason):
            lacking.setdefault(support.reason, []).append(str(precision))
    reasons = [backend.reason] if backend.reason else []
    reasons += [f"{name} can't be asked for: found {why}" for name, why in backend.unusable.items()]
    return reasons + [f"{', '.join(_shortened(names))}: {reason}" for reason, names in lacking.items()]


def _shortened(names: Sequence[str]) -> list[str]:
    """Names that differ in the block size alone as one: "int4-weights-32/64/128"."""
    sizes: dict[str, list[str]] = {}
    for name in names:
        stem, _, size = name.rpartition("-")
        sizes.setdefault(stem if size.isdigit() else name, []).append(size if size.isdigit() else "")
    return [f"{stem}-{'/'.join(found)}" if any(found) else stem for stem, found in sizes.items()]


def draw_export(console: Console, report: Any) -> None:
    """Where the model is, its inputs and outputs, and what was noticed."""
    model = report.model
    rows = [("model", str(model.path)), ("opset", str(model.opset)), ("digest", model.digest)]
    rows += [("input", _tensor(spec)) for spec in model.inputs]
    rows += [("output", _tensor(spec)) for spec in model.outputs]
    rows += [("note", note) for note in report.notes]
    console.print(_named(rows))


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} [{', '.join(str(size) for size in spec.shape)}]"


def draw_verification(console: Console, found: Verification) -> None:
    """Each output's errors, the metric of both, and the outcome."""
    table = _rows("output", "largest error", "mean error", "SQNR")
    for output in found.outputs:
        sqnr = "equal" if math.isinf(output.sqnr_db) else f"{output.sqnr_db:.1f} dB"
        table.add_row(Text(clean(output.name)), f"{output.max_abs:.3g}", f"{output.mean_abs:.3g}", sqnr)
    console.print(table)
    if found.metric and found.pytorch is not None and found.onnx is not None:
        both = f"{significant(found.pytorch, 4)} in PyTorch, {significant(found.onnx, 4)} exported"
        console.print(Text(f"{clean(found.metric)}: {both}"))
    sizes = ", ".join(str(size) for size in found.batch_sizes)
    console.print(Text(f"{found.samples} samples in batches of {sizes}; tolerance {found.tolerance:g} "))
    console.print(_verdict(found.outcome))


def draw_calibration(console: Console, found: Calibration, path: Path) -> None:
    """What was seen, and where it lies."""
    seen = f"{len(found.statistics)} tensors over {found.sample_count} samples"
    lines(console, Text(f"{seen}: {clean(path)}"))
    if found.transforms:
        made = path.with_name(f"{path.stem}.recovered.onnx")
        lines(console, Text(f"{clean(', '.join(found.transforms))}; quantize {clean(made)}"))


def draw_artifact(console: Console, artifact: Artifact, folder: Path, *, made: str = "", ran: bool = True) -> None:
    """What was built, what became of it on the way where that is said, and what it is not."""
    built = f"{artifact.backend} {artifact.precision}, {bytes_of(artifact.size_bytes)}: {folder}"
    lines(console, Text(clean(built)))
    if made:
        lines(console, Text(clean(made)))
    if ran:
        lines(console, Text("It is not measured yet: edgeport bench", style="dim"))
    else:
        lines(console, Text("Built, not run: nothing here runs it, and edgeport doctor tells why", style="yellow"))


def draw_draft(console: Console, draft: Draft) -> None:
    """What was written, found and guessed, and the command to go on with."""
    for path in draft.files:
        lines(console, Text(f"Wrote {clean(str(path))}", style="bold green"))
    for title, sentences in (("found", draft.found), ("guessed", draft.guessed), ("note", draft.notes)):
        style = "bold yellow" if title == "guessed" else "bold"
        table = _rows()
        table.add_column(style=style, no_wrap=True, min_width=len("guessed"))
        table.add_column(overflow="fold")
        for sentence in sentences:
            table.add_row(title, Text(clean(sentence)))
        if sentences:
            console.print(table)
    lines(console, Text(f"Next: {clean(draft.next)}", style="bold"))


def draw_dry_run(console: Console, found: DryRun) -> None:
    """Every step with what it would take, and the sum."""
    table = _rows("step", "what", "time")
    for step in found.steps:
        took = "stored" if step.stored else f"{step.seconds:.0f} s"
        table.add_row(step.name, Text(clean(step.what)), took, style="dim" if step.stored else "")
    console.print(table)
    minutes = f"{found.seconds / 60:.0f} min" if found.seconds >= 120 else f"{found.seconds:.0f} s"
    lines(console, Text(f"{clean(found.name)}: about {minutes} on a small machine that is idle.", style="bold"))
    lines(console, Text(f"What is finished is kept in {clean(str(found.store))}"))
