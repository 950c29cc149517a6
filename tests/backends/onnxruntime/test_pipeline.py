"""A model in stages: compiled, opened, run from many threads, and ended by a stage that fails."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.profiler import example_feeds, measure_costs
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.backends.onnxruntime.session import open_session
from edgeport.backends.onnxruntime.session_support.pipeline import Pipeline, StageError
from edgeport.calibration.plan import float_plan
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import (
    DataParallel,
    EvaluateJob,
    ExecutionConfig,
    ModelParallel,
    Precision,
    SingleStream,
    TimeJob,
)
from edgeport.errors import BackendError, ContractError, ModelError, SamplesError, UnsupportedByBackend
from edgeport.onnx_files import open_onnx

backend = create_backend()
TWO = ExecutionConfig(layout=ModelParallel(stages=2))


@pytest.fixture
def network(summed):
    return summed(2)


def compiled(bench, model, layout, plan=None):
    execution = ExecutionConfig(threads=1, layout=layout)
    return backend.compile(model, plan or float_plan(model), execution, bench.folder / layout.kind)


def outputs(session, feeds):
    call = session.bind(feeds)
    call.run()
    return call.outputs()


@pytest.mark.parametrize("quantized", [False, True])
def test_two_stages_give_what_the_whole_gives(network, bench, quantized):
    plan = bench.quantize(network, x86_rules(vnni=True)).plan if quantized else None
    artifacts = [compiled(bench, network, layout, plan) for layout in (SingleStream(), ModelParallel(stages=2))]
    assert sorted(path.name for path in artifacts[1].folder.iterdir()) == ["stage_0.onnx", "stage_1.onnx"]
    feeds = bench.batch(network)
    whole, staged = (backend.open(artifact) for artifact in artifacts)
    expected, found = outputs(whole, feeds), outputs(staged, feeds)
    assert list(found) == ["y", "r1"]
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max())
    with pytest.raises(SamplesError, match="found inputs"):
        staged.bind({"z": feeds["x"]})
    staged.close()
    placed = backend.placement(artifacts[1]).nodes
    computing = {name for node in placed if node.precision for name in node.origin}
    assert {"n_c0", "n_c1", "n_c2"} <= computing
    if quantized:
        assert {node.precision for node in placed if node.operator.startswith("QLinearConv")} == {"int8"}


def test_values_of_the_runtimes_own_operators_cross(bench):
    """ONNX's shape inference knows no MatMulNBits; the profile tells what it gives."""
    nodes = [
        bench.node("MatMul", [f"h{index}" if index else "x", f"w{index}"], [f"h{index + 1}"]) for index in range(4)
    ]
    weights = {f"w{index}": bench.weight(64, 64) for index in range(4)}
    proto = onnx.load(bench.model(nodes, weights, ("batch", 64), ["h4"]).path)
    proto.graph.ClearField("value_info")
    onnx.save(proto, bench.folder / "untyped.onnx")
    model = open_onnx(bench.folder / "untyped.onnx")
    plan = weight_plan(model, backend.capabilities().rules, Precision("int4-weights-32"))
    whole, staged = (backend.open(compiled(bench, model, each, plan)) for each in (SingleStream(), TWO.layout))
    feeds = {"x": bench.weight(3, 64)}  # another batch than was timed
    expected, found = outputs(whole, feeds)["h4"], outputs(staged, feeds)["h4"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    staged.close()


def test_an_input_that_nothing_reads_is_fed(network, bench):
    proto = onnx.load(network.path)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("unread", onnx.TensorProto.FLOAT, [2, 3]))
    onnx.save(proto, bench.folder / "unread.onnx")
    feeds = {**bench.batch(network), "unread": bench.weight(2, 3)}
    artifact = compiled(bench, open_onnx(bench.folder / "unread.onnx"), TWO.layout)
    staged = backend.open(artifact)
    assert set(outputs(staged, feeds)) == {"y", "r1"}
    staged.close()


