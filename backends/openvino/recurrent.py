"""LSTM layers with integers, written into the model that OpenVINO made of the ONNX file.

The CPU plugin runs an LSTMSequence in integers where its input, its state and both its weights come out of integers
(`ConvertFqRnnToQuantizedRnn` in its sources). Found with 2026.4:

- Input and state have one scale. The state lies between -1 and 1, so both are rounded to steps of 1/128 there, and the
  planner takes only layers whose input lies there too.
- Of scales per row of the gates it mixes up the gates, whose order it changes; and it takes the scales of W for R, and
  those of one layer for all layers of the same sizes (they share a kernel, which holds them). So there is one scale per
  unit of the state, for all its gates, both weights, and all layers of a size.
- Written as FakeQuantize alone, numbers around zero become signed, for which it has no kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeport.backends.openvino.session import import_openvino
from edgeport.contracts import Array

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LAYER", "quantize_recurrent"]

LAYER = "/LSTMSequence"
"""Behind the name of the ONNX node."""

_GATES = 4
_OPENVINO_ORDER = (2, 0, 3, 1)
"""Of ONNX's gates i, o, f, c: f, i, c, o."""
_STEP, _MIDDLE = 1 / 128, 128
_DATA, _WEIGHTS = (0, 1), (4, 5)


def quantize_recurrent(model: Any, graph: ir.Graph, planned: frozenset[str], *, reach: int) -> None:
    """Gives the planned LSTM nodes of `graph` integers, in what OpenVINO made of them; in place.

    Args:
        model: The `openvino.Model` of the graph.
        graph: Of the ONNX file.
        planned: Names of nodes; those of other operators are left alone.
        reach: Largest weight as an integer.

    """
    nodes = [node for node in graph if node.op_type == "LSTM" and node.name in planned]
    layers = [one for one in model.get_ordered_ops() if one.get_type_name() == "LSTMSequence"] if nodes else []
    found = {id(layer): (layer, node) for layer in layers for node in nodes if _is_made_of(layer, node)}
    scales: dict[tuple[object, ...], NDArray[np.float32]] = {}
    for layer, _ in found.values():
        own = _unit_scales([_array(layer, index) for index in _WEIGHTS], reach)
        scales[_sizes(layer)] = np.maximum(scales.get(_sizes(layer), own), own)
    for layer, node in found.values():
        _rewrite(layer, np.tile(scales[_sizes(layer)], _GATES).reshape(1, -1, 1), reach)
        layer.set_friendly_name(f"{node.name}{LAYER}")
    if found:
        model.validate_nodes_and_infer_types()


def _is_made_of(layer: Any, node: ir.Node) -> bool:
    """Its weights are the node's, with the gates in OpenVINO's order."""
    for index, value in zip(_WEIGHTS, node.inputs[1:3], strict=True):
        array, own = _array(layer, index), value.const_value if value is not None else None
        if array is None or own is None:
            return False
        wanted = np.asarray(own.numpy())
        gates = np.split(wanted, _GATES, axis=1)
        if array.shape != wanted.shape or not np.array_equal(
            array, np.concatenate([gates[at] for at in _OPENVINO_ORDER], 1)
        ):
            return False
    return True


def _array(layer: Any, index: int) -> Array | None:
    constant = layer.input_value(index).get_node()
    return np.array(constant.get_data()) if constant.get_type_name() == "Constant" else None


def _sizes(layer: Any) -> tuple[object, ...]:
    return tuple(tuple(layer.input_value(index).get_shape()) for index in _WEIGHTS)


def _unit_scales(weights: list[Array | None], reach: int) -> NDArray[np.float32]:
    """[hidden]: what the largest weight of a unit's rows, in all gates, becomes the largest integer by."""
    rows = np.maximum.reduce([np.abs(weight).max(axis=(0, 2)) for weight in weights if weight is not None])
    largest = rows.reshape(_GATES, -1).max(axis=0)
    scales: NDArray[np.float32] = np.where(largest > 0, largest / reach, 1).astype(np.float32)
    return scales


def _rewrite(layer: Any, scale: NDArray[np.float32], reach: int) -> None:
    openvino = import_openvino()
    operators = openvino.opset13
    low, high = -_MIDDLE * _STEP, (255 - _MIDDLE) * _STEP

    def number(value: float) -> Any:
        return operators.constant(np.float32(value))

    def restored(integers: Any, middle: int, step: Any) -> Any:
        floats = operators.convert(integers, openvino.Type.f32)
        return operators.multiply(operators.subtract(floats, number(middle)) if middle else floats, step)

    for index in _DATA:
        steps = operators.fake_quantize(
            layer.input_value(index), number(low), number(high), number(0), number(255), levels=256
        )
        integers = operators.convert(steps, openvino.Type.u8)
        layer.input(index).replace_source_output(restored(integers, _MIDDLE, number(_STEP)).output(0))
    for index in _WEIGHTS:
        array = _array(layer, index)
        if array is not None:
            rounded = np.clip(np.rint(array / scale), -reach, reach).astype(np.int8)
            weight = restored(operators.constant(rounded), 0, operators.constant(scale))
            layer.input(index).replace_source_output(weight.output(0))
