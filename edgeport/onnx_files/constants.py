"""Inputs that are always the same, written into the graph."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeport.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

__all__ = ["write_constants"]


def write_constants(model: ir.Model, values: Mapping[str, object]) -> None:
    """Makes constants of inputs; what depends on them alone is left to be folded.

    Args:
        model: Changed in place.
        values: Numbers, or lists of them, by input; a single number fills every value of the input.

    Raises:
        ModelError: No such input, or a value that it can't have.

    """
    import onnx_ir as ir

    for name, value in values.items():
        found = next((each for each in model.graph.inputs if each.name == name), None)
        if found is None:
            known = [str(each.name) for each in model.graph.inputs]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise ModelError(
                asked=f"write the value of input {name!r} into the graph",
                found=f"a model with inputs {', '.join(map(repr, known))}",
                fix=f"did you mean {near[0]!r}?" if near else "name one of them",
            )
        array = _array(found, value)
        model.graph.inputs.remove(found)
        found.const_value = ir.tensor(array, name=name)
        found.shape = ir.Shape(array.shape)
        model.graph.register_initializer(found)


def _array(value: ir.Value, given: object) -> np.ndarray:
    import numpy as np

    asked = f"write {given!r} into the graph as input {value.name!r}"
    if value.dtype is None or value.shape is None:
        raise ModelError(asked=asked, found="an input without dtype or shape", fix="export the model with them")
    dtype = value.dtype.numpy()
    try:
        plain = np.asarray(given)
        array = plain.astype(dtype)
    except (TypeError, ValueError) as error:
        raise ModelError(asked=asked, found=f"that it takes {dtype}", fix="give such a value") from error
    if plain.dtype.kind in "USO" or not np.array_equal(array.astype(plain.dtype), plain):
        raise ModelError(asked=asked, found=f"that it takes {dtype}", fix="give a value that this type holds")
    sizes = [size if isinstance(size, int) else None for size in value.shape]
    if array.ndim == 0 and None not in sizes:
        return np.full([size for size in sizes if size is not None], array)
    fits = len(sizes) == array.ndim and all(w is None or w == s for w, s in zip(sizes, array.shape, strict=True))
    if not fits:
        raise ModelError(
            asked=asked, found=f"that it takes shape {list(value.shape)}", fix="give numbers in brackets, of that shape"
        )
    return array
