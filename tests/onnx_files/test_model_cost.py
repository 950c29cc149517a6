"""What a call must do at the least, against figures worked out by hand and published ones."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.onnx_files.model_cost import count_work

FLOAT = TensorProto.FLOAT


def model_of(nodes, inputs, outputs, weights=None, domain="", **extra):
    """Inputs and outputs: name to shape (a string is a free axis; None: no shape), float32."""
    opsets = [helper.make_opsetid("", 23)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        **extra,
    )
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node `y = operator(x, w...)` and its multiply-adds for a batch of 2."""

    name: str
    operator: str
    x: tuple
    weights: tuple = ()
    adds: int
    padded: int | None = None
    attributes: dict = field(default_factory=dict)
    rank: int = 2
    domain: str = ""


CASES = (
    Case(name="matmul", operator="MatMul", x=("n", 8), weights=(zeros(8, 4),), adds=2 * 8 * 4),
    Case(name="matmul-3d", operator="MatMul", x=("n", 5, 8), weights=(zeros(8, 4),), adds=2 * 5 * 8 * 4, rank=3),
    Case(
        name="matmul-broadcast",
        operator="MatMul",
        x=("n", 1, 5, 8),
        weights=(zeros(3, 8, 4),),
        adds=2 * 3 * 5 * 8 * 4,
        rank=4,
    ),
    Case(
        name="gemm",
        operator="Gemm",
        x=("n", 8),
        weights=(zeros(4, 8), zeros(4)),
        adds=2 * 8 * 4,
        attributes={"transB": 1},
    ),
    Case(
        name="conv", operator="Conv", x=("n", 3, 8, 8), weights=(zeros(16, 3, 3, 3),), adds=2 * 16 * 3 * 36 * 9, rank=4
    ),
    # 8 outputs of 3 taps an axis, of which the first and the last miss one: 22 of 24.
    Case(
        name="conv-padding",
        operator="Conv",
        x=("n", 3, 8, 8),
        weights=(zeros(16, 3, 3, 3),),
        adds=2 * 16 * 3 * 22 * 22,
        padded=2 * 16 * 3 * 24 * 24,
        attributes={"pads": [1, 1, 1, 1]},
        rank=4,
    ),
    # Dilation 6 on 4 values: only the middle tap ever hits.
    Case(
        name="conv-dilated",
        operator="Conv",
        x=("n", 3, 4, 4),
        weights=(zeros(16, 3, 3, 3),),
        adds=2 * 16 * 3 * 4 * 4,
        padded=2 * 16 * 3 * 12 * 12,
        attributes={"pads": [6] * 4, "dilations": [6, 6]},
        rank=4,
    ),
    Case(
        name="conv-same",
        operator="Conv",
        x=("n", 3, 8, 8),
        weights=(zeros(16, 3, 3, 3),),
        adds=2 * 16 * 3 * 11 * 11,
        padded=2 * 16 * 3 * 12 * 12,
        attributes={"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        rank=4,
    ),
    Case(
        name="conv-depthwise",
        operator="Conv",
        x=("n", 6, 5),
        weights=(zeros(6, 1, 3),),
        adds=2 * 6 * 3 * 3,
        attributes={"group": 6},
        rank=3,
    ),
    Case(
        name="conv-transpose",
        operator="ConvTranspose",
        x=("n", 3, 4, 4),
        weights=(zeros(3, 5, 2, 2),),
        adds=2 * 3 * 5 * 16 * 4,
        attributes={"strides": [2, 2]},
        rank=4,
    ),
    # Cropping one value at each side loses the first tap of the first input and the last of the last: 6 of 8.
    Case(
        name="conv-transpose-cropped",
        operator="ConvTranspose",
        x=("n", 3, 4),
        weights=(zeros(3, 5, 2),),
        adds=2 * 3 * 5 * 6,
        padded=2 * 3 * 5 * 8,
        attributes={"strides": [2], "pads": [1, 1]},
        rank=3,
    ),
    Case(
        name="einsum",
        operator="Einsum",
        x=("n", 5, 8),
        weights=(zeros(8, 4),),
        adds=2 * 5 * 8 * 4,
        attributes={"equation": "bij,jk->bik"},
        rank=3,
    ),
    # The first step has no hidden state to multiply.
    Case(
        name="lstm",
        operator="LSTM",
        x=("n", 7, 3),
        weights=(zeros(1, 20, 3), zeros(1, 20, 5)),
        adds=2 * 7 * 20 * 3 + 1 * 7 * 20 * 5,
        attributes={"hidden_size": 5},
        rank=4,
    ),
    Case(
        name="int4",
        operator="MatMulNBits",
        x=("n", 32),
        weights=(zeros(4, 1, 16, dtype=np.uint8), zeros(4)),
        adds=2 * 32 * 4,
        attributes={"K": 32, "N": 4, "bits": 4, "block_size": 32},
        domain="com.microsoft",
    ),
    Case(
        name="einsum-that-sums-before",
        operator="Einsum",
        x=("n", 5, 8),
        weights=(zeros(8, 4),),
        adds=0,
        attributes={"equation": "bij,jk->bk"},
        rank=2,
    ),
    Case(name="relu", operator="Relu", x=("n", 8), adds=0),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operations_of_each_operator(case, save_onnx):
    weights = {f"w{index}": array for index, array in enumerate(case.weights)}
    node = helper.make_node(case.operator, ["x", *weights], ["y"], domain=case.domain, **case.attributes)
    shape = [f"d{axis}" for axis in range(case.rank)]
    path = save_onnx(model_of([node], {"x": case.x}, {"y": shape}, weights, case.domain))
    assert count_work(path, 2).operations == 2 * case.adds
    assert count_work(path, 2, padding=True).operations == 2 * (case.padded or case.adds)


def test_attention_counts_what_a_causal_mask_leaves(save_onnx):
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], is_causal=1)
    shape = ["n", 2, 4, 8]
    path = save_onnx(model_of([node], dict.fromkeys("qkv", shape), {"y": shape}))
    assert count_work(path, 1).operations == 2 * 2 * (1 + 2 + 3 + 4) * (8 + 8)


