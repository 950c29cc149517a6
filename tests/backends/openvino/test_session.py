"""The session as the agent uses it: batches, names, settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.backends.openvino import create_backend
from edgeport.backends.openvino.execution_options import device_of
from edgeport.backends.openvino.session import open_session
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig, ExecutionSpace
from edgeport.errors import SamplesError, UnsupportedByBackend
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


@pytest.mark.parametrize("device", ["HETERO:CPU", "AUTO", "AUTO:CPU", "MULTI:CPU"])
def test_devices_that_combine_others_give_the_same_numbers_in_the_precision_that_was_asked(cnn, tmp_path, device):
    execution = ExecutionConfig(threads=1, batch=2, runtime_device=device)
    artifact = BACKEND.compile(cnn.model, float_plan(cnn.model), execution, tmp_path / "artifact")
    opened = BACKEND.open(artifact)
    np.testing.assert_allclose(run(opened, cnn.example(2)), cnn.scores[:2], atol=1e-4)
    opened.close()
    kernels = [node for node in BACKEND.placement(artifact).nodes if node.precision]
    assert {(node.device, node.precision) for node in kernels} == {("CPU", "fp32")}


@pytest.mark.parametrize(
    ("asked", "known", "told"),
    [
        pytest.param("", ("CPU",), "CPU", id="the CPU"),
        pytest.param("gpu", ("CPU", "GPU.0", "GPU.1"), "GPU", id="the first of several"),
        pytest.param("HETERO: GPU.1, CPU", ("CPU", "GPU.0", "GPU.1"), "HETERO:GPU.1,CPU", id="several"),
        pytest.param("AUTO:-GPU", ("CPU", "GPU"), "AUTO:-GPU", id="all but one"),
    ],
)
def test_a_device_is_told_as_openvino_wants_it(asked, known, told):
    assert device_of(asked, known) == told


@pytest.mark.parametrize("asked", ["GPU", "HETERO:GPU,CPU", "HETERO", "NPU:1", "CPU:"])
def test_a_device_that_it_does_not_see_is_refused(asked):
    with pytest.raises(UnsupportedByBackend, match=f"run OpenVINO on {asked}; found "):
        device_of(asked, ("CPU",))


def test_only_hints_are_tried_where_threads_are_not_the_cpus(artifact):
    space = ExecutionSpace(goal="throughput", cores=(0, 1))
    elsewhere = replace(artifact, settings={**artifact.settings, "device": "GPU"})
    assert all(one.hint for one in BACKEND.executions(elsewhere, space))
    assert not all(one.hint for one in BACKEND.executions(artifact, space))


def test_another_execution_stays_where_it_was_compiled_for(artifact):
    elsewhere = replace(
        artifact, settings={**artifact.settings, "device": "AUTO"}, execution=ExecutionConfig(runtime_device="AUTO")
    )
    moved = BACKEND.with_execution(elsewhere, ExecutionConfig(hint="throughput"))
    assert (moved.settings["device"], moved.execution.runtime_device) == ("AUTO", "AUTO")


class TestCache:
    def opened(self, artifact):
        session = open_session(str(artifact.folder / artifact.entry), artifact.settings)
        loaded = session.compiled.get_property("LOADED_FROM_CACHE")
        session.close()
        return loaded

    def test_what_was_compiled_is_kept_in_a_folder_of_the_users(self, artifact, monkeypatch, tmp_path):
        assert not self.opened(artifact)
        monkeypatch.setenv("EDGEPORT_OPENVINO_CACHE", str(tmp_path / "cache"))
        assert not self.opened(artifact)
        assert self.opened(artifact)
        assert (tmp_path / "cache").stat().st_mode & 0o077 == 0

    def test_a_folder_that_others_may_write_into_is_refused(self, artifact, monkeypatch, tmp_path):
        tmp_path.chmod(0o777)
        monkeypatch.setenv("EDGEPORT_OPENVINO_CACHE", str(tmp_path))
        with pytest.raises(RuntimeError, match="found that others may write into it; name a folder of your own"):
            self.opened(artifact)


def test_an_output_that_is_an_input_and_one_that_is_another_output(tmp_path):
    """OpenVINO takes the nodes between them away, and with them the names."""
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("x", "same", "y", "again")
    }
    nodes = [
        helper.make_node("Identity", ["x"], ["same"], name="n_same"),
        helper.make_node("Exp", ["x"], ["y"], name="n_y"),
        helper.make_node("Identity", ["y"], ["again"], name="n_again"),
    ]
    graph = helper.make_graph(nodes, "g", [ports.pop("x")], list(ports.values()))
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "model.onnx"
    )
    model = open_onnx(tmp_path / "model.onnx")
    session = BACKEND.open(BACKEND.compile(model, float_plan(model), ExecutionConfig(batch=2), tmp_path / "artifact"))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    call = session.bind({"x": x})
    call.run()
    found = call.outputs()
    assert list(found) == ["same", "y", "again"]
    np.testing.assert_array_equal(found["same"], x)
    np.testing.assert_allclose(found["again"], np.exp(x), rtol=1e-5)
