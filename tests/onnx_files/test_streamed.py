"""The same bytes as protobuf makes of the whole, with no more memory than the model has."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.parser import parse_model

from edgeport.onnx_files.streamed import save_streamed

TEXT = """
    <ir_version: 10, opset_import: ["" : 21, "own" : 1], producer_name: "test", doc_string: "about it",
     metadata_props: ["key": "value"]>
    net (float[batch, 64] x, bool c) => (float[batch, n] y)
    { h = own.Twice(x) m = MatMul(h, w) y = If(c) <
        then_branch = one () => (float[batch, n] o) { o = Identity(m) },
        else_branch = two () => (float[batch, n] p) { p = Neg(m) }> }
    <domain: "own", opset_import: ["" : 21]> Twice (a) => (b) { b = Add(a, a) }
"""


def wide(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def tensors() -> dict[str, ir.TensorProtocol]:
    return {
        "w": ir.Tensor(wide(64, 512), name="w", doc_string="large", metadata_props={"from": "here"}),
        "turned": ir.Tensor(wide(512, 64).T, name="turned"),
        "small": ir.Tensor(np.arange(3), name="small"),
        "one": ir.Tensor(np.float32(2.0), name="one"),
        "half": ir.tensor(wide(256, 256).astype(np.float16), name="half"),
        "brain": ir.Tensor(wide(256, 256).astype(np.float16).view(np.uint16), dtype=ir.DataType.BFLOAT16, name="brain"),
        "eighth": ir.Tensor(np.full((256, 512), 57, np.uint8), dtype=ir.DataType.FLOAT8E4M3FN, name="eighth"),
        "truths": ir.tensor(wide(512, 512) > 0, name="truths"),
        "four": ir.tensor((wide(512, 512) > 0).astype(np.int8), dtype=ir.DataType.INT4, name="four"),
        "read": ir.from_proto(onnx.numpy_helper.from_array(wide(64, 512), "read")),
        "words": ir.StringTensor(np.array([b"a", b"bc"]), shape=ir.Shape([2]), name="words"),
        "called otherwise": ir.Tensor(wide(64, 512), name=None),
    }


@pytest.fixture
def model() -> ir.Model:
    found = ir.from_proto(parse_model(TEXT))
    for name, tensor in tensors().items():
        value = found.graph.initializers.get(name) or ir.Value(name=name)
        value.const_value = tensor
        value.dtype, value.shape = tensor.dtype, ir.Shape(tensor.shape)
        found.graph.initializers[name] = value
    return found


def test_the_bytes_are_those_of_the_whole(model, tmp_path):
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    ir.save(model, tmp_path / "whole.onnx")
    save_streamed(model, tmp_path / "streamed.onnx")
    assert (tmp_path / "streamed.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert all(model.graph.initializers[name].const_value is tensor for name, tensor in before.items())


def test_what_was_written_is_read(model, tmp_path):
    save_streamed(model, tmp_path / "streamed.onnx")
    proto = onnx.load(tmp_path / "streamed.onnx")
    assert [one.name for one in proto.graph.initializer] == list(model.graph.initializers)
    for one in proto.graph.initializer:
        wanted = model.graph.initializers[one.name].const_value
        assert wanted is not None
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(one).astype(wanted.numpy().dtype), wanted.numpy())


def test_weights_in_a_file_stay_there(model, tmp_path):
    (tmp_path / "weights").write_bytes(wide(64, 512).tobytes())
    model.graph.initializers["w"].const_value = ir.ExternalTensor(
        "weights", 0, 4 * 64 * 512, ir.DataType.FLOAT, shape=ir.Shape([64, 512]), name="w", base_dir=tmp_path
    )
    ir.save(model, tmp_path / "whole.onnx")
    save_streamed(model, tmp_path / "streamed.onnx")
    assert (tmp_path / "streamed.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
