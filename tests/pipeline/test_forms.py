"""An artifact in another form than the one that its backend compiles."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import ExecutionConfig, to_jsonable
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.worker import build


@pytest.fixture
def payload(tmp_path: Path):
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    (tmp_path / "out").mkdir()
    return {
        "model": to_jsonable(open_onnx(tmp_path / "m.onnx")),
        "backend": "onnxruntime",
        "precision": "fp32",
        "execution": to_jsonable(ExecutionConfig(threads=1)),
        "calibration": None,
        "folder": str(tmp_path / "out"),
    }


def test_it_ships_alone_with_what_was_read_of_it_before(payload, tmp_path: Path) -> None:
    found = build({**payload, "form": "ort"})
    assert found["artifact"]["entry"] == "model.ort"
    assert [path.name for path in (tmp_path / "out" / "artifact").iterdir()] == ["model.ort"]
    assert [node["origin"] for node in found["placement"]["nodes"]] == [["product"]]


def test_a_backend_of_one_form_says_so(payload) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(UnsupportedByBackend, match="as ort; found that this backend has one form"):
        build({**payload, "backend": "openvino", "form": "ort"})
