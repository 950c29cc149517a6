"""Types that a file leaves out: those of tensors, and of nothing else."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from edgeport.onnx_files import infer_types, read_ir, values_not_tensors, write_ir

SPLIT = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y) {
    a = Relu(x)
    s = SplitToSequence<axis=1>(a)
    t = Identity(s)
    first = Constant<value_int=0>()
    p = SequenceAt(t, first)
    y = Add(p, a)
}"""
LOOP = """<ir_version: 10, opset_import: ["" : 20]>
main (float[n,4] x) => (float[n,4] y) {
    s = SequenceConstruct(x)
    turns = Constant<value_int=2>()
    more = Constant<value = bool {1}>()
    many = Loop(turns, more, s) <body = turn (int64 i, bool on, seq(float[n,4]) held)
                                     => (bool again, seq(float[n,4]) longer) {
        again = Identity(on)
        same = Identity(held)
        longer = SequenceInsert(same, x)
    }>
    y = ConcatFromSequence<axis=1>(many)
}"""


def read(text, folder):
    model = onnx.parser.parse_model(text)
    model.graph.ClearField("value_info")
    onnx.save(model, folder / "model.onnx")
    return read_ir(folder / "model.onnx")


@pytest.mark.parametrize("shapes", [False, True])
def test_a_sequence_does_not_become_a_tensor(shapes, tmp_path):
    model = read(SPLIT, tmp_path)
    infer_types(model, shapes=shapes)
    types = {value.name: value.type for node in model.graph for value in node.outputs}
    assert types["a"] == types["p"] == ir.TensorType(ir.DataType.FLOAT)
    assert types["s"] is types["t"] is None
    onnx.checker.check_model(onnx.load(write_ir(model, tmp_path / "written.onnx").path), full_check=True)


def test_sequences_are_followed_through_loops(tmp_path):
    graph = read(LOOP, tmp_path).graph
    assert {value.name for value in values_not_tensors(graph)} == {"s", "held", "same", "longer", "many"}
