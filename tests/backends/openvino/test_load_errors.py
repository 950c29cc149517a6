"""What OpenVINO does not take, in words of ours."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("openvino", reason="the extra openvino")

from edgeport.backends.openvino.backend import OpenVinoBackend
from edgeport.backends.openvino.load_errors import not_converted
from edgeport.contracts import ExecutionConfig, QuantizationPlan
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import open_onnx


def branches_of_two_ranks(path: Path) -> None:
    """`y = x` or `x` with another axis, by the sign of its sum."""

    def branch(name, *nodes):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(list(nodes), name, [], [output])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["chosen"], name="choice",
            then_branch=branch("same", helper.make_node("Identity", ["x"], ["same"])),
            else_branch=branch("more", helper.make_node("Unsqueeze", ["x", "axis"], ["more"])),
        ),
        helper.make_node("Shape", ["chosen"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["axes"])],
        [
            onnx.numpy_helper.from_array(np.float32(0), "zero"),
            onnx.numpy_helper.from_array(np.array([0], np.int64), "axis"),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_an_if_of_unknown_rank_is_refused_by_its_name(tmp_path):
    branches_of_two_ranks(tmp_path / "net.onnx")
    model = open_onnx(tmp_path / "net.onnx")
    plan = QuantizationPlan(dialect="openvino", model_digest=model.digest)

    with pytest.raises(UnsupportedByBackend) as caught:
        OpenVinoBackend().compile(model, plan, ExecutionConfig(), tmp_path / "artifact")

    assert caught.value.asked == "compile net.onnx for OpenVINO on the CPU"
    assert caught.value.found.startswith(
        "node 'choice' uses If, whose branches give tensors of different numbers of axes"
    )
    assert "leave OpenVINO out" in caught.value.fix
    assert "src/" not in caught.value.found


SAID = """Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted. Failed operations detailed log:
-- Conv-16 with a message:
[ONNX Frontend] Conversion failed for Conv-16
While validating ONNX node '<Node(Conv): decoder/Conv_output_0>': Check 'rank().is_static()' failed at src/conv.cpp:38:
FrontEnd API failed with GeneralFailure:
The input data tensor's rank has to be known (static)

Summary:
-- Conversion is failed for: Conv-16, ReduceMean-16
"""


def test_what_fails_to_convert_is_named_with_the_reason():
    error = not_converted(RuntimeError(SAID), [], "net.onnx")

    assert isinstance(error, UnsupportedByBackend)
    assert error.found == "node 'decoder/Conv_output_0' (Conv): The input data tensor's rank has to be known (static)"
    assert error.details == {"operators": ["Conv-16", "ReduceMean-16"]}
