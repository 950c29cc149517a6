"""Small graphs and plans for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.contracts import (
    ActivationQuantization,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    WeightQuantization,
)


def _graph(
    nodes: Sequence, constants: Mapping[str, np.ndarray], shape: Sequence, outputs: Sequence[str], opset: int = 20
):
    import onnx_ir as ir
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    graph = helper.make_graph(
        list(nodes),
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model = ir.from_proto(shape_inference.infer_shapes(proto))
    for node in model.graph:
        node.metadata_props["edgeport.module"] = f"net.{node.name}"
    return model


def _plan(
    nodes: Mapping[str, Precision],
    activations: Mapping[str, tuple[float, float]],
    weights: Mapping[str, int | None],
    **more,
) -> QuantizationPlan:
    return QuantizationPlan(
        **{"dialect": "onnxruntime-x86", "model_digest": ""} | more,
        nodes=dict(nodes),
        activations={
            name: ActivationQuantization(dtype="uint8", minimum=low, maximum=high)
            for name, (low, high) in activations.items()
        },
        weights={name: WeightQuantization(axis=axis) for name, axis in weights.items()},
    )


@pytest.fixture
def make_graph() -> Callable:
    return _graph


@pytest.fixture
def make_plan() -> Callable:
    return _plan


@pytest.fixture
def rules() -> QuantizationRules:
    return x86_rules(vnni=True)


@pytest.fixture
def edges() -> Callable:
    """A graph as readable lines: `operator(inputs) -> outputs`."""

    def lines(model) -> list[str]:
        return [
            f"{node.op_type}({', '.join(value.name for value in node.inputs)}) -> "
            + ", ".join(value.name for value in node.outputs)
            for node in model.graph
        ]

    return lines
