"""What tests of several folders share. Heavy packages are imported by the fixtures that need them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import onnx


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """No test reads or fills the store of the user who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPORT_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture
def small_onnx() -> onnx.ModelProto:
    """y = relu(x @ w) with x float32 [batch, 3] and w float32 [3, 4]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Relu", ["h"], ["y"], name="activation"),
        ],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def save_onnx(tmp_path) -> Callable[[onnx.ModelProto], Path]:
    def write(proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(proto.SerializeToString())
        return path

    return write


@pytest.fixture(autouse=True)
def _own_logger():
    """The command line takes the package's logger for itself, in fixtures of any scope; each test gets it untouched."""
    log = logging.getLogger("edgeport")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    log.handlers[:] = []
