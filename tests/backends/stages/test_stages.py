"""Stages in a row give what the whole gives."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeport.backends.stages import Costs, cut_graph, write_stages
from edgeport.backends.stages.partition_graph import find_parts
from edgeport.errors import ModelError
from edgeport.onnx_files import open_onnx, read_ir


def cut(path, stages, folder, *, times=None, **options):
    """The cut, and the files of its stages."""
    model = read_ir(path)
    times = times or {node.name: 100 for node in model.graph}
    found = cut_graph(model, Costs(times_ns=times, **options), stages)
    return found, [stage.path for stage in write_stages(model, found, folder)]


def assert_equal(path, paths, graphs, feeds, *, fused=True):
    """Node by node to the bit, and as the runtime fuses it within 1e-5 of the largest value."""
    whole = graphs.run(path, feeds)
    rows = graphs.run_in_a_row(paths, feeds, list(whole))
    for name, array in whole.items():
        np.testing.assert_array_equal(rows[name], array)
    if fused:
        rows = graphs.run_in_a_row(paths, feeds, list(whole), fused=True)
        for name, array in graphs.run(path, feeds, fused=True).items():
            np.testing.assert_allclose(rows[name], array, rtol=0, atol=1e-5 * np.abs(array).max())


def add_one(graphs, g, kind, near, known):  # noqa: C901, PLR0911 (one case a line)
    """The name of what was added."""
    shared, first, any_ = known[0], known[1], known[-len(known) // 2]
    if kind == "product":
        return g.node("MatMul", near(), g.weight())
    if kind == "shared":
        return g.node("MatMul", near(), shared)
    if kind == "sum":
        return g.node("Add", near(), any_ if any_ != shared else first)
    if kind == "pair":
        return g.pair(near())
    if kind == "if":
        positive = g.node("Greater", g.node("ReduceSum", near(), keepdims=0), g.constant(np.float32(0)))
        return g.branch(positive, "Add", "Sub", first, near())
    if kind == "reshape":
        return g.node("Reshape", near(), g.node("Shape", first))
    if kind == "constant":
        row = g.node("Constant", value=numpy_helper.from_array(np.ones(graphs.WIDTH, np.float32)))
        return g.node("Add", near(), row)
    if kind == "function":
        if not g.functions:
            body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Sqrt", ["b"], ["c"])]
            opset = helper.make_opsetid("", 21)
            g.functions.append(helper.make_function("local", "Size1", ["a"], ["c"], body, [opset]))
        return g.node("Size1", near(), domain="local")
    if kind == "split":
        return g.node("Concat", *reversed(g.node("Split", near(), outputs=2, axis=1, num_outputs=2)), axis=1)
    return g.node(kind, near())


def random_graph(graphs, source):
    """Products, sums over any distance, splits, pairs, Ifs, functions, shared weights, several inputs and outputs."""
    g = graphs.GraphOfParts(source.randrange(1 << 30), inputs=source.randint(1, 2))
    shared = g.weight()
    known = list(g.inputs)

    def near():
        return known[-1 - min(int(source.expovariate(0.5)), len(known) - 1)]

    kinds = ["product", "shared", "sum", "Relu", "Tanh", "if", "reshape", "constant", "function", "split"]
    kinds += ["pair"] * 2 * source.randint(0, 1)
    for _ in range(source.randint(3, 14)):
        known.append(add_one(graphs, g, source.choice(kinds), near, [shared, *known]))
    made = known[len(g.inputs) :]
    return g, list(dict.fromkeys([made[-1], *source.sample(made, min(len(made), source.randint(0, 2)))]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), stages=st.integers(2, 4))
def test_any_graph_gives_the_same_in_stages(seed, stages, graphs, tmp_path_factory):
    source = random.Random(seed)
    g, outputs = random_graph(graphs, source)
    folder = tmp_path_factory.mktemp("graph")
    path = g.save(folder / "whole.onnx", outputs)
    times = {node.name: source.randint(0, 100) for node in read_ir(path).graph}
    if len(find_parts(read_ir(path), Costs(times_ns=times)).nodes) < stages:
        with pytest.raises(ModelError, match="parts that can be told apart"):
            cut(path, stages, folder, times=times)
        return
    found, paths = cut(path, stages, folder, times=times)
    assert len(paths) == stages
    assert set(outputs) <= {name for stage in found.stages for name in stage.outputs}
    # Where there are pairs, a sum that is fused otherwise may round to the next integer.
    quantized = any(node.op_type == "QuantizeLinear" for node in g.nodes)
    assert_equal(path, paths, graphs, g.feeds(), fused=not quantized)


def test_a_pair_is_cut_between_its_halves(graphs, tmp_path):
    """int8 crosses; a DequantizeLinear that two stages read is in both."""
    g = graphs.GraphOfParts()
    first = g.node("MatMul", "in_0", g.weight())
    rounded = g.pair(first)
    second = g.pair(g.node("MatMul", rounded, g.weight()))
    last = g.node("Add", second, rounded)
    path = g.save(tmp_path / "whole.onnx", [last])
    found, paths = cut(path, 2, tmp_path)
    assert [spec.dtype for spec in open_onnx(paths[1]).inputs] == ["int8"] * len(open_onnx(paths[1]).inputs)
    assert found.crossing_bytes == (6 * len(found.crossing[0]),)
    operators = [[node.op_type for node in read_ir(one).graph] for one in paths]
    assert operators[0][-1] == "QuantizeLinear"
    assert operators[1][0] == "DequantizeLinear"
    assert sum(one.count("QuantizeLinear") for one in operators) == 2
    assert_equal(path, paths, graphs, g.feeds())


def test_every_cut_of_quantized_products_is_of_integers(graphs, tmp_path):
    g = graphs.GraphOfParts()
    value = g.pair("in_0")
    for _ in range(6):
        value = g.pair(g.node("Relu", g.node("MatMul", value, g.pair(g.weight()))))
    path = g.save(tmp_path / "whole.onnx", [value])
    for stages in (2, 3, 4):
        found, paths = cut(path, stages, tmp_path / str(stages))
        assert found.exhaustive
        for one in paths[1:]:
            assert [spec.dtype for spec in open_onnx(one).inputs] == ["int8"]
        assert_equal(path, paths, graphs, g.feeds())


def test_what_is_captured_is_carried_and_a_shared_weight_is_in_both(graphs, tmp_path):
    g = graphs.GraphOfParts(inputs=2)
    shared = g.weight()
    early = g.node("MatMul", "in_0", shared)
    middle = g.node("Tanh", g.node("Tanh", early))
    positive = g.node("Greater", g.node("ReduceSum", middle, keepdims=0), g.constant(np.float32(0)))
    chosen = g.branch(positive, "Add", "Sub", early, "in_1")  # reads across the cut, and an input that is needed late
    last = g.node("MatMul", chosen, shared)
    path = g.save(tmp_path / "whole.onnx", [last, early])
    times = {node.name: 300 if node.op_type in ("MatMul", "If") else 100 for node in read_ir(path).graph}
    found, paths = cut(path, 3, tmp_path, times=times)
    assert sum("If" in {node.op_type for node in read_ir(one).graph} for one in paths) == 1
    assert [shared in read_ir(one).graph.initializers for one in paths] == [True, False, True]
    assert "in_1" in found.crossing[0]
    assert early in found.crossing[1]
    assert_equal(path, paths, graphs, g.feeds())


def test_loops_and_scans_stay_whole(graphs, tmp_path):
    g = graphs.GraphOfParts()
    step = g.node("Tanh", "in_0")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["held", step], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("held", TensorProto.FLOAT, None),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    looped = g.node("Loop", g.constant(np.int64(3)), g.constant(np.bool_(True)), step, body=body)  # noqa: FBT003
    scan_body = helper.make_graph(
        [helper.make_node("Mul", ["row", step], ["out"])],
        "scan",
        [value("row", TensorProto.FLOAT, None)],
        [value("out", TensorProto.FLOAT, ["batch", graphs.WIDTH])],
    )
    scanned = g.node("Scan", looped, body=scan_body, num_scan_inputs=1)
    last = g.node("ReduceMean", scanned, g.constant(np.array([0], np.int64)), keepdims=0)
    path = g.save(tmp_path / "whole.onnx", [last])
    model = read_ir(path)
    found = cut_graph(model, Costs(times_ns={node.name: 100 for node in model.graph}), 2)
    paths = [stage.path for stage in write_stages(model, found, tmp_path)]
    # The shape of what the Loop gives is not known, so no stage hands it on.
    assert [stage.nodes for stage in found.stages] == [("tanh_0",), ("loop_1", "scan_2", "reducemean_3")]
    assert_equal(path, paths, graphs, g.feeds())


def test_constants_and_inputs_may_be_outputs(graphs, tmp_path):
    g = graphs.GraphOfParts()
    stored = g.constant(np.ones((1, graphs.WIDTH), np.float32))
    row = g.node("Constant", value=numpy_helper.from_array(np.ones((1, graphs.WIDTH), np.float32)))
    last = g.node("Tanh", g.node("Tanh", g.node("Add", "in_0", row)))
    path = g.save(tmp_path / "whole.onnx", [last, row, "in_0", stored])
    found, paths = cut(path, 2, tmp_path)
    assert found.crossing[0][0] == "in_0"
    assert_equal(path, paths, graphs, g.feeds())


def test_what_a_runtime_fuses_is_not_cut(graphs, tmp_path):
    g = graphs.GraphOfParts()
    value = "in_0"
    for _ in range(4):
        value = g.node("Tanh", g.node("MatMul", value, g.weight()))
    path = g.save(tmp_path / "whole.onnx", [value])
    names = [node.name for node in read_ir(path).graph]
    found, _ = cut(path, 2, tmp_path / "free", times={names[3]: 100, names[4]: 100})
    assert found.stages[0].nodes[-1] == names[3]
    pairs = (tuple(names[2:6]),)
    found, paths = cut(path, 2, tmp_path / "fused", times={names[3]: 100, names[4]: 100}, together=pairs)
    assert {len(stage.nodes) for stage in found.stages} in ({2, 6}, {1, 7})
    assert_equal(path, paths, graphs, g.feeds())


def test_nodes_between_two_that_stay_together_stay_too(graphs, tmp_path):
    g = graphs.GraphOfParts()
    first = g.node("Tanh", "in_0")
    way = g.node("Neg", g.node("Neg", first))
    last = g.node("Add", first, way)
    end = g.node("Tanh", last)
    path = g.save(tmp_path / "whole.onnx", [end])
    names = [node.name for node in read_ir(path).graph]
    found, _ = cut(path, 2, tmp_path, together=((names[0], names[3]),))
    assert [len(stage.nodes) for stage in found.stages] == [4, 1]
    with pytest.raises(ModelError, match="2 parts that can be told apart"):
        cut(path, 3, tmp_path, together=((names[0], names[3]),))


def test_random_numbers_are_drawn_once(graphs, tmp_path):
    g = graphs.GraphOfParts()
    noise = g.node("RandomNormal", shape=[1, graphs.WIDTH])
    first = g.node("Tanh", g.node("Add", "in_0", noise))
    last = g.node("Sub", g.node("Tanh", first), noise)
    path = g.save(tmp_path / "whole.onnx", [last])
    _, paths = cut(path, 2, tmp_path)
    assert [node.op_type for one in paths for node in read_ir(one).graph].count("RandomNormal") == 1


def test_external_weights_are_read(graphs, tmp_path):
    g = graphs.GraphOfParts()
    last = g.node("MatMul", g.node("MatMul", "in_0", g.weight()), g.weight())
    inside = g.save(tmp_path / "inside.onnx", [last])
    path = tmp_path / "whole.onnx"
    onnx.save(onnx.load(inside), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "stages").mkdir()
    _, paths = cut(path, 2, tmp_path / "stages")
    assert_equal(path, paths, graphs, g.feeds())


def test_names_and_metadata_stay(graphs, tmp_path):
    g = graphs.GraphOfParts()
    path = g.save(tmp_path / "whole.onnx", [g.node("Tanh", g.node("Tanh", "in_0"))])
    model = read_ir(path)
    for node in model.graph:
        node.metadata_props["module"] = f"of {node.name}"
    found = cut_graph(model, Costs(times_ns={}), 2)
    stages = [ir.load(stage.path) for stage in write_stages(model, found, tmp_path)]
    kept = [(node.name, node.metadata_props["module"]) for stage in stages for node in stage.graph]
    assert kept == [(node.name, f"of {node.name}") for node in model.graph]


@pytest.mark.parametrize(
    ("times", "stages", "said"),
    [
        pytest.param({"other": 1}, 2, "times of 1 nodes that it has not, such as 'other'", id="of another graph"),
        pytest.param({"tanh_0": -1}, 2, "a negative time of node 'tanh_0'", id="negative"),
        pytest.param({}, 0, "fewer than one", id="no stages"),
        pytest.param({}, 3, "2 parts that can be told apart", id="too many"),
    ],
)
def test_what_has_no_cut_is_refused(times, stages, said, graphs, tmp_path):
    g = graphs.GraphOfParts()
    path = g.save(tmp_path / "whole.onnx", [g.node("Tanh", g.node("Tanh", "in_0"))])
    with pytest.raises(ModelError, match="cut a graph") as caught:
        cut_graph(read_ir(path), Costs(times_ns=times), stages)
    assert said in caught.value.found


@pytest.mark.parametrize("slowness", [(1.0,), (1.0, 0.0), (1.0, float("inf"))])
def test_slowness_is_a_number_above_zero_for_each_stage(slowness, graphs, tmp_path):
    g = graphs.GraphOfParts()
    path = g.save(tmp_path / "whole.onnx", [g.node("Tanh", g.node("Tanh", "in_0"))])
    with pytest.raises(ModelError, match="a number above 0 for each stage"):
        cut_graph(read_ir(path), Costs(times_ns={}), 2, slowness=slowness)