def test_integer_products(save_onnx):
    weights = {"w": zeros(8, 4, dtype=np.int8), "zero": np.array(0, np.uint8), "scale": np.array(0.1, np.float32)}
    weights["w_zero"] = np.array(0, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero", "w_zero"], ["i"]),
        helper.make_node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, weights)), 3)
    assert found.operations == 2 * 3 * 8 * 4
    assert found.bytes == 8 * 4 + 4 * 3 * 8 + 4 * 3 * 4  # weights as stored, input and output


def test_weights_behind_dequantize_count_as_they_are_stored(save_onnx):
    weights = {"w": zeros(64, 64, dtype=np.int8), "scale": np.array(0.1, np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 64]}, {"y": ["n", 64]}, weights)), 1)
    assert found.bytes == pytest.approx(64 * 64 + 2 * 4 * 64, abs=4)


def test_bytes_are_no_wider_than_was_asked(save_onnx):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save_onnx(model_of([node], {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": zeros(8, 4)}))
    values = 8 * 4 + 5 * 8 + 5 * 4
    assert [count_work(path, 5, bits=bits).bytes for bits in (None, 32, 16, 8)] == [
        4 * values, 4 * values, 2 * values, values,
    ]  # fmt: skip


LEFT_OUT = {
    "what no output waits for": ([("MatMul", ["y0", "w"], ["dead"])], {}),
    "what depends on constants alone": (
        [("MatMul", ["u", "w"], ["c"]), ("Add", ["y0", "c"], ["y"])],
        {"u": zeros(1, 8)},
    ),
    "what repeats another node": ([("MatMul", ["x", "w"], ["again"]), ("Add", ["y0", "again"], ["y"])], {}),
    "what repeats it with equal weights": (
        [("MatMul", ["x", "v"], ["again"]), ("Add", ["y0", "again"], ["y"])],
        {"v": zeros(8, 8)},
    ),
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_what_runtimes_leave_out_is_not_counted(why, save_onnx):
    nodes, more = LEFT_OUT[why]
    made = [helper.make_node("MatMul", ["x", "w"], ["y0"])] + [helper.make_node(*node) for node in nodes]
    if not any("y" in node.output for node in made):
        made.append(helper.make_node("Identity", ["y0"], ["y"]))
    path = save_onnx(model_of(made, {"x": ["n", 8]}, {"y": ["n", 8]}, {"w": zeros(8, 8), **more}))
    found = count_work(path, 1)
    assert found.operations == 2 * 8 * 8
    assert found.bytes == 4 * (8 * 8 + 8 + 8)


def test_other_weights_are_other_work(save_onnx):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["x", "v"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    weights = {"w": zeros(8, 8), "v": zeros(8, 8) + 1}
    assert count_work(save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, weights)), 1).operations == 256


def test_shared_weights_are_read_once(save_onnx):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": ["n", 8]}, {"w": zeros(8, 8)})), 1)
    assert found.operations == 2 * 2 * 8 * 8
    assert found.bytes == 4 * (8 * 8 + 8 + 8)


def test_parts_of_a_constant_are_no_more_than_the_whole(save_onnx):
    nodes = [
        helper.make_node("Split", ["w"], ["w1", "w2"], axis=1, num_outputs=2),
        helper.make_node("MatMul", ["x", "w1"], ["y"]),
    ]
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": zeros(8, 8)})), 1)
    assert found.bytes == 4 * (8 * 4 + 8 + 4)


def test_an_embedding_is_not_read_as_a_whole(save_onnx):
    proto = model_of(
        [helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])],
        {"x": ["n", 4]},
        {"y": ["n", 4, 2]},
        {"table": zeros(30000, 8), "w": zeros(8, 2)},
    )
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 4]))
    found = count_work(save_onnx(proto), 1)
    assert found.operations == 2 * 4 * 8 * 2
    assert found.bytes < 1000


