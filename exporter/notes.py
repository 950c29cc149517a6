"""What a reader of an exported file must know, one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from edgeport.exporter.passes.naming import SOURCE_KEY
from edgeport.onnx_files import node_module

__all__ = ["note_on_state", "notes_on_model"]

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_DROPOUT_MODE = 2
"""Index of Dropout's input `training_mode`; absent or false, it passes its input on."""

_MOST_PLACES = 5


def notes_on_model(model: ir.Model, *, batch: bool) -> tuple[str, ...]:
    """What the graph itself tells.

    Args:
        model: Named and annotated.
        batch: Axis 0 of every input is free and named `batch`.

    """
    return (*_on_random_numbers(model), *_on_shapes(model, batch=batch))


def note_on_state(changed: Sequence[str]) -> tuple[str, ...]:
    """On the buffers and tensor attributes that `forward` writes, by their paths."""
    if not changed:
        return ()
    note = (
        f"forward changes the model's own {_some(changed)}: every call of the file starts from the exported values, so "
        "what later calls of PyTorch's model return may differ. Hand state in and out of forward instead."
    )
    return (note,)


def _on_random_numbers(model: ir.Model) -> Iterator[str]:
    drawn: dict[str, dict[str, None]] = {}  # by operator its places, each once, in the order of the graph
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain in ("", "ai.onnx") and (node.op_type in _RANDOM or _is_training_dropout(node)):
            drawn.setdefault(node.op_type, {}).setdefault(_place(node))
    if drawn:
        found = "; ".join(f"{operator} in {_some(tuple(places))}" for operator, places in drawn.items())
        yield (
            f"The file draws random numbers: {found}. No two calls return the same, so it can't be verified against "
            "PyTorch: take them out of the model for inference."
        )


def _is_training_dropout(node: ir.Node) -> bool:
    if node.op_type != "Dropout" or len(node.inputs) <= _DROPOUT_MODE:
        return False
    mode = node.inputs[_DROPOUT_MODE]
    return mode is not None and (mode.const_value is None or bool(mode.const_value.numpy().any()))


def _place(node: ir.Node) -> str:
    line = node.metadata_props.get(SOURCE_KEY, "")
    return (node_module(node) or "the model's own forward") + (f" ({line})" if line else "")


def _some(names: Sequence[str]) -> str:
    left = len(names) - _MOST_PLACES
    return ", ".join(names[:_MOST_PLACES]) + (f" and {left} more" if left > 0 else "")


def _on_shapes(model: ir.Model, *, batch: bool) -> Iterator[str]:
    """Sizes that are known only while it runs, and outputs without a batch; neither can be taken apart by samples."""
    for value in model.graph.outputs:
        sizes = [str(getattr(size, "value", size)) for size in value.shape or ()]
        unknown = [size for size, each in zip(sizes, value.shape or (), strict=True) if _is_unbacked(each)]
        if unknown:
            yield f"The shape of output {value.name!r} depends on data ({', '.join(unknown)})."
        elif batch and value.shape is not None and sizes[:1] != ["batch"]:
            yield (
                f"Axis 0 of output {value.name!r} is not the batch (its shape is [{', '.join(sizes)}]), so it can't be "
                "verified or judged per sample: return one row per sample."
            )


def _is_unbacked(size: Any) -> bool:
    """torch.export calls sizes that depend on data u0, u1, ..."""
    return re.search(r"\bu\d+\b", str(getattr(size, "value", ""))) is not None
