"""ONNX files that are damaged, hostile or absurd."""

from __future__ import annotations

import os
import time

import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.errors import ModelFormatError, ModelLimitError, OutputError
from edgeport.onnx_files import open_onnx, read_ir, write_ir


def test_empty_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="empty file"):
        open_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file(small_onnx, tmp_path, kept):
    data = small_onnx.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelFormatError, match="again"):
        open_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "data",
    [b"hello world", b"\0" * 100, b"PK\3\4" + b"\0" * 60, b"\x89PNG\r\n\x1a\n", b"\x08\x0a", b'{"a": 1}', b"\xff" * 99],
    ids=["text", "zeros", "zip", "png", "version only", "json", "ones"],
)
def test_foreign_file(tmp_path, data):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelFormatError) as caught:
        open_onnx(tmp_path / "model.onnx")
    assert caught.value.code == "MODEL_FORMAT"


def test_file_over_two_gibibytes(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a")
    os.truncate(path, 1 << 31)  # sparse: takes no space
    with pytest.raises(ModelFormatError, match="external data"):
        open_onnx(path)


@pytest.mark.parametrize(
    "dims",
    [[1 << 62, 4], [1 << 32, 1 << 32], [1 << 40, 1 << 40, 0], [(1 << 63) - 1], [3, -4], [-3, -4], [-1]],
    ids=str,
)
@pytest.mark.parametrize("external", [False, True], ids=["inside", "external"])
def test_dimension_product_overflow(small_onnx, save_onnx, tmp_path, dims, external):
    weight = small_onnx.graph.initializer[0]
    weight.dims[:] = dims
    if external:
        (tmp_path / "w.bin").write_bytes(weight.raw_data)
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="w.bin")
    with pytest.raises(ModelLimitError, match="'w'"):
        open_onnx(save_onnx(small_onnx))


def test_negative_input_size(small_onnx, save_onnx):
    small_onnx.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -1
    with pytest.raises(ModelLimitError, match="dim_param"):
        open_onnx(save_onnx(small_onnx))


@pytest.mark.parametrize("count", [0, 11, 13])
def test_tensor_bytes_that_do_not_fit_the_shape(small_onnx, save_onnx, count):
    small_onnx.graph.initializer[0].raw_data = b"\0" * 4 * count
    with pytest.raises(ModelFormatError, match="where 48 belong"):
        open_onnx(save_onnx(small_onnx))


def test_tensor_without_any_data(small_onnx, save_onnx):
    small_onnx.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(ModelFormatError, match="with 0 values"):
        open_onnx(save_onnx(small_onnx))


@pytest.mark.parametrize("element_type", [0, 99, TensorProto.STRING])
def test_tensor_of_no_type(small_onnx, save_onnx, element_type):
    small_onnx.graph.initializer[0].data_type = element_type
    with pytest.raises(ModelFormatError, match="no raw form"):
        open_onnx(save_onnx(small_onnx))


def _deep_subgraphs(depth: int) -> bytes:
    """Bytes of a model whose If nodes stand in each other; written by hand, as no library goes so deep."""

    def field(number: int, data: bytes) -> bytes:
        length, size = len(data), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + data

    graph = field(2, b"g")
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x0a" + field(7, graph)


@pytest.mark.parametrize("depth", [50, 1000, 5000])
def test_deep_subgraphs(tmp_path, depth):
    (tmp_path / "model.onnx").write_bytes(_deep_subgraphs(depth))
    with pytest.raises(ModelLimitError, match="too deep"):
        open_onnx(tmp_path / "model.onnx")


def _functions(small_onnx, calls: dict[str, list[str]]):
    small_onnx.opset_import.append(helper.make_opsetid("local", 1))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    for name, called in calls.items():
        value = "a"
        nodes = []
        for index, callee in enumerate(called):
            nodes.append(helper.make_node(callee, [value], [f"v{index}"], domain="local" if callee in calls else ""))
            value = f"v{index}"
        small_onnx.functions.append(helper.make_function("local", name, ["a"], [value], nodes, opsets))
    small_onnx.graph.node[1].op_type = next(iter(calls))
    small_onnx.graph.node[1].domain = "local"
    return small_onnx


def test_functions_of_a_real_depth_pass(small_onnx, save_onnx):
    calls = {f"f{i}": [f"f{i + 1}"] for i in range(99)} | {"f99": ["Relu"]}
    assert open_onnx(save_onnx(_functions(small_onnx, calls))).opset == 20


def test_thousand_deep_functions(small_onnx, save_onnx):
    calls = {f"f{i}": [f"f{i + 1}"] for i in range(1000)} | {"f1000": ["Relu"]}
    with pytest.raises(ModelLimitError, match="over 100 deep"):
        open_onnx(save_onnx(_functions(small_onnx, calls)))


@pytest.mark.parametrize(
    "calls", [{"f": ["f"]}, {"f": ["g"], "g": ["Relu", "h"], "h": ["f"]}], ids=["by itself", "by way of another"]
)
def test_recursive_functions(small_onnx, save_onnx, calls):
    with pytest.raises(ModelLimitError, match="calls itself by way of"):
        open_onnx(save_onnx(_functions(small_onnx, calls)))


