"""The range of each activation of a graph, by the chosen method."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from edgeport.calibration.error_sensitivity import bias_weight
from edgeport.calibration.graph import constant_of, is_default_domain
from edgeport.calibration.ranges import (
    Auto,
    FixedRange,
    PowerOfTwo,
    RangeMethod,
    Scheme,
    choose,
    describe,
    observers_of,
    range_of,
    resolve,
)
from edgeport.contracts import Calibration, QuantizationRules
from edgeport.errors import CalibrationError

__all__ = ["RangeKey", "TensorRanges"]

RangeKey = tuple[str, RangeMethod, Scheme]
"""Tensor, method and integers."""

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "ReduceL1", "ReduceL2"})
_FEW_STEPS = 4


class TensorRanges:
    """Ranges of a model's activations under one dialect; each is found once.

    Args:
        calibration: Statistics of the model.
        rules: The dialect.
        method: How ranges are found.
        found: What is known already, by `RangeKey`; plans of one calibration by several methods share it.

    Raises:
        CalibrationError: The method looks at the whole model, and nothing in it was finite; or a tensor was not
            watched by the observers that the method reads.

    """

    def __init__(
        self,
        calibration: Calibration,
        rules: QuantizationRules,
        method: RangeMethod,
        found: dict[RangeKey, tuple[float, float]] | None = None,
    ) -> None:
        self.method = method
        self.scheme = Scheme(dtype=rules.activation_dtype, symmetric=rules.activation_symmetric)
        self._statistics = calibration.statistics
        self._rules = rules
        self._require_observers()
        self._resolved = resolve(method, self._statistics)
        self._known = {} if found is None else found
        self._found: dict[str, tuple[float, float]] = {}
        self._chosen: Counter[str] = Counter()

    def _require_observers(self) -> None:
        for name, statistics in self._statistics.items():
            missing = sorted(set(observers_of(self.method)) - set(statistics))
            if missing:
                raise CalibrationError(
                    asked=f"take ranges by {describe(self.method)}",
                    found=f"tensor {name!r} watched by {', '.join(sorted(statistics)) or 'no observer'}",
                    fix=f"calibrate again with {missing[0]!r} among the observers",
                )

    def known(self, value: ir.Value) -> bool:
        """float32, and finite in every sample: Inf (a mask) has no place in a range."""
        if value.dtype != ir.DataType.FLOAT:
            return False
        constant = constant_of(value)
        if constant is not None:
            return bool(np.isfinite(constant).all())
        statistics = self._statistics.get(value.name or "")
        if statistics is None:
            return False
        return int(statistics["extremes"]["nonfinite"]) == 0 < int(statistics["extremes"]["count"])

    def drowns(self, operand: ir.Value, result: ir.Value) -> bool:
        """The operand varies by fewer than four of the result's 256 steps.

        A mask that adds -10000 to scores of -10..10 makes the steps so wide that all scores look the same.
        """
        (low, high), (bottom, top) = self.of(operand), self.of(result)
        return 0 < high - low < _FEW_STEPS / 256 * (max(top, 0.0) - min(bottom, 0.0))

    def of(self, value: ir.Value) -> tuple[float, float]:
        """Smallest and largest value."""
        constant = constant_of(value)
        if constant is not None:
            return (float(constant.min()), float(constant.max())) if constant.size else (0.0, 0.0)
        name = str(value.name)
        if name not in self._found:
            self._found[name] = self._of_activation(value, name)
        return self._found[name]

    def _of_activation(self, value: ir.Value, name: str) -> tuple[float, float]:
        statistics = self._statistics[name]
        if isinstance(self.method, Auto):
            weight = bias_weight(value, self._rules)
            chosen, (low, high) = choose(
                statistics, self.scheme, bias_weight=weight, find=lambda one: self._by(one, name)
            )
            self._chosen[describe(chosen)] += 1
        else:
            low, high = self._by(self._resolved, name)
        if isinstance(self._resolved, FixedRange | PowerOfTwo):
            return low, high  # its scale must stay what it is
        if not self.scheme.symmetric and _is_never_negative(value):
            low = 0.0  # the zero point is then the lowest integer, and saturation is the Relu
        return min(low, high), high

    def _by(self, method: RangeMethod, name: str) -> tuple[float, float]:
        key = (name, method, self.scheme)
        if key not in self._known:
            self._known[key] = range_of(method, self._statistics[name], scheme=self.scheme)
        return self._known[key]

    def describe(self) -> str:
        """The method in a few words, with what it found or chose."""
        if self._chosen:
            choices = ", ".join(f"{count} {name}" for name, count in self._chosen.most_common())
            return f"{describe(self.method)} ({choices})"
        if isinstance(self._resolved, FixedRange):
            return describe(self._resolved)
        return describe(self.method)


def _is_never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or not is_default_domain(node):
        return False
    if node.op_type == "Clip":
        low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low.size == 1 and float(low.reshape(())) >= 0.0
    return node.op_type in _NEVER_NEGATIVE
