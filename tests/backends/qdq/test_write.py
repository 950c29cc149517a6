from __future__ import annotations

import numpy as np
import pytest

from edgeport.backends.qdq.graph import PRECISION_KEY
from edgeport.backends.qdq.write import quantize_ir, write_plan
from edgeport.contracts import Precision, QuantizationRules
from edgeport.errors import AlreadyQuantizedError, PlanError
from edgeport.onnx_files import open_onnx, write_ir

INT8, DYNAMIC = Precision.INT8, Precision.INT8_DYNAMIC
RANDOM = np.random.default_rng(3)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: list[str], outputs: list[str], **attributes):
    from onnx import helper

    return helper.make_node(operator, inputs, outputs, name=f"n_{outputs[0]}", **attributes)


@pytest.fixture
def two_convolutions(make_graph):
    """x -> conv -> relu -> conv -> z; the second reads the first one's output, and so does a float Tanh."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "w2"], ["z"]),
        node("Tanh", ["r"], ["t"]),
    ]
    constants = {"w1": random(4, 3, 1, 1), "b1": random(4), "w2": random(2, 4, 1, 1)}
    return make_graph(nodes, constants, ["n", 3, 5, 5], ["z", "t"])


def integer_plan(make_plan, **more):
    return make_plan(
        {"n_c": INT8, "n_r": INT8, "n_z": INT8},
        {"x": (-3.0, 3.0), "r": (0.0, 4.0), "z": (-5.0, 5.0)},
        {"w1": 0, "w2": 0},
        **more,
    )


def test_pairs_stand_where_the_plan_says(two_convolutions, make_plan, rules, edges):
    quantize_ir(two_convolutions, integer_plan(make_plan), rules)
    pair = "{0}_scale, {0}_zero_point"
    assert edges(two_convolutions) == [
        f"QuantizeLinear(x, {pair.format('x')}) -> x_QuantizeLinear_output",
        f"DequantizeLinear(x_QuantizeLinear_output, {pair.format('x')}) -> x_DequantizeLinear_output",
        f"DequantizeLinear(w1_quantized, {pair.format('w1')}) -> w1_DequantizeLinear_output",
        f"DequantizeLinear(b1_quantized, {pair.format('b1')}) -> b1_DequantizeLinear_output",
        "Conv(x_DequantizeLinear_output, w1_DequantizeLinear_output, b1_DequantizeLinear_output) -> c",
        # nothing between the convolution and the Relu that it folds
        "Relu(c) -> r",
        f"QuantizeLinear(r, {pair.format('r')}) -> r_QuantizeLinear_output",
        f"DequantizeLinear(r_QuantizeLinear_output, {pair.format('r')}) -> r_DequantizeLinear_output",
        f"DequantizeLinear(w2_quantized, {pair.format('w2')}) -> w2_DequantizeLinear_output",
        # the graph's output keeps its name
        "Conv(r_DequantizeLinear_output, w2_DequantizeLinear_output) -> z_DequantizeLinear_output",
        f"QuantizeLinear(z_DequantizeLinear_output, {pair.format('z')}) -> z_QuantizeLinear_output",
        f"DequantizeLinear(z_QuantizeLinear_output, {pair.format('z')}) -> z",
        # behind an int8 node a float node reads the pair too
        "Tanh(r_DequantizeLinear_output) -> t",
    ]
    assert [value.name for value in two_convolutions.graph.outputs] == ["z", "t"]


def test_behind_a_float_node_only_int8_nodes_read_the_pair(make_graph, make_plan, rules, edges):
    nodes = [node("Tanh", ["x"], ["t"]), node("Conv", ["t", "w"], ["c"]), node("Exp", ["t"], ["e"])]
    model = make_graph(nodes, {"w": random(4, 3, 1, 1)}, [1, 3, 5, 5], ["c", "e", "t"])
    quantize_ir(model, make_plan({"n_c": INT8}, {"t": (-1, 1), "c": (-2, 2)}, {"w": 0}), rules)
    text = "\n".join(edges(model))
    assert "Conv(t_DequantizeLinear_output, " in text
    assert "Exp(t) -> e" in text
    assert [value.name for value in model.graph.outputs] == ["c", "e", "t"]


def test_keeps_modules_and_says_what_was_planned(two_convolutions, make_plan, rules):
    quantize_ir(two_convolutions, integer_plan(make_plan), rules)
    seen = {node.name: dict(node.metadata_props) for node in two_convolutions.graph}
    assert seen["n_c"] == {"edgeport.module": "net.n_c", PRECISION_KEY: "int8"}
    assert seen["n_t"] == {"edgeport.module": "net.n_t"}
    assert seen["w1_DequantizeLinear"] == {"edgeport.module": "net.n_c"}
    assert seen["r_QuantizeLinear"] == {"edgeport.module": "net.n_r"}
    assert len(seen) == len(two_convolutions.graph), "every node has a name of its own"


def test_a_bias_has_the_scale_of_the_products(two_convolutions, make_plan, rules):
    quantize_ir(two_convolutions, integer_plan(make_plan), rules)
    constants = {name: value.const_value.numpy() for name, value in two_convolutions.graph.initializers.items()}
    assert constants["b1_quantized"].dtype == np.int32
    np.testing.assert_array_equal(constants["b1_scale"], constants["x_scale"] * constants["w1_scale"])
    assert "b1" not in constants


def test_a_channel_of_tiny_weights_keeps_its_bias(make_graph, make_plan, rules):
    weight = random(3, 4)
    weight[0], weight[1] = 0, 1e-12
    bias = np.array([0.5, -2.0, 1.0], dtype=np.float32)
    model = make_graph([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": weight, "b": bias}, [2, 4], ["y"])
    quantize_ir(model, make_plan({"n_y": INT8}, {"x": (-1, 1), "y": (-4, 4)}, {"w": 0}), rules)
    constants = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    restored = constants["b_quantized"] * constants["b_scale"].astype(np.float64)
    np.testing.assert_allclose(restored[:2], bias[:2], rtol=1e-6)


def test_a_dialect_may_leave_the_bias_float(two_convolutions, make_plan, rules, edges):
    import dataclasses

    quantize_ir(two_convolutions, integer_plan(make_plan), dataclasses.replace(rules, quantize_bias=False))
    assert "Conv(x_DequantizeLinear_output, w1_DequantizeLinear_output, b1) -> c" in edges(two_convolutions)


def test_a_shared_weight_is_stored_once_and_stays_float_for_float_nodes(make_graph, make_plan, rules, edges):
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
    ]
    model = make_graph(nodes, {"w": random(4, 4)}, [2, 4], ["c"])
    plan = make_plan({"n_a": INT8, "n_b": INT8}, {"x": (-1, 1), "a": (-1, 1), "b": (-1, 1)}, {"w": 1})
    quantize_ir(model, plan, rules)
    text = edges(model)
    assert sum("w_quantized" in line for line in text) == 1
    assert sum("w_DequantizeLinear_output)" in line for line in text) == 2
    assert "MatMul(b_DequantizeLinear_output, w) -> c" in text
    assert "w" in model.graph.initializers


def test_a_shared_bias_gets_integers_for_each_reader(make_graph, make_plan, rules):
    nodes = [node("Gemm", ["x", "w1", "b"], ["h"]), node("Gemm", ["h", "w2", "b"], ["y"])]
    model = make_graph(nodes, {"w1": random(4, 4), "w2": random(4, 4), "b": random(4)}, [2, 4], ["y"])
    plan = make_plan({"n_h": INT8, "n_y": INT8}, {"x": (-1, 1), "h": (-9, 9), "y": (-9, 9)}, {"w1": 1, "w2": 1})
    quantize_ir(model, plan, rules)
    assert {"b_quantized", "b_quantized_2"} <= set(model.graph.initializers)


def test_a_constant_node_counts_as_a_weight(make_graph, make_plan, rules, edges):
    from onnx import helper, numpy_helper

    constant = helper.make_node("Constant", [], ["w"], name="n_w", value=numpy_helper.from_array(random(4, 4)))
    model = make_graph([constant, node("MatMul", ["x", "w"], ["y"])], {}, [2, 4], ["y"])
    quantize_ir(model, make_plan({"n_y": INT8}, {"x": (-1, 1), "y": (-1, 1)}, {"w": 1}), rules)
    assert not [line for line in edges(model) if line.startswith("Constant")]
    assert "w_quantized" in model.graph.initializers


def test_new_names_keep_clear_of_old_ones(make_graph, make_plan, rules):
    model = make_graph([node("MatMul", ["x", "x_scale"], ["y"])], {"x_scale": random(4, 4)}, [2, 4], ["y"])
    quantize_ir(model, make_plan({"n_y": INT8}, {"x": (-1, 1), "y": (-1, 1)}, {"x_scale": 1}), rules)
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(names) == len(set(names))
    assert "x_scale_2" in names


def test_equal_plans_give_equal_bytes(two_convolutions, make_plan, rules, tmp_path):
    model = write_ir(two_convolutions, tmp_path / "float.onnx")
    plan = integer_plan(make_plan, model_digest=model.digest)
    files = [write_plan(model, plan, rules, tmp_path / name) for name in ("a.onnx", "b.onnx")]
    assert files[0].path.read_bytes() == files[1].path.read_bytes()
    assert files[0].inputs == model.inputs
    assert [spec.name for spec in files[0].outputs] == [spec.name for spec in model.outputs]


def test_shapes_are_kept_and_onnx_accepts_the_graph(two_convolutions, make_plan, rules, tmp_path):
    import onnx

    model = write_ir(two_convolutions, tmp_path / "float.onnx")
    plan = integer_plan(make_plan, model_digest=model.digest)
    written = write_plan(model, plan, rules, tmp_path / "int8.onnx")
    onnx.checker.check_model(str(written.path), full_check=True)


def test_products_in_dynamic_int8_share_the_quantization_of_their_input(make_graph, make_plan, rules, edges):
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], transB=1, beta=0.5), node("MatMul", ["x", "v"], ["z"])]
    model = make_graph(nodes, {"w": random(3, 4), "b": random(3), "v": random(4, 2)}, [2, 4], ["y", "z"])
    quantize_ir(model, make_plan({"n_y": DYNAMIC, "n_z": DYNAMIC}, {}, {"w": 0, "v": 1}), rules)
    operators = [line.partition("(")[0] for line in edges(model)]
    assert operators.count("DynamicQuantizeLinear") == 1
    assert operators.count("MatMulInteger") == 2
    assert set(model.graph.initializers) >= {"w_quantized", "v_quantized", "b"}
    assert tuple(model.graph.initializers["w_quantized"].shape) == (4, 3), "transposed for the integer product"
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


@pytest.mark.parametrize(
    "attributes", [{"transB": 1}, {"transB": 1, "alpha": 0.25, "beta": 2.0}], ids=["plain", "scaled"]
)
def test_dynamic_gemm_is_right(attributes, make_graph, make_plan, rules):
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    model = make_graph(
        [node("Gemm", ["x", "w", "b"], ["y"], **attributes)], {"w": random(8, 16), "b": random(8)}, [4, 16], ["y"]
    )
    feeds = {"x": random(4, 16)}
    reference = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]
    quantize_ir(model, make_plan({"n_y": DYNAMIC}, {}, {"w": 0}), rules)
    result = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]
    np.testing.assert_allclose(result, reference, atol=0.05 * np.abs(reference).max())


REFUSED = [
    pytest.param({"nodes": {"nobody": INT8}}, "no such node", id="unknown node"),
    pytest.param({"activations": {"nothing": (0, 1)}}, "no such tensor", id="unknown tensor"),
    pytest.param({"weights": {"w9": 0}}, "no such weight", id="unknown weight"),
    pytest.param({"activations": {"w1": (0, 1)}}, "a constant", id="a constant as an activation"),
    pytest.param({"weights": {"r": 0}}, "no float32 constant", id="an activation as a weight"),
    pytest.param({"weights": {"w1": 4}}, "axis", id="axis out of range"),
    pytest.param({"nodes": {"n_t": INT8}}, "no integer Tanh", id="operator that the dialect has not"),
    pytest.param({"nodes": {"n_t": DYNAMIC}}, "MatMul, Gemm", id="operator that is never dynamic"),
    pytest.param({"activations": {"x": None}}, "no range for its input 'x'", id="range missing"),
    pytest.param({"activations": {"t": (-1, 1)}}, "no int8 node", id="pair that nobody needs"),
    pytest.param({"nodes": {"n_t": Precision.FP16}}, "all that is not integer in one float", id="two float precisions"),
    pytest.param({"dialect": "tensorrt"}, "tensorrt", id="another dialect"),
]


@pytest.mark.parametrize(("change", "found"), REFUSED)
def test_a_plan_that_does_not_fit(change, found, two_convolutions, make_plan, rules):
    parts = {
        "nodes": {"n_c": INT8, "n_r": INT8, "n_z": INT8},
        "activations": {"x": (-3.0, 3.0), "r": (0.0, 4.0), "z": (-5.0, 5.0)},
        "weights": {"w1": 0, "w2": 0},
    }
    changed = {
        key: {
            name: value
            for name, value in (parts[key] | change.get(key, {})).items()
            if value is not None or key == "weights"
        }
        for key in parts
    }
    more = {"dialect": change["dialect"]} if "dialect" in change else {}
    with pytest.raises(PlanError, match=found):
        quantize_ir(two_convolutions, make_plan(**changed, **more), rules)


def test_an_opset_without_scales_per_channel(make_graph, make_plan, rules):
    model = make_graph([node("MatMul", ["x", "w"], ["y"])], {"w": random(4, 4)}, [2, 4], ["y"], opset=12)
    with pytest.raises(PlanError, match=r"opset 12.*export the model again with opset 20"):
        quantize_ir(model, make_plan({"n_y": INT8}, {"x": (-1, 1), "y": (-1, 1)}, {"w": 1}), rules)


def test_a_weight_with_nan_is_refused(make_graph, make_plan, rules):
    weight = random(4, 4)
    weight[1, 2] = np.nan
    model = make_graph([node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [2, 4], ["y"])
    with pytest.raises(PlanError, match="NaN"):
        quantize_ir(model, make_plan({"n_y": INT8}, {"x": (-1, 1), "y": (-1, 1)}, {"w": 1}), rules)


def test_never_quantizes_twice(two_convolutions, make_plan, rules):
    quantize_ir(two_convolutions, integer_plan(make_plan), rules)
    with pytest.raises(AlreadyQuantizedError, match="quantized already"):
        quantize_ir(two_convolutions, integer_plan(make_plan), rules)


def test_the_plan_of_another_file_is_refused(two_convolutions, make_plan, rules, tmp_path):
    model = write_ir(two_convolutions, tmp_path / "float.onnx")
    with pytest.raises(PlanError, match="digest ffff"):
        write_plan(open_onnx(model.path), integer_plan(make_plan, model_digest="f" * 64), rules, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_rules_name_only_operators_of_the_table(rules):
    from edgeport.backends.qdq.operators import operator_rules

    assert isinstance(rules, QuantizationRules)
    with pytest.raises(KeyError, match="Frobnicate"):
        operator_rules(["Conv", "Frobnicate"])
