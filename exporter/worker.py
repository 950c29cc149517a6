"""What runs in a child process: the user's code, torch and its exporter never meet the parent.

Called as `run_isolated("edgeport.exporter.worker:export_in_child", payload)`; payloads and results are JSON values.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgeport.atomic import atomic_file
from edgeport.contracts import (
    Array,
    Arrays,
    ModelSource,
    OnProgress,
    ProgressEvent,
    TensorSpec,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import SamplesError
from edgeport.exporter.options import ExportOptions
from edgeport.npz import load_npz, save_npz

if TYPE_CHECKING:
    import torch

__all__ = [
    "contract_of",
    "export_in_child",
    "export_options_of",
    "loaded_arrays",
    "loaded_module",
    "reference_in_child",
    "synthesize_in_child",
]

_T = TypeVar("_T")

_THREADS_KEY = "threads"


def export_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, exports it, and computes PyTorch's outputs for the evaluation samples.

    Args:
        payload: `source` (a `ModelSource`), `example` (path of an `.npz` with the example feeds), `output` (path
            of the `.onnx`), and where wanted `options` (an `ExportOptions`), `feeds` (path of an `.npz` with the
            evaluation feeds) with `reference` (path of the `.npz` that is written) and `batch` (samples per
            forward pass), `starts` (indices of the samples at which a sequence begins), `sizes` (folder for runs at
            other sizes of the free axes), `strict` (arrays must be called as the parameters of `forward`, not only
            stand in their order), and `threads`.
        on_progress: Told of each step.

    Returns:
        `result` (an `ExportResult`), its `model` (an `OnnxModel`) and `notes` once more, the names of the
        `outputs`, `reference`, the path that was written or None, and `sizes`: `axis`, `size`, and the paths `feeds`
        and `outputs` of each run at another size.

    Raises:
        SamplesError: PyTorch itself does not take the evaluation samples.
        EdgeportError: As `load_module`, `export_onnx` and `reference_outputs`.

    """
    from edgeport.exporter.loaders.model_source import notes_on_source
    from edgeport.exporter.onnx_export import export_onnx

    steps = 3 if payload.get("feeds") else 2
    _tell(on_progress, "load the model", 0, steps)
    options = export_options_of(payload)
    module = loaded_module(payload)
    _tell(on_progress, "export", 1, steps)
    example = loaded_arrays(payload["example"])
    if payload.get("feeds"):
        _require_fit(module, example, options, strict=bool(payload.get("strict")))
    result = export_onnx(module, example, output=Path(payload["output"]), options=options)
    result = replace(result, notes=(*notes_on_source(contract_of(ModelSource, payload["source"])), *result.notes))
    written = None
    if payload.get("feeds"):
        _tell(on_progress, "run PyTorch on the samples", 2, steps)
        linked = replace(result.model, state=options.state)
        written = _write_reference(module, payload, options, linked.fixed_batch)
    sizes = []
    if payload.get("sizes"):
        rows = slice(replace(result.model, state=options.state).fixed_batch)
        fed = {name: array if name in options.state.values() else array[rows] for name, array in example.items()}
        sizes = _write_sizes(module, fed, options, Path(payload["sizes"]))
    return {
        "sizes": sizes,
        "result": to_jsonable(result),
        "model": to_jsonable(result.model),
        "notes": list(result.notes),
        "outputs": [spec.name for spec in result.model.outputs],
        "reference": written,
    }


def reference_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model and computes its outputs for samples, without an export.

    Args:
        payload: `source`, `feeds`, `reference`, and where wanted `options`, `batch`, `threads`, as in
            `export_in_child`.
        on_progress: Told of each step.

    Returns:
        `reference`, the path that was written, and the names of the `outputs`.

    Raises:
        EdgeportError: As `load_module` and `reference_outputs`.

    """
    _tell(on_progress, "load the model", 0, 2)
    options = export_options_of(payload)
    module = loaded_module(payload)
    _tell(on_progress, "run PyTorch on the samples", 1, 2)
    written = _write_reference(module, payload, options)
    with np.load(written, allow_pickle=False) as file:
        return {"reference": written, "outputs": list(file.files)}


def _write_sizes(
    module: torch.nn.Module, example: Arrays, options: ExportOptions, folder: Path
) -> list[dict[str, Any]]:
    from edgeport.exporter.dynamic_shape_check import at_other_sizes

    if not options.dynamic_batch and not options.dynamic_axes:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for index, one in enumerate(at_other_sizes(module, example, options)):
        outputs = one.outputs
        if options.output_names:
            outputs = dict(zip(options.output_names, outputs.values(), strict=True))
        feeds_path, outputs_path = folder / f"{index}-feeds.npz", folder / f"{index}-outputs.npz"
        _save(feeds_path, one.feeds)
        _save(outputs_path, outputs)
        found.append({"axis": one.axis, "size": one.size, "feeds": feeds_path.name, "outputs": outputs_path.name})
    return found


def synthesize_in_child(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Makes samples from the BatchNorm statistics of a model.

    Args:
        payload: `source`, `inputs` (the declared `TensorSpec`s), `count`, `seed`, `output` (path of the `.npz`).
        on_progress: Told of each batch.

    Raises:
        EdgeportError: As `load_module` and `synthesize`.

    """
    module = loaded_module(payload)
    from edgeport.exporter.synthesize import synthesize

    inputs = [contract_of(TensorSpec, spec) for spec in payload["inputs"]]
    made = synthesize(module, inputs, int(payload["count"]), int(payload["seed"]), on_progress=on_progress)
    save_npz(Path(payload["output"]), made)
    return {}


