"""What a sound file tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import TensorSpec
from edgeport.errors import ModelFormatError, SourceError
from edgeport.onnx_files import MODULE_KEY, node_module, open_onnx, read_ir


def test_specs_opset_and_path(small_onnx, save_onnx):
    opened = open_onnx(save_onnx(small_onnx))
    assert opened.inputs == (TensorSpec(name="x", dtype="float32", shape=("batch", 3)),)
    assert opened.outputs == (TensorSpec(name="y", dtype="float32", shape=("batch", 4)),)
    assert opened.opset == 20


def test_a_model_of_other_domains_alone_needs_no_default_one(small_onnx, save_onnx):
    small_onnx.opset_import[0].domain = "ai.onnx.ml"
    with pytest.raises(ModelFormatError, match=r"opset versions \[\] of the default domain"):
        open_onnx(save_onnx(small_onnx))
    for node in small_onnx.graph.node:
        node.domain = "ai.onnx.ml"
    assert open_onnx(save_onnx(small_onnx)).opset == onnx.defs.onnx_opset_version()


@pytest.mark.parametrize(
    ("element_type", "dtype"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.STRING, "string"),
    ],
)
def test_element_types(small_onnx, save_onnx, element_type, dtype):
    small_onnx.graph.input[0].type.tensor_type.elem_type = element_type
    assert open_onnx(save_onnx(small_onnx)).inputs[0].dtype == dtype


def test_unknown_axes_get_names_that_are_not_taken(small_onnx, save_onnx):
    for value in (small_onnx.graph.input[0], small_onnx.graph.output[0]):
        value.type.tensor_type.shape.dim.add()
    small_onnx.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "unk_0"
    opened = open_onnx(save_onnx(small_onnx))
    assert opened.inputs[0].shape == ("unk_0", 3, "unk_1")
    assert opened.outputs[0].shape == ("batch", 4, "unk_2")


def test_inputs_with_a_default_value_are_no_inputs(small_onnx, save_onnx):
    small_onnx.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    assert [spec.name for spec in open_onnx(save_onnx(small_onnx)).inputs] == ["x"]


def test_nodes_in_any_order_are_read(small_onnx, save_onnx):
    first, second = small_onnx.graph.node
    reordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (second, first)]
    del small_onnx.graph.node[:]
    small_onnx.graph.node.extend(reordered)
    assert {node.name for node in read_ir(save_onnx(small_onnx)).graph} == {"product", "activation"}


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (lambda m: m.ClearField("opset_import"), "opset versions"),
        (lambda m: m.graph.ClearField("output"), "without outputs"),
        (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "without a shape"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT8E5M2), "float8e5m2"),
        (lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent(), "sequence_type"),
    ],
    ids=["no-opset", "no-outputs", "no-shape", "float8-input", "sequence-input"],
)
def test_what_edgeport_can_not_describe_is_refused(small_onnx, save_onnx, break_it, found):
    break_it(small_onnx)
    with pytest.raises(ModelFormatError, match=found):
        open_onnx(save_onnx(small_onnx))


def test_a_missing_file_and_a_folder_are_no_models(tmp_path):
    with pytest.raises(SourceError, match="check the path"):
        open_onnx(tmp_path / "absent.onnx")
    with pytest.raises(SourceError, match="no regular file"):
        open_onnx(tmp_path)


def _with_external_weight(small_onnx: onnx.ModelProto, folder: Path) -> bytes:
    weight = small_onnx.graph.initializer[0]
    data = weight.raw_data
    (folder / "weights").mkdir()
    (folder / "weights" / "w.bin").write_bytes(b"\0" * 16 + data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights/w.bin", "offset": "16", "length": str(len(data))}.items():
        weight.external_data.add(key=key, value=value)
    return data


def test_external_data_is_read_and_counted_in_the_digest(small_onnx, save_onnx, tmp_path):
    data = _with_external_weight(small_onnx, tmp_path)
    path = save_onnx(small_onnx)
    opened = open_onnx(path)
    weight = read_ir(opened).graph.initializers["w"].const_value
    assert weight.tobytes() == data
    (tmp_path / "weights" / "w.bin").write_bytes(b"\0" * 16 + data[:-1] + b"\7")
    assert open_onnx(path).digest != opened.digest
    with pytest.raises(ModelFormatError, match="other content"):
        read_ir(opened)


def test_weights_stay_readable_when_the_file_is_gone(small_onnx, save_onnx, tmp_path):
    data = _with_external_weight(small_onnx, tmp_path)
    graph = read_ir(save_onnx(small_onnx)).graph
    (tmp_path / "weights" / "w.bin").unlink()
    np.testing.assert_array_equal(graph.initializers["w"].const_value.numpy().ravel(), np.frombuffer(data, np.float32))


def test_external_data_inside_functions_and_subgraphs_is_loaded(small_onnx, save_onnx, tmp_path):
    (tmp_path / "c.bin").write_bytes(np.float32(7).tobytes())
    constant = TensorProto(name="c", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    constant.external_data.add(key="location", value="c.bin")
    node = helper.make_node("Constant", [], ["out"], value=constant)
    small_onnx.functions.append(
        helper.make_function("local", "seven", [], ["out"], [node], [helper.make_opsetid("", 20)])
    )
    small_onnx.opset_import.append(helper.make_opsetid("local", 1))
    path = save_onnx(small_onnx)
    before = open_onnx(path).digest
    (function,) = read_ir(path).functions.values()
    assert function[0].attributes["value"].value.numpy() == 7
    (tmp_path / "c.bin").write_bytes(np.float32(8).tobytes())
    assert open_onnx(path).digest != before


def test_missing_and_doubled_node_names_become_unique_and_stay_so(small_onnx, save_onnx):
    for node in small_onnx.graph.node:
        node.name = ""
    branch = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["b"], name="twice"), helper.make_node("Relu", ["b"], ["c"], name="twice")],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )
    condition = helper.make_node("Constant", [], ["yes"], name="Relu_0", value_int=1)
    choice = helper.make_node("If", ["yes"], ["z"], name="choice", then_branch=branch, else_branch=branch)
    small_onnx.graph.node.extend([condition, choice])
    path = save_onnx(small_onnx)
    names = [node.name for node in read_ir(path).graph.all_nodes()]
    assert len(names) == len(set(names)) == 8
    assert "" not in names
    assert {"Relu_0", "Relu_1", "MatMul_0", "twice", "twice_0"} <= set(names)
    assert names == [node.name for node in read_ir(path).graph.all_nodes()]


def test_module_of_a_node(small_onnx, save_onnx):
    small_onnx.graph.node[0].metadata_props.add(key=MODULE_KEY, value="layer1.0.conv1")
    nodes = list(read_ir(save_onnx(small_onnx)).graph)
    assert [node_module(node) for node in nodes] == ["layer1.0.conv1", ""]


@pytest.mark.slow
def test_real_models_pass():
    folder = os.environ.get("EDGEPORT_ZOO")
    if not folder:
        pytest.skip("EDGEPORT_ZOO is not set")
    assert len(list(read_ir(Path(folder) / "models" / "fastestdet.onnx").graph)) > 100


def test_importing_the_package_loads_no_onnx():
    code = "import sys, edgeport.onnx_files; print([n for n in ('onnx', 'onnx_ir', 'pydantic') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sizes_of_elements_are_those_of_onnx_ir():
    import onnx_ir

    from edgeport.onnx_files.tensors import size_bytes

    for dtype in onnx_ir.DataType:
        tensor = TensorProto(data_type=dtype.value, dims=[8])
        try:
            bits = dtype.bitwidth
        except TypeError:
            with pytest.raises(ModelFormatError, match="which has no raw form"):
                size_bytes(tensor, Path("net.onnx"))
        else:
            assert size_bytes(tensor, Path("net.onnx")) == bits
