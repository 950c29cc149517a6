"""Feeds as the runtime takes them.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence  # noqa: UP035 (Python 3.8 can't subscript those of collections.abc)

import numpy as np

__all__ = ["check_feeds", "plain_text"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(string)": "object",
}


def check_feeds(inputs: Sequence[Any], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds as contiguous arrays of its own memory, by input name; text as Python's objects.

    Args:
        inputs: What `InferenceSession.get_inputs` tells.
        feeds: Arrays by name.

    Raises:
        ValueError: Names, dtypes or shapes that do not fit.

    """
    wanted = {node.name: node for node in inputs}
    if set(wanted) != set(feeds):
        raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {sorted(wanted)}")
    sizes: dict[str, int] = {}
    arrays = {}
    for name, node in wanted.items():
        array = np.asarray(feeds[name])
        dtype = _DTYPES.get(node.type)
        is_text = dtype == "object"
        if is_text and array.dtype.kind in "UT":
            array = array.astype(object)
        if dtype is None or array.dtype != np.dtype(dtype):
            takes = node.type if dtype is None or is_text else dtype
            raise ValueError(f"asked to feed {name!r} as {array.dtype}; found that it takes {takes}")
        if not _fits(array.shape, node.shape, sizes):
            raise ValueError(
                f"asked to feed {name!r} in shape {list(array.shape)}; found that it takes {list(node.shape)}"
            )
        arrays[name] = np.array(array, order="C", copy=True)
    return arrays


def plain_text(array: Any) -> Any:
    """The array; text, which the runtime gives as Python's objects, as numpy's own, which files can hold."""
    return array.astype(np.str_) if array.dtype.hasobject else array


def _fits(shape: Sequence[int], wanted: Sequence[Any], sizes: dict[str, int]) -> bool:
    """Sizes equal the fixed ones, and a named axis has one size everywhere."""
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted):  # noqa: B905 (newer than 3.8)
        expected = sizes.setdefault(want, size) if isinstance(want, str) else want
        if expected is not None and size != expected:
            return False
    return True
