"""Runs a model with ONNX's reference evaluator; ships to the device like the session of any backend."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator


def open_session(path, settings):
    """Threads are a setting that changes nothing here."""
    del settings
    return Session(str(path))


class Session:
    def __init__(self, path):
        self._evaluator = ReferenceEvaluator(path)
        self._inputs = {one.name: one.type.tensor_type for one in onnx.load(path).graph.input}

    def bind(self, feeds):
        if self._evaluator is None:
            raise RuntimeError("asked to bind feeds; found a session that is closed; open it again")
        if set(feeds) != set(self._inputs):
            raise ValueError(f"asked to feed {sorted(feeds)}; found inputs {sorted(self._inputs)}")
        arrays = {name: np.array(array) for name, array in feeds.items()}
        for name, array in arrays.items():
            dtype = onnx.helper.tensor_dtype_to_np_dtype(self._inputs[name].elem_type)
            shape = [one.dim_value for one in self._inputs[name].shape.dim]  # 0 where any size does
            fits = len(shape) == array.ndim and all(want in (0, size) for want, size in zip(shape, array.shape))  # noqa: B905 (strict is Python 3.10)
            if array.dtype != dtype or not fits:
                raise ValueError(
                    f"asked to feed {name} {array.dtype} {array.shape}; found that it takes {dtype} {shape}"
                )
        return Call(self._evaluator, arrays)

    def close(self):
        self._evaluator = None


class Call:
    def __init__(self, evaluator, feeds):
        self._evaluator, self._feeds, self._results = evaluator, feeds, []

    def run(self):
        self._results = self._evaluator.run(None, self._feeds)

    def outputs(self):
        names = self._evaluator.output_names
        return {name: np.array(one) for name, one in zip(names, self._results)}  # noqa: B905 (strict is Python 3.10)
