"""OpenVINO IR from ONNX: the same file every time, with node names that lead back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeport.backends.openvino.float_nodes import FloatNodes
from edgeport.backends.openvino.names import GENERATED, onnx_name
from edgeport.backends.openvino.recurrent import quantize_recurrent
from edgeport.backends.openvino.rules import rules_for
from edgeport.backends.openvino.session import import_openvino
from edgeport.backends.qdq.quant_params import REDUCED_LIMIT
from edgeport.contracts import OnnxModel
from edgeport.onnx_files import read_ir

__all__ = ["INFO", "IrFromOnnx"]

LARGEST = 127
"""Largest weight as an integer."""

INFO = "edgeport"
"""Section of the IR's rt_info that holds what the plan wanted."""


class IrFromOnnx:
    """Converts one model.

    Attributes:
        model: The ONNX file, with the plan already written into it.
        planned: Names of the nodes that the plan runs in integers; kept in the IR, so that a placement can tell
            which of them did not.
        floats: Which operations stay in float32 where the rest is computed in bfloat16 or float16; None for none.

    """

    def __init__(self, model: OnnxModel, planned: Iterable[str] = (), floats: FloatNodes | None = None) -> None:
        self.model = model
        self.planned = sorted(planned)
        self.floats = floats

    def __call__(self, path: Path) -> None:
        """Writes `path` (`.xml`) and the weights beside it, in the precision that they have in the ONNX file.

        Raises:
            UnsupportedByBackend: An operator that OpenVINO has no words for.
            BackendError: Whatever else it says.

        """
        ov = import_openvino()
        graph = read_ir(self.model).graph
        try:
            converted = ov.convert_model(str(self.model.path))
        except Exception as error:
            from edgeport.backends.openvino.load_errors import not_converted

            raise not_converted(error, graph, self.model.path.name) from error
        reach = REDUCED_LIMIT if rules_for().weight_reduce_range else LARGEST
        quantize_recurrent(converted, graph, frozenset(self.planned), reach=reach)
        _part_from_inputs(ov, converted)
        _name_canonically(converted, graph)
        _name_inputs(converted, [spec.name for spec in self.model.inputs])
        _name_outputs(converted, [spec.name for spec in self.model.outputs])
        converted.set_rt_info(json.dumps(self.planned), [INFO, "int8"])
        ov.save_model(converted, str(path), compress_to_fp16=False)
        if self.floats is not None:
            self.floats.mark(path)


def _part_from_inputs(ov: Any, model: Any) -> None:
    """Puts an operation that changes nothing between an input and what gives it out as it is.

    A Dropout, or the sum of one tensor, is none in OpenVINO; the input is then called like the output in the file.
    """
    for result in model.results:
        given = result.input_value(0)
        if given.get_node().get_type_name() == "Parameter":
            between = ov.opset1.convert(given, given.get_element_type().to_string())
            result.input(0).replace_source_output(between.output(0))


def _name_inputs(model: Any, names: list[str]) -> None:
    """Gives back the names of inputs that are called like outputs, where OpenVINO dropped no input."""
    if len(model.inputs) == len(names):
        for port, name in zip(model.inputs, names, strict=True):
            if port.get_names() != {name}:
                port.get_tensor().set_names({name})


def _name_outputs(model: Any, names: list[str]) -> None:
    """Gives back the names of outputs that are inputs, or other outputs, and are called like these alone."""
    for port, name in zip(model.outputs, names, strict=True):
        if name not in port.get_names():
            port.get_tensor().add_names({name})


def _name_canonically(model: Any, graph: Any) -> None:
    """Names every operation after its ONNX node, or by its place in the model where OpenVINO made it up.

    OpenVINO's own names carry a counter of the process ("Constant_14160"), so equal models would give files of
    different bytes; and it names what computes an output after the output.
    """
    known = {node.name for node in graph if node.name}
    makers = {value.name: value.producer().name for value in graph.outputs if value.producer() is not None}
    for index, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() in ("Parameter", "Result"):
            continue
        name = operation.get_friendly_name()
        generated = f"{GENERATED}{operation.get_type_name()}_{index}"
        operation.set_friendly_name(name if onnx_name(name) in known else makers.get(name) or generated)
