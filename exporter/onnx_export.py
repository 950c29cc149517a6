"""A PyTorch module as an ONNX file: captured by torch.export, folded, named after its modules."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import Arrays
from edgeport.errors import DynamicShapeError, ExportError, ModelError, OutputError, SamplesError
from edgeport.exporter.capture import Captured, CaptureFailed, capture, free_axes, tensors_only
from edgeport.exporter.eager_check import run_once
from edgeport.exporter.explain import explain_export_failure, user_line
from edgeport.exporter.input_binding import Binding, bind_feeds
from edgeport.exporter.options import ExportOptions, ExportResult
from edgeport.exporter.rnn_operators import as_operators, has_recurrence, translations
from edgeport.exporter.silence import quiet
from edgeport.onnx_files import write_ir

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

__all__ = ["export_onnx"]

IR_VERSION = 10
"""The newest that every runtime of the last two years reads (onnx itself would write 14)."""


def export_onnx(
    module: torch.nn.Module,
    example: Arrays,
    *,
    output: Path,
    options: ExportOptions = ExportOptions(),  # noqa: B008
) -> ExportResult:
    """Exports a module; the same module gives the same bytes.

    Args:
        module: In evaluation mode, on the CPU.
        example: Arrays by input name, axis 0 is the batch: at least 2 where the batch is free, because tracers
            take a 1 for a constant.
        output: The `.onnx` file to write; large weights lie beside it.
        options: How.

    Raises:
        GraphBreakError: Control flow that depends on data.
        DataDependentShapeError: A size that depends on data.
        UnsupportedOperatorError: ONNX has no word for an operator.
        DynamicShapeError: The model fixes an axis that should be free.
        ExportError: Anything else; each names the line of the model.
        SamplesError: The example does not fit `forward`.
        OutputError: Not a place for an `.onnx` file.

    """
    name = _plain_name(module)
    _check(module, example, output, options)
    binding = bind_feeds(module, example, options.parameters, options.constants)
    first = run_once(module, binding, example, options)
    if first.one_only:  # It takes one sample only, and a fixed batch is allowed.
        options = replace(options, dynamic_batch=False)
    job = _Export(module=module, name=name, binding=binding, feeds=first.example, options=options)
    with tensors_only(module) if first.has_constants else contextlib.nullcontext():
        model = job.run()
    start = time.perf_counter()
    _finish(model, job, first.outputs)
    job.seconds["optimize"] = time.perf_counter() - start
    start = time.perf_counter()
    written = write_ir(model, output)
    job.seconds["write"] = time.perf_counter() - start

    from edgeport.exporter.notes import note_on_state, notes_on_model
    from edgeport.exporter.passes.naming import list_modules

    return ExportResult(
        model=written,
        exporter="torch.export" if job.way else "TorchScript",
        capture=job.way,
        notes=(
            *first.notes,
            *job.notes,
            *note_on_state(first.changed),
            *notes_on_model(model, batch=written.fixed_batch is None),
        ),
        modules=list_modules(model),
        seconds={step: round(seconds, 3) for step, seconds in job.seconds.items()},
    )


class _Export:
    """One export: what was tried, and what must be said about it."""

    def __init__(
        self, *, module: torch.nn.Module, name: str, binding: Binding, feeds: Arrays, options: ExportOptions
    ) -> None:
        self.module, self.name, self.binding, self.feeds, self.options = module, name, binding, feeds, options
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.way = ""

    def run(self) -> ir.Model:
        """The allowed ways in turn: as asked, with a fixed batch, by the older exporter."""
        try:
            return self._modern(batch=self.options.dynamic_batch)
        except DynamicShapeError as error:
            failed: ExportError = error
            if self.options.dynamic_batch and self.options.static_batch_fallback:
                try:
                    return self._fixed(error)
                except ExportError as second:
                    failed = second
        except ExportError as error:
            failed = error
        if self.options.allow_legacy_exporter:
            return self._legacy(failed)
        raise failed

    def _fixed(self, error: ExportError) -> ir.Model:
        model = self._modern(batch=False)
        size = next(len(array) for name, array in self.feeds.items() if name not in self.options.state.values())
        self.notes.append(f"The batch is fixed to {size}, because the model fixes it: {error.found}.")
        return model

    def _modern(self, *, batch: bool) -> ir.Model:
        _refuse_scripted(self.module, self.name)
        axes = free_axes(self.feeds, self.options, batch=batch)
        start = time.perf_counter()
        whole = bool(self.options.dynamic_axes) and has_recurrence(self.module)
        with quiet(), as_operators() if whole else contextlib.nullcontext():
            try:
                captured = capture(self.module, self.binding, self.feeds, axes, self.options.capture)
            except CaptureFailed as failed:
                raise explain_export_failure(self.name, failed.failures) from failed.failures[0]
            self.seconds["capture"] = time.perf_counter() - start
            start = time.perf_counter()
            model = self._convert(captured)
        self.seconds["convert"] = time.perf_counter() - start
        self.way = captured.way
        if captured.failures:
            line = user_line(captured.failures[0])
            self.notes.append(f"Captured strictly, because the non-strict way failed{f' at {line}' if line else ''}.")
        return model

    def _convert(self, captured: Captured) -> ir.Model:
        import torch

        try:
            program = torch.onnx.export(
                captured.program,
                dynamo=True,
                opset_version=self.options.opset,
                custom_translation_table=translations() if has_recurrence(self.module) else None,
                optimize=False,
                verbose=False,
            )
        except Exception as error:
            raise explain_export_failure(self.name, [error]) from error
        if program is None:
            raise ExportError(
                asked=f"export {self.name} to ONNX", found="that torch.onnx.export gave nothing", fix="report this"
            )
        return program.model

    def _legacy(self, error: ExportError) -> ir.Model:
        from edgeport.exporter.torchscript_export import export_legacy

        start = time.perf_counter()
        with quiet():
            try:
                model = export_legacy(self.module, self.binding, self.feeds, self.options)
            except Exception as failed:
                error.add_note(f"The TorchScript exporter failed too: {failed}")
                raise error from failed
        self.seconds["convert"] = time.perf_counter() - start
        self.notes.append(
            f"Exported with the older TorchScript exporter, because torch.export failed: {error.found.rstrip('.')}. "
            "It records one run: control flow is fixed as the example took it."
        )
        return model


def _check(module: torch.nn.Module, example: Arrays, output: Path, options: ExportOptions) -> None:
    asked = f"export {_plain_name(module)} to {output.name}"
    if output.suffix != ".onnx":
        raise OutputError(asked=asked, found=f"the ending {output.suffix!r}", fix="name the file .onnx")
    _refuse_training(module, asked)
    numbers = [name for name, array in example.items() if array.ndim == 0 and name not in options.state.values()]
    if numbers:
        raise SamplesError(
            asked=asked,
            found=f"a single number for {', '.join(numbers)}, without an axis that counts samples",
            fix="give one per sample (shape [N] or [N, 1]), or a value that is written into the graph ([inputs.NAME] "
            "value in a recipe), or make it an argument of the factory",
        )
    sizes = {name: len(array) for name, array in example.items() if name not in options.state.values()}
    if not sizes or len(set(sizes.values())) != 1:
        raise SamplesError(asked=asked, found=f"batches of {sizes}", fix="give every input the same axis 0")
    if options.dynamic_batch and min(sizes.values()) < 2:
        raise SamplesError(
            asked=f"{asked} with a free batch",
            found=f"an example of batch {min(sizes.values())}, which tracers take for a constant",
            fix="give an example of 2 or more samples",
        )
    unknown = set(options.dynamic_axes) - set(example)
    if unknown:
        raise SamplesError(
            asked=f"{asked} with free axes of {', '.join(sorted(unknown))}",
            found=f"the inputs {', '.join(example)}",
            fix="name one of them",
        )


def _refuse_training(module: torch.nn.Module, asked: str) -> None:
    """Norms that still learn: the file would take their running statistics, and PyTorch those of the batch."""
    from torch.nn.modules.batchnorm import _BatchNorm

    if module.training and not hasattr(module, "graph"):
        raise ExportError(asked=asked, found="a module in training mode", fix="call module.eval() first")
    learning = [
        name
        for name, each in module.named_modules()
        if isinstance(each, _BatchNorm) and each.training and each.running_mean is not None
    ]
    if learning:
        more = f" and {len(learning) - 1} more" if len(learning) > 1 else ""
        raise ExportError(
            asked=asked,
            found=f"the batch norm {learning[0]}{more} in training mode, though the model is in evaluation mode",
            fix="call eval() on it too; a train() of the model's own may keep it from that",
        )


def _refuse_scripted(module: torch.nn.Module, name: str) -> None:
    import torch

    scripted = [path for path, each in module.named_modules() if isinstance(each, torch.jit.ScriptModule)]
    if scripted:
        where = f" in {scripted[0]}" if scripted[0] else ""
        raise ExportError(
            asked=f"export {name} to ONNX",
            found=f"TorchScript (torch.jit.script or torch.jit.trace){where}, which torch.export does not read",
            fix="let the factory build the plain module"
            # The older exporter takes TorchScript as a whole only.
            + (" there" if where else ", or allow the older exporter (--allow-legacy-exporter)"),
        )


def _finish(model: ir.Model, job: _Export, outputs: Sequence[str]) -> None:
    """Annotates, folds and names, in that order: what is folded keeps where it came from."""
    from edgeport.exporter.passes import naming
    from edgeport.exporter.passes.batch_norm_folding import fold_batch_norms
    from edgeport.exporter.passes.constant_folding import fold_constants, simplify
    from edgeport.exporter.passes.global_average_pool import pool_means
    from edgeport.exporter.passes.weight_transpose import fold_transposed_weights

    inputs = job.binding.feeds
    if len(model.graph.inputs) != len(inputs) or len(model.graph.outputs) != len(outputs):
        raise ExportError(
            asked=f"export {len(inputs)} inputs and {len(outputs)} outputs",
            found=f"{len(model.graph.inputs)} inputs and {len(model.graph.outputs)} outputs in the graph",
            fix="return only tensors that depend on the inputs",
        )
    naming.annotate(model)
    with quiet():
        fold_transposed_weights(model)  # before the rest, which would fold and drop their names
        fold_constants(model)
        fold_transposed_weights(model)
        fold_batch_norms(model)
        simplify(model)
    pool_means(model)  # behind the rewrites, which look for means
    states = set(job.options.state.values())
    batch = {0: "batch"}
    naming.name_axes(
        model, [{**job.options.dynamic_axes.get(name, {}), **({} if name in states else batch)} for name in inputs]
    )
    naming.rename(model, inputs, outputs, set(job.module.state_dict()))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgeport", None
    _keep_declared_axes(model, job.feeds)


def _keep_declared_axes(model: ir.Model, example: Arrays) -> None:
    """Inputs must be as declared; a folding pass that changed a dtype or rank would be a fault of ours."""
    for value in model.graph.inputs:
        rank = example[value.name or ""].ndim
        if value.shape is None or len(value.shape) != rank:
            raise ModelError(
                asked=f"keep input {value.name!r} of rank {rank}",
                found=f"shape {value.shape}",
                fix="report this as a fault in Edgeport",
            )


def _plain_name(module: torch.nn.Module) -> str:
    return str(getattr(module, "original_name", type(module).__name__))