def test_functions_that_explode_when_expanded(small_onnx, save_onnx):
    calls = {f"f{i}": [f"f{i + 1}", f"f{i + 1}"] for i in range(60)} | {"f60": ["Relu"]}
    started = time.monotonic()
    with pytest.raises(ModelLimitError, match="expand to"):
        open_onnx(save_onnx(_functions(small_onnx, calls)))
    assert time.monotonic() - started < 5


def test_two_functions_of_one_name(small_onnx, save_onnx):
    model = _functions(small_onnx, {"f": ["Relu"]})
    model.functions.append(model.functions[0])
    with pytest.raises(ModelFormatError, match="two functions 'f'"):
        open_onnx(save_onnx(model))


def test_cyclic_graph(small_onnx, save_onnx):
    small_onnx.graph.node[0].input[0] = "y"
    with pytest.raises(ModelFormatError) as caught:
        open_onnx(save_onnx(small_onnx))
    assert "a cycle: MatMul 'product' waits for 'y'" in caught.value.found


def test_cycle_through_a_subgraph(small_onnx, save_onnx):
    """The body takes a tensor from outside that depends on the node which holds the body."""
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    body = helper.make_graph([helper.make_node("Relu", ["later"], ["b"])], "body", [], out)
    small_onnx.graph.node.extend(
        [
            helper.make_node("If", ["y"], ["chosen"], name="choice", then_branch=body, else_branch=body),
            helper.make_node("Relu", ["chosen"], ["later"], name="after"),
        ]
    )
    with pytest.raises(ModelFormatError, match=r"a cycle: If 'choice' waits for 'later'"):
        open_onnx(save_onnx(small_onnx))


def test_node_that_feeds_itself(small_onnx, save_onnx):
    small_onnx.graph.node[1].input[0] = "y"
    with pytest.raises(ModelFormatError, match=r"a cycle: Relu 'activation' waits for 'y'"):
        open_onnx(save_onnx(small_onnx))


def test_dangling_input(small_onnx, save_onnx):
    small_onnx.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ModelFormatError, match="Relu 'activation' with input 'nowhere', which nothing produces"):
        open_onnx(save_onnx(small_onnx))


def test_dangling_input_of_a_nameless_node(small_onnx, save_onnx):
    small_onnx.graph.node[1].input[0] = "nowhere"
    small_onnx.graph.node[1].name = ""
    with pytest.raises(ModelFormatError, match="Relu '-> y' with input 'nowhere'"):
        open_onnx(save_onnx(small_onnx))


def test_dangling_input_in_a_subgraph(small_onnx, save_onnx):
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    body = helper.make_graph([helper.make_node("Relu", ["nowhere"], ["b"], name="inner")], "body", [], out)
    small_onnx.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=body, else_branch=body))
    with pytest.raises(ModelFormatError, match="Relu 'inner' with input 'nowhere'"):
        open_onnx(save_onnx(small_onnx))


def test_dangling_output(small_onnx, save_onnx):
    small_onnx.graph.output[0].name = "nowhere"
    with pytest.raises(ModelFormatError, match="output 'nowhere', which no node produces"):
        open_onnx(save_onnx(small_onnx))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda g: g.node[1].output.__setitem__(0, "h"), "'h' produced twice: by MatMul 'product' and by Relu"),
        (lambda g: g.node[1].output.__setitem__(0, "x"), "'x' produced twice: by an input or initializer and by Relu"),
        (lambda g: g.node[1].output.__setitem__(0, "w"), "'w' produced twice: by an input or initializer and by Relu"),
        (lambda g: g.input.append(g.input[0]), "two inputs named 'x'"),
        (lambda g: g.initializer.append(g.initializer[0]), "two initializers named 'w'"),
    ],
    ids=["two nodes", "node and input", "node and initializer", "two inputs", "two initializers"],
)
def test_duplicate_names(small_onnx, save_onnx, change, found):
    change(small_onnx.graph)
    with pytest.raises(ModelFormatError) as caught:
        open_onnx(save_onnx(small_onnx))
    assert found in caught.value.found


def test_saving_onto_a_planted_symlink(small_onnx, save_onnx, tmp_path):
    target = tmp_path / "precious.txt"
    target.write_text("untouched")
    (tmp_path / "out.onnx").symlink_to(target)
    with pytest.raises(OutputError) as caught:
        write_ir(read_ir(save_onnx(small_onnx)), tmp_path / "out.onnx")
    assert "precious.txt" in caught.value.found
    assert target.read_text() == "untouched"
    assert (tmp_path / "out.onnx").is_symlink()


def test_saving_onto_a_dangling_symlink(small_onnx, save_onnx, tmp_path):
    (tmp_path / "out.onnx").symlink_to(tmp_path / "absent")
    with pytest.raises(OutputError, match="symbolic link"):
        write_ir(read_ir(save_onnx(small_onnx)), tmp_path / "out.onnx")
    assert not (tmp_path / "absent").exists()


def test_hand_written_bytes_are_a_model():
    """The generator above writes what a library would, where one still can."""
    model = onnx.ModelProto.FromString(_deep_subgraphs(3))
    assert model.graph.node[0].attribute[0].g.node[0].op_type == "If"
