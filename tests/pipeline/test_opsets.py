"""Files of old opsets: converted where int8 wants that, and only where they compute the same."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Limits, ModelSource, Precision, TensorSpec
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Target
from edgeport.errors import ModelError
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.source_model.onnx_worker import _worst
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store


@pytest.fixture
def prepared(tmp_path):
    """Prepares a network of opset 11 for these precisions; its Softmax and ReduceSum mean something else from 13 on."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("ReduceSum", ["r"], ["s"], axes=[2], keepdims=0, name="sum"),
        helper.make_node("Softmax", ["s"], ["y"], axis=1, name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 4])],
        [numpy_helper.from_array(random.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "net.onnx"
    )
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", x=random.standard_normal((8, 3, 6, 6)).astype(np.float32))

    def prepare(*precisions):
        recipe = Recipe(
            name="net",
            source=ModelSource(location=str(tmp_path / "net.onnx")),
            inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3, 6, 6)),),
            data=DataSpec(
                calibration=SamplesFile(path=tmp_path / "calibration.npz"),
                evaluation=SamplesFile(path=tmp_path / "evaluation.npz"),
                metric="cosine",
            ),
            targets=(Target(backend="onnxruntime", precisions=precisions),),
        )
        context = RunContext(
            recipe=recipe, store=Store(tmp_path / "store"), device=None, facts=None, clock=Clock(lambda _: None),
            scratch=tmp_path / "scratch", limits=Limits(),
        )  # fmt: skip
        return prepare_model(context, prepare_samples(context))

    return prepare


def test_a_file_of_opset_11_is_converted_for_int8_and_says_so(prepared):
    found = prepared(Precision.FP32, Precision.INT8)

    assert found.model.opset == 13
    assert any("of opset 11; it was converted to 13" in note for note in found.notes)
    assert not (found.model.path.parent / "raised").exists()


def test_it_stays_as_it_is_where_nothing_is_quantized(prepared):
    found = prepared(Precision.FP32)

    assert found.model.opset == 11
    assert not any("converted" in note for note in found.notes)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param({"y": np.array([1.0, 2.1], np.float32)}, "off by up to 0.1", id="values"),
        pytest.param({"y": np.array([1.0, np.nan], np.float32)}, "off by", id="nan"),
        pytest.param({"y": np.array([[1.0, 2.0]], np.float32)}, "another output 'y'", id="shape"),
        pytest.param({}, "another output 'y'", id="missing"),
    ],
)
def test_what_computes_something_else_is_not_kept(found, said):
    with pytest.raises(ModelError, match=said):
        _worst(found, {"y": np.array([1.0, 2.0], np.float32)})