def loaded_module(payload: Mapping[str, Any]) -> torch.nn.Module:
    """The module of `source`, with `threads` for torch where they are given; called before what imports PyTorch."""
    # Read when PyTorch is loaded. Threads that spin while they wait make PyTorch many times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from edgeport.exporter.loaders.model_source import load_module

    if payload.get(_THREADS_KEY):
        torch.set_num_threads(int(payload[_THREADS_KEY]))
    return load_module(contract_of(ModelSource, payload["source"]))


def _require_fit(module: torch.nn.Module, example: Arrays, options: ExportOptions, *, strict: bool) -> None:
    """Tells samples that do not fit the model apart from a model that can't be exported."""
    from edgeport.exporter.explain import user_line
    from edgeport.exporter.input_binding import bind_feeds, run_eagerly

    given = ", ".join(f"{name}: {array.dtype} {list(array.shape)}" for name, array in example.items())
    asked = f"run {type(module).__name__} on evaluation samples ({given})"
    binding = bind_feeds(module, example, options.parameters, options.constants)
    parameters = inspect.signature(module.forward).parameters
    variadic = any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters.values())
    foreign = [name for name in example if name not in parameters and name in binding.arguments]
    if strict and foreign and not options.parameters and not variadic:
        raise SamplesError(
            asked=asked,
            found=f"forward{inspect.signature(module.forward)}, which has no {', '.join(map(repr, foreign))}",
            fix=f"name the arrays {', '.join(parameters)}; or declare them under [inputs], in the order of forward's "
            "parameters, to keep their names",
            details={"problem": "name", "input": foreign[0]},
        )
    failed: Exception | None = None
    # A model may take one sample only: that is the export's to say.
    for rows in (slice(None), slice(0, 1))[: 1 if options.state else 2]:
        try:
            run_eagerly(module, binding, {name: array[rows] for name, array in example.items()})
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            failed = failed or error
        except Exception:  # noqa: BLE001 (no fault of the samples; the export will name the line)
            return
        else:
            return
    line = user_line(failed) if failed is not None else None
    floats = sorted({str(one.dtype).removeprefix("torch.") for one in module.parameters() if one.is_floating_point()})
    other = [name for name, array in example.items() if array.dtype.kind == "f" and str(array.dtype) not in floats]
    raise SamplesError(
        asked=asked,
        found=f"{type(failed).__name__}{f' at {line}' if line else ''}: {str(failed).strip()[:300]}",
        fix=f"convert {', '.join(map(repr, other))} to the model's own {floats[0]}: array.astype({floats[0]!r})"
        if other and floats
        else "give arrays of the dtypes and shapes that the model takes; this is PyTorch alone, before any export",
        details={"problem": "dtype" if other and floats else "model"},
    )


def _write_reference(
    module: torch.nn.Module, payload: Mapping[str, Any], options: ExportOptions, fixed: int | None = None
) -> str:
    from edgeport.exporter.input_binding import reference_outputs

    path = Path(payload["reference"])
    batch = fixed or int(payload.get("batch", 32))
    outputs = reference_outputs(
        module,
        loaded_arrays(payload["feeds"]),
        batch,
        options.parameters,
        constants=options.constants,
        state=options.state,
        starts=payload.get("starts", (0,)),
    )
    if options.output_names:
        kept = [name for name in options.output_names if name not in options.state]
        outputs = dict(zip(kept, outputs.values(), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(path, outputs)
    return str(path)


def _save(path: Path, arrays: Arrays) -> None:
    """Under a temporary name first, so that a killed child leaves no half file."""
    with atomic_file(path) as draft:
        save_npz(draft, arrays)


def loaded_arrays(path: str) -> dict[str, Array]:
    """What is in a `.npz`.

    Raises:
        SamplesError: It is none, or holds objects of Python.

    """
    try:
        return load_npz(path)
    except (OSError, ValueError, EOFError) as error:
        raise SamplesError(
            asked=f"read the samples {Path(path).name}",
            found=f"no .npz of plain arrays ({error})",
            fix="write it with numpy.savez; arrays of objects are not read",
        ) from error


def contract_of(cls: type[_T], values: Any) -> _T:
    """A contract out of the JSON values of a payload."""
    return load_json(cls, json.dumps(values))


def export_options_of(payload: Mapping[str, Any]) -> ExportOptions:
    """The `options` of a payload, or the usual ones."""
    return contract_of(ExportOptions, payload["options"]) if payload.get("options") else ExportOptions()


def _tell(on_progress: OnProgress, message: str, done: int, total: int) -> None:
    on_progress(ProgressEvent(stage="export", message=message, done=done, total=total))
