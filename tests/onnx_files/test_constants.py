"""Inputs that are always the same, written into the graph."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeport.errors import ModelError
from edgeport.onnx_files import write_constants


def scaled(dtype=TensorProto.INT64, shape=()):
    """y = x * rate."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["rate"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
        ],
        "scaled",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("rate", dtype, shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


@pytest.mark.parametrize(
    ("shape", "value", "wanted"),
    [((), 16, np.int64(16)), ((3,), 2, [2, 2, 2]), ((3,), [1, 2, 3], [1, 2, 3]), (("free",), [4], [4])],
    ids=["scalar", "filled", "list", "free-axis"],
)
def test_a_value_takes_the_place_of_an_input(shape, value, wanted):
    model = scaled(shape=shape)

    write_constants(model, {"rate": value})

    assert [each.name for each in model.graph.inputs] == ["x"]
    written = model.graph.initializers["rate"].const_value.numpy()
    assert written.dtype == np.int64
    np.testing.assert_array_equal(written, wanted)


@pytest.mark.parametrize(
    ("shape", "values", "says"),
    [
        ((), {"rat": 1}, "did you mean 'rate'"),
        ((), {"rate": 1.5}, "a value that this type holds"),
        ((), {"rate": "fast"}, "such a value"),
        ((3,), {"rate": [1, 2]}, "of that shape"),
        (("free",), {"rate": 1}, "of that shape"),
    ],
    ids=["name", "rounded", "text", "shape", "unknown-size"],
)
def test_what_it_can_not_be_is_refused(shape, values, says):
    with pytest.raises(ModelError) as caught:
        write_constants(scaled(shape=shape), values)

    assert says in caught.value.fix