def test_a_sequence_stays_within_a_stage(bench):
    """The profile tells it as a tensor of its items' type."""
    nodes = [bench.node("MatMul", ["x", "w"], ["a"]), bench.node("SplitToSequence", ["a"], ["s"], axis=1)]
    nodes += [bench.node("SequenceAt", ["s", "first"], ["p"]), bench.node("Concat", ["p", "a"], ["q"], axis=1)]
    nodes += [bench.node("Tanh", ["q"], ["y"])]
    weights = {"w": bench.weight(8, 8), "first": np.array(0, np.int64)}
    model = bench.model(nodes, weights, ("batch", 8), ["y"])
    whole, staged = (backend.open(compiled(bench, model, each)) for each in (SingleStream(), TWO.layout))
    feeds = {"x": bench.weight(3, 8)}
    np.testing.assert_allclose(outputs(staged, feeds)["y"], outputs(whole, feeds)["y"], rtol=0, atol=1e-5)
    staged.close()


def test_text_is_given_as_files_hold_it(bench):
    text = """
        <ir_version: 10, opset_import: ["" : 20, "ai.onnx.ml" : 4]>
        net (float[batch, 8] x) => (float[batch, 8] b, string[batch] word)
        {
            [first] a = Tanh(x)
            [second] b = Softmax(a)
            [best] k = ArgMax<axis = 1, keepdims = 0>(b)
            [spell] word = ai.onnx.ml.LabelEncoder
                <keys_int64s = [0, 1], values_strings = ["none", "one"], default_string = "more">(k)
        }
    """
    onnx.save(onnx.parser.parse_model(text), bench.folder / "words.onnx")
    artifact = compiled(bench, open_onnx(bench.folder / "words.onnx"), TWO.layout)
    pipeline = backend.open(artifact)
    words = outputs(pipeline, {"x": np.eye(3, 8, dtype=np.float32)})["word"]
    assert (words.dtype.kind, words.tolist()) == ("U", ["none", "one", "more"])
    pipeline.close()


def test_calls_of_many_threads_get_their_own_results_in_order(network, bench):
    artifact = compiled(bench, network, ModelParallel(stages=3))
    samples = [{"x": np.full((2, 8, 10, 10), value, np.float32)} for value in range(40)]
    before = threading.active_count()
    pipeline = open_session(artifact.folder / artifact.entry, artifact.settings)
    expected = [outputs(pipeline, feeds)["y"] for feeds in samples]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda feeds: outputs(pipeline, feeds)["y"], samples))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    streamed = [one["y"] for one in pipeline.stream(samples)]
    assert all(np.array_equal(a, b) for a, b in zip(expected, streamed, strict=True))
    pipeline.close()
    pipeline.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="a pipeline; found one that is closed"):
        outputs(pipeline, samples[0])


@pytest.fixture
def failing(bench):
    """The second stage takes the row that it is told, of two; inputs row int64 [1] and x float32 [1, 4]."""
    nodes = [
        bench.node("MatMul", ["x", "w"], ["h"]),
        bench.node("Concat", ["h", "x"], ["both"], axis=0),
        bench.node("Gather", ["both", "row"], ["y"]),
        bench.node("Identity", ["row"], ["seen"]),
    ]
    values = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "rows",
        [values("x", onnx.TensorProto.FLOAT, [1, 4]), values("row", onnx.TensorProto.INT64, [1])],
        [values("y", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(bench.weight(4, 4), "w")],
    )
    path = bench.folder / "rows.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return open_onnx(path)


def rows(row):
    return {"x": np.ones((1, 4), np.float32), "row": np.array([row])}


