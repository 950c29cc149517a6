"""The session as the agent uses it: batches, names, settings."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.backends.openvino import create_backend
from edgeport.backends.openvino.session import open_session
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig
from edgeport.errors import SamplesError
from edgeport.onnx_files import open_onnx

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
pytestmark = pytest.mark.skipif(not KNOWN.can_run, reason=f"openvino: {KNOWN.reason}")


@pytest.fixture(scope="module")
def artifact(cnn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session") / "artifact"
    return BACKEND.compile(cnn.model, float_plan(cnn.model), ExecutionConfig(threads=1, batch=2), folder)


@pytest.fixture
def session(artifact):
    opened = open_session(str(artifact.folder / artifact.entry), artifact.settings)
    yield opened
    opened.close()


def run(session, feeds):
    call = session.bind(feeds)
    call.run()
    return call.outputs()["scores"]


def test_shapes_are_static_for_the_batch_that_was_asked(session):
    assert str(session.compiled.inputs[0].get_partial_shape()) == "[2,3,16,16]"


def test_another_batch_gives_the_same_numbers(session, cnn):
    scores = {count: run(session, cnn.example(count)) for count in (1, 3, 2)}
    for count, found in scores.items():
        np.testing.assert_allclose(found, cnn.scores[:count], atol=1e-4)


def test_calls_keep_their_own_inputs_and_outputs(session, cnn):
    one, other = session.bind(cnn.example(2)), session.bind({"image": cnn.feeds["image"][2:]})
    one.run()
    other.run()
    np.testing.assert_allclose(one.outputs()["scores"], cnn.scores[:2], atol=1e-4)
    np.testing.assert_allclose(other.outputs()["scores"], cnn.scores[2:], atol=1e-4)


def test_later_changes_of_the_feeds_do_not_reach_the_call(session, cnn):
    feeds = {"image": cnn.feeds["image"][:2].copy()}
    call = session.bind(feeds)
    feeds["image"][:] = np.nan
    call.run()
    assert np.isfinite(call.outputs()["scores"]).all()


def test_read_only_and_strided_feeds(session, cnn):
    image = np.asfortranarray(cnn.feeds["image"][:2])
    image.flags.writeable = False
    np.testing.assert_allclose(run(session, {"image": image}), cnn.scores[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda x: {"picture": x}, r"asked to feed \['picture'\]; found .* \['image'\]", id="name"),
        pytest.param(lambda x: {"image": x.astype(np.float64)}, "as float64; found that it takes float32", id="dtype"),
        pytest.param(lambda x: {"image": x[:, :2]}, r"in shape \[2, 2, 16, 16\]", id="shape"),
        pytest.param(lambda x: {"image": x[:0]}, r"in shape \[0, 3, 16, 16\]", id="no samples"),
    ],
)
def test_feeds_that_do_not_fit(change, said, session, cnn):
    with pytest.raises(ValueError, match=said):
        session.bind(change(cnn.feeds["image"][:2]))


def test_unknown_setting_is_refused(artifact):
    with pytest.raises(ValueError, match="treads"):
        open_session(str(artifact.folder / artifact.entry), {"treads": 1})


def test_outputs_before_a_run_are_refused(session, cnn):
    with pytest.raises(ValueError, match="nothing was run"):
        session.bind(cnn.example(2)).outputs()


def test_wrong_output_names_are_refused(artifact):
    with pytest.raises(RuntimeError, match="logits"):
        open_session(str(artifact.folder / artifact.entry), {**artifact.settings, "outputs": ["logits"]})


def test_an_input_that_the_runtime_drops_may_be_fed(tmp_path):
    """Empty axes of a reduction: the runtime takes all axes and has no such input any more."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        "dropped",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("axes", TensorProto.INT64, [0]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    model = open_onnx(tmp_path / "m.onnx")
    opened = BACKEND.open(BACKEND.compile(model, float_plan(model), ExecutionConfig(threads=1), tmp_path / "artifact"))
    x = np.array([[-1.0, 2.0], [3.0, 4.0]], np.float32)
    for feeds in ({"x": x, "axes": np.zeros(0, np.int64)}, {"x": x}):
        call = opened.bind(feeds)
        call.run()
        np.testing.assert_array_equal(call.outputs()["y"], [[8.0]])
    with pytest.raises(SamplesError, match="other"):
        opened.bind({"x": x, "other": x})
    opened.close()


def test_an_axis_that_is_empty_by_its_declaration(tmp_path):
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 0, 3]), ("y", [2, 3]))
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], name="sum", keepdims=0)
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], [axes])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    session = open_session(str(path), {})
    call = session.bind({"x": np.empty((2, 0, 3), np.float32)})
    call.run()
    np.testing.assert_array_equal(call.outputs()["y"], np.zeros((2, 3), np.float32))