def test_a_slice_of_the_input_is_not_the_whole_input(save_onnx):
    weights = {"from": np.array([0]), "to": np.array([1]), "axis": np.array([2]), "w": zeros(8, 4)}
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["part"]),
        helper.make_node("MatMul", ["y0", "w"], ["y"]),
        helper.make_node("Squeeze", ["part", "axis"], ["y0"]),
    ]  # and not in order
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 8, 100]}, {"y": ["n", 4]}, weights)), 1)
    assert found.operations == 2 * 8 * 4
    assert found.bytes == 4 * (8 * 4 + 4)


def test_shapes_that_are_not_known_are_left_out_unless_they_are_fed(save_onnx):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save_onnx(model_of([node], {"x": ["n", "tokens", 8]}, {"y": ["n", "tokens", 4]}, {"w": zeros(8, 4)}))
    assert count_work(path, 2).operations == 0
    assert count_work(path, 2, shapes={"x": (2, 10, 8)}).operations == 2 * 2 * 10 * 8 * 4


def test_what_the_file_says_of_another_batch_does_not_count(save_onnx):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "v"], ["y"])]
    stale = [helper.make_tensor_value_info("a", FLOAT, [7, 4])]
    weights = {"w": zeros(8, 4), "v": zeros(4, 2)}
    path = save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": [7, 2]}, weights, value_info=stale))
    assert count_work(path, 3).operations == 2 * 3 * (8 * 4 + 4 * 2)


def test_branches_are_left_out_and_what_they_take_is_alive(save_onnx):
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["a", "v"], ["b"])], "b", [], [helper.make_tensor_value_info("b", FLOAT, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    weights = {"w": zeros(8, 4), "v": zeros(4, 4), "yes": np.ones((), bool)}
    found = count_work(save_onnx(model_of(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, weights)), 1)
    assert found.operations == 2 * 8 * 4


def test_functions_are_counted_as_what_they_expand_to(save_onnx):
    proto = model_of(
        [helper.make_node("times", ["x", "w"], ["y"], domain="local")],
        {"x": ["n", 8]},
        {"y": ["n", 4]},
        {"w": zeros(8, 4)},
        "local",
    )
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    proto.functions.append(
        helper.make_function("local", "times", ["a", "b"], ["c"], body, [helper.make_opsetid("", 23)])
    )
    assert count_work(save_onnx(proto), 1).operations == 2 * 8 * 4


def test_external_weights_are_counted_and_not_read(save_onnx, tmp_path):
    proto = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": zeros(8, 4)}
    )
    onnx.save_model(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found = count_work(tmp_path / "m.onnx", 1)
    assert (found.operations, found.bytes) == (2 * 8 * 4, 4 * (8 * 4 + 8 + 4))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own code, about itself
@pytest.mark.parametrize(("name", "giga", "megabytes"), [("resnet18", 1.814, 46.8), ("mobilenet_v2", 0.301, 14.0)])
def test_published_figures(name, giga, megabytes, tmp_path):
    """Multiply-adds at 224 x 224 and megabytes of weights, as torchvision's model pages give them (GFLOPS, MB)."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    path = tmp_path / "net.onnx"
    net = getattr(torchvision.models, name)(weights=None).eval()
    torch.onnx.export(
        net, (torch.zeros(2, 3, 224, 224),), str(path), dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    published = count_work(path, 1, padding=True)
    assert published.operations / 2e9 == pytest.approx(giga, rel=0.002)
    assert published.bytes / 1e6 == pytest.approx(megabytes, rel=0.04)
    assert 0.9 * published.operations < count_work(path, 1).operations <= published.operations