def test_a_stage_that_fails_ends_the_pipeline(failing, bench):
    artifact = compiled(bench, failing, ModelParallel(stages=2))
    pipeline = open_session(artifact.folder / artifact.entry, artifact.settings)
    outputs(pipeline, rows(1))
    with pytest.raises(StageError, match=r"run stage stage_1\.onnx; found .*out of data bounds.*open it again"):
        outputs(pipeline, rows(7))
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(outputs, pipeline, rows(0)) for _ in range(20)]
    assert {type(call.exception()) for call in calls} == {StageError}, "none hangs, none gives a result"
    pipeline.close()
    session = backend.open(artifact)
    with pytest.raises(BackendError, match="out of data bounds"):
        outputs(session, rows(7))
    session.close()


def test_a_stage_that_does_not_open_leaves_no_thread(network, bench):
    artifact = compiled(bench, network, ModelParallel(stages=3))
    (artifact.folder / "stage_1.onnx").write_bytes(b"no model")
    before = threading.active_count()
    with pytest.raises(Exception, match=r"stage_1\.onnx"):
        Pipeline(str(artifact.folder), artifact.settings)
    assert threading.active_count() == before


def test_the_agent_runs_and_times_a_pipeline(failing, bench):
    """One trace with a full pipeline, and one that ends with the error of a stage."""
    from edgeport.devices.agent.arrays import save_arrays
    from edgeport.devices.local import LocalDevice

    artifact = compiled(bench, failing, ModelParallel(stages=2))
    feeds = {name: bench.folder / f"{name}.npz" for name in ("right", "wrong")}
    save_arrays(feeds["right"], rows(1))
    save_arrays(feeds["wrong"], rows(7))
    values = {"artifact": str(artifact.folder), "entry": artifact.entry, "session": artifact.session}
    device = LocalDevice(bench.folder / "device")
    timed = TimeJob(
        **values,
        settings=artifact.settings,
        feeds=str(feeds["right"]),
        warmup_s=0.0,
        duration_s=0.05,
        scenario="offline",
        streams=3,
    )
    trace = device.run(timed)
    assert trace.artifact_digest == artifact.digest
    assert trace.samples >= 3
    assert not set(trace.flags) & {"nan-output", "unstable-output"}
    wrong = EvaluateJob(
        **values, settings=artifact.settings, feeds=str(feeds["wrong"]), outputs=str(bench.folder / "out.npz")
    )
    with pytest.raises(BackendError, match="out of data bounds"):
        device.run(wrong)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads have no processors of their own here")
def test_each_stage_has_its_own_processors(network, bench, monkeypatch):
    import edgeport.backends.onnxruntime.session_support.pipeline as module

    mine = sorted(os.sched_getaffinity(0))
    artifact = compiled(bench, network, ModelParallel(stages=2, cores=((mine[0],), (mine[-1],))))
    pipeline = open_session(artifact.folder / artifact.entry, artifact.settings)
    pinned = [os.sched_getaffinity(stage._thread.native_id) for stage in pipeline._stages]
    pipeline.close()
    assert pinned == [{mine[0]}, {mine[-1]}]
    assert sorted(os.sched_getaffinity(0)) == mine
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 2, 4, 6, 8})
    assert module._shares(2) == [[0, 2], [4, 6, 8]]
    assert module._shares(6) == [[]] * 6


def test_nodes_that_the_runtime_makes_one_of_stay_together(network):
    costs = measure_costs(network.path, example_feeds(network, 2), {"threads": 1}, calls=3)
    assert {("n_c0", "n_r0"), ("n_c1", "n_r1")} <= set(costs.together)
    assert set(costs.times_ns) <= {"n_c0", "n_r0", "n_c1", "n_r1", "n_c2", "n_r2", "n_y"}
    assert sum(costs.times_ns.values()) > 0
    with pytest.raises(BackendError, match=r"time the nodes of float\.onnx"):
        measure_costs(network.path, {}, {})


