"""What the runtime does not open is refused when it is compiled, with the node and its module."""

from __future__ import annotations

from unittest.mock import Mock

import onnx
import pytest

from edgeport.backends.onnxruntime import create_backend
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import open_onnx
from edgeport.onnx_files.names import MODULE_KEY


@pytest.mark.parametrize(
    ("operator", "attributes", "error", "says"),
    [
        pytest.param(
            "NoSuchOp", {}, UnsupportedByBackend, "NoSuchOp: No Op registered for NoSuchOp", id="no such operator"
        ),
        pytest.param("Flatten", {"axis": 9}, BackendError, r"Flatten: .*Invalid value\(9\)", id="attribute"),
        pytest.param(
            "Concat", {}, BackendError, "Concat: Required attribute 'axis' is missing", id="missing attribute"
        ),
    ],
)
def test_the_node_and_its_module_are_named(bench, operator, attributes, error, says):
    path = bench.model([bench.node("Relu", ["x"], ["a"]), bench.node("Tanh", ["a"], ["y"])], {}, (2, 3), ["y"]).path
    proto = onnx.load(path)
    proto.graph.node[1].op_type = operator
    proto.graph.node[1].attribute.extend(onnx.helper.make_attribute(*one) for one in attributes.items())
    proto.graph.node[1].metadata_props.add(key=MODULE_KEY, value="model.head")
    onnx.save(proto, path)
    model = open_onnx(path)
    with pytest.raises(error, match=rf"node 'n_y' \(module 'model.head'\) uses {says}") as caught:
        create_backend().compile(model, float_plan(model), ExecutionConfig(), bench.folder / "artifact")
    assert type(caught.value) is error
    assert not list((bench.folder / "artifact").glob("*"))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(MemoryError("std::bad_alloc"), id="of Python"),
        pytest.param(RuntimeError("Failed to allocate memory for 8 B"), id="of the runtime"),
    ],
)
def test_where_memory_runs_out_no_lower_level_is_taken(bench, error, monkeypatch):
    model = bench.model([bench.node("Relu", ["x"], ["y"])], {}, (2, 3), ["y"])
    opening = Mock(side_effect=[error, None])
    monkeypatch.setattr("edgeport.backends.onnxruntime.session_support.runtime_session.inference_session", opening)
    with pytest.raises(BackendError, match=str(error)) as caught:
        create_backend().compile(model, float_plan(model), ExecutionConfig(), bench.folder / "artifact")
    assert caught.value.__cause__ is error
    assert opening.call_count == 1
