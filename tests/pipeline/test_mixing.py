"""Integer weights and mixed precisions, from the names that people write to what really ran."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport import api
from edgeport.cli.commands.quantize import command as quantize
from edgeport.contracts import Mix, NodeChoice, Precision, Target
from edgeport.errors import PlanError, UnsupportedByBackend, UsageError
from edgeport.pipeline.compilation.candidates import list_candidates, named_apart
from edgeport.pipeline.quantization.planning import mix_named
from edgeport.recipe.sections import PrecisionName


def test_every_list_of_precisions_is_the_same():
    known = tuple(str(one) for one in Precision)
    offered = next(one for one in quantize.params if one.name == "precision").type.choices
    assert (tuple(offered), get_args(PrecisionName)) == (known, known)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """Two products; `net.first` and `net.second`."""
    random = np.random.default_rng(3)
    weights = {"w": (64, 64), "v": (64, 8)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
        ],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [
            numpy_helper.from_array(random.standard_normal(size).astype(np.float32), name)
            for name, size in weights.items()
        ],
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())
    return path


def ran(folder) -> dict[str, str]:
    """First ONNX node of each computing kernel to what it ran in."""
    nodes = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["nodes"]
    return {node["origin"][0]: f"{node['precision']}/{node['weights']}" for node in nodes if node["precision"]}


def test_weights_in_blocks_need_no_calibration(net, tmp_path):
    artifact = api.quantize(net, output=tmp_path / "out", options=api.QuantizeOptions(precision="uint4-weights-32"))
    assert artifact.precision is Precision.UINT4_WEIGHTS_32
    assert ran(tmp_path / "out") == {"first": "int8/int4", "relu": "fp32/", "second": "int8/int4"}
    plan = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))
    assert plan["found_by"] == "weights rounded to the nearest, no samples"


def test_chosen_nodes_run_as_they_were_chosen(net, tmp_path):
    nodes = {"MatMul": "int4-weights-32", "first": "fp32"}
    api.quantize(net, output=tmp_path / "out", options=api.QuantizeOptions(precision="int8-dynamic", nodes=nodes))
    assert ran(tmp_path / "out") == {"first": "fp32/", "relu": "fp32/", "second": "int8/int4"}


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        pytest.param({"precision": "int8-dynamic", "nodes": {"frist": "fp32"}}, PlanError, "'first'", id="node"),
        pytest.param({"precision": "int8-dynamic", "nodes": {"first": "fp23"}}, UsageError, "'fp32'", id="precision"),
        pytest.param({"precision": "int8-dynamic", "rest": "int8"}, UsageError, "of integers", id="rest"),
        pytest.param({"precision": "fp32", "nodes": {"first": "int8"}}, PlanError, "an integer precision", id="float"),
        pytest.param({"precision": "int16"}, UnsupportedByBackend, "keeps each in float", id="int16"),
        pytest.param(
            {"precision": "int8-weights", "nodes": {"first": "int8"}}, PlanError, "no calibration", id="static"
        ),
    ],
)
def test_what_is_refused(asked, error, says, net, tmp_path):
    with pytest.raises(error, match=says):
        api.quantize(net, output=tmp_path / "out", options=api.QuantizeOptions(**asked))
    assert not (tmp_path / "out").exists()


def test_candidates_are_named_by_what_they_mix_and_floats_stay_whole():
    mix = mix_named({"head": "fp32"}, "bf16")
    precisions = (Precision.BF16, Precision.INT8, Precision.INT4_WEIGHTS_64)
    targets = (
        Target(backend="openvino", precisions=precisions, mix=mix),
        Target(backend="openvino", precisions=(Precision.INT8,), mix=mix_named({}, "bf16")),
        Target(backend="openvino", precisions=(Precision.INT8,)),
    )
    listed = {one.name: one.mix for one in list_candidates(targets, {})}
    assert listed == {
        "openvino bf16": Mix(),
        "openvino int8 mixed with bf16": mix,
        "openvino int4-weights-64 mixed with bf16": mix,
        "openvino int8 with bf16": Mix(rest=Precision.BF16),
        "openvino int8": Mix(),
    }


@pytest.mark.parametrize(
    ("precisions", "chosen", "needs"),
    [
        (["fp32", "int8-weights", "int4-weights-32"], {}, False),
        (["int8"], {}, True),
        (["int8-weights"], {"head": "int8"}, True),
        (["fp32"], {"head": "int8"}, False),  # floats mix nothing
    ],
)
def test_only_ranges_need_samples(precisions, chosen, needs):
    mix = Mix(nodes=tuple(NodeChoice(what=what, precision=Precision(one)) for what, one in chosen.items()))
    target = Target(backend="openvino", precisions=tuple(map(Precision, precisions)), mix=mix)
    assert target.needs_ranges is needs


def test_a_name_that_is_taken_gets_a_number():
    targets = tuple(Target(backend="openvino", precisions=(one,)) for one in (Precision.INT8, Precision.INT8))
    listed = list_candidates(targets, {})
    more = named_apart([listed[0], listed[0], replace(listed[0], name="new")], listed)
    assert [one.name for one in more] == ["openvino int8 #3", "openvino int8 #4", "new"]