def test_what_can_not_be_staged_is_refused(network, bench):
    with pytest.raises(ModelError, match="9 stages"):
        compiled(bench, network, ModelParallel(stages=9))
    with pytest.raises(ContractError, match="fewer than two"):
        ModelParallel(stages=1)
    with pytest.raises(ContractError, match="name the processors of each stage"):
        ModelParallel(stages=2, cores=((0,),))
    free = bench.model([bench.node("Tanh", ["x"], ["y"])], {}, ["batch", "length"], ["y"])
    with pytest.raises(UnsupportedByBackend, match="no example can be made up"):
        compiled(bench, free, ModelParallel(stages=2))


def test_each_stage_may_have_a_provider_of_its_own(network, bench):
    execution = ExecutionConfig(threads=1, layout=ModelParallel(stages=2), runtime_device="CPU | CPU:told=1")
    artifact = backend.compile(network, float_plan(network), execution, bench.folder / "placed")
    first, second = artifact.settings["stages"]
    assert "providers" not in first
    assert (second["providers"], second["provider_options"]) == (["CPUExecutionProvider"], {"told": "1"})
    session = backend.open(artifact)
    assert set(outputs(session, bench.batch(network))) == {"y", "r1"}
    session.close()


def test_a_faster_provider_gets_the_larger_stage(network, bench, monkeypatch):
    asked = []

    def whole_ns(path, feeds, settings):
        asked.append(settings.get("provider_options"))
        return 100 if settings.get("provider_options") else 1000

    monkeypatch.setattr("edgeport.backends.onnxruntime.pipeline_stages.whole_ns", whole_ns)
    execution = ExecutionConfig(threads=1, layout=ModelParallel(stages=2), runtime_device="CPU | CPU:told=1")
    artifact = backend.compile(network, float_plan(network), execution, bench.folder / "faster")
    counts = [len(onnx.load(artifact.folder / f"stage_{index}.onnx").graph.node) for index in range(2)]
    assert counts[1] > 2 * counts[0], "ten times as fast, it has nearly all"
    assert asked == [None, {"told": "1"}], "the CPU, and the other; places that are the CPU are not timed twice"


def test_each_stream_may_have_a_provider_of_its_own(network, bench):
    execution = ExecutionConfig(threads=1, layout=DataParallel(streams=2), runtime_device="CPU | CPU:told=1")
    artifact = backend.compile(network, float_plan(network), execution, bench.folder / "replicas")
    assert artifact.settings["places"] == [
        {},
        {"providers": ["CPUExecutionProvider"], "provider_options": {"told": "1"}},
    ]
    session = open_session(artifact.folder / artifact.entry, artifact.settings)
    feeds = bench.batch(network)
    first, second = session.bind(feeds), session.bind(feeds)
    assert first._session is not second._session, "one thread each, and still a session per place"
    for call in (first, second):
        call.run()
    np.testing.assert_array_equal(first.outputs()["y"], second.outputs()["y"])
    session.close()
    computing = [node.name for node in backend.placement(artifact).nodes if node.precision]
    assert sorted(computing) == sorted([*set(computing)] * 2), "both are told of"
    with pytest.raises(UnsupportedByBackend, match=r"streams with a place each \(CPU \| CPU:told=1\)"):
        backend.with_execution(artifact, ExecutionConfig(threads=1))
    three = ExecutionConfig(layout=DataParallel(streams=3), runtime_device="CPU|CPU")
    with pytest.raises(UnsupportedByBackend, match="2 providers for 3 streams"):
        backend.compile(network, float_plan(network), three, bench.folder / "three")


@pytest.mark.parametrize(
    ("stages", "asked", "said"),
    [
        pytest.param(3, "CPU|CPU", "found 2 providers for 3 stages", id="too few"),
        pytest.param(1, "CPU|CPU", "found 2 providers for 1 stage;", id="no stages"),
    ],
)
def test_providers_that_do_not_fit_the_stages_are_refused(network, bench, stages, asked, said):
    layout = ModelParallel(stages=stages) if stages > 1 else SingleStream()
    with pytest.raises(UnsupportedByBackend, match=said):
        backend.compile(
            network, float_plan(network), ExecutionConfig(layout=layout, runtime_device=asked), bench.folder / "placed"
        )
