"""The header, names, metadata and bytes of an exported file."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.onnx_files import node_module, read_ir  # noqa: E402


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


IMAGES = {"x": _random(2, 3, 16, 16)}


def test_header_is_opset_20_ir_10_and_a_free_batch(export_and_verify, filled, networks):
    result, _ = export_and_verify(filled(networks.Residual()), IMAGES)

    model = read_ir(result.model.path)
    assert (model.opset_imports[""], model.ir_version) == (20, 10)
    assert result.model.opset == 20
    assert result.model.inputs[0].shape == ("batch", 3, 16, 16)
    assert result.model.outputs[0].shape == ("batch", 5)
    assert result.exporter == "torch.export"
    assert result.capture == "non-strict"
    assert result.notes == ()


def test_names_come_from_modules_and_weights_keep_theirs(export_and_verify, filled, networks):
    result, _ = export_and_verify(filled(networks.Residual()), IMAGES)

    graph = read_ir(result.model.path).graph
    nodes = {node.name: node for node in graph}
    assert list(nodes) == [
        "stem.conv/Conv",
        "stem.relu/Relu",
        "body.0/Conv",
        "body.2/Relu",
        "Add",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "head/Gemm",
    ]
    assert node_module(nodes["stem.conv/Conv"]) == "stem.conv"
    assert node_module(nodes["Relu"]) == ""
    assert nodes["body.0/Conv"].outputs[0].name == "body.0/Conv:0"
    assert set(graph.initializers) == {
        "stem.conv.weight",
        "stem.conv.bias",
        "body.0.weight",
        "body.0.bias",
        "head.weight",
        "head.bias",
    }


def test_metadata_is_the_module_and_a_line_without_paths_of_this_machine(export_and_verify, filled, networks):
    result, _ = export_and_verify(filled(networks.Residual()), IMAGES)

    graph = read_ir(result.model.path).graph
    sources = {node.name: node.metadata_props.get("edgeport.source", "") for node in graph}
    assert all(set(node.metadata_props) <= {"edgeport.module", "edgeport.source"} for node in graph)
    assert all(not source.startswith("/") for source in sources.values())
    lines = Path(inspect.getfile(networks.Residual)).read_text(encoding="utf-8").splitlines()
    number = int(sources["Add"].rpartition(":")[2])
    assert "self.body(x) + x" in lines[number - 1]


def test_module_map_counts_nodes(export_and_verify, filled, networks):
    result, _ = export_and_verify(filled(networks.Residual()), IMAGES)

    counted = {each.module: dict(each.operators) for each in result.modules}
    assert counted["stem.conv"] == {"Conv": 1}
    assert counted[""] == {"Add": 1, "Flatten": 1, "GlobalAveragePool": 1, "Relu": 1}


def test_equal_weights_are_not_merged(export_and_verify, networks):
    module = networks.TwoInputs()
    for linear in (module.left, module.right):
        nn.init.ones_(linear.bias)
    result, _ = export_and_verify(module, {"image": _random(2, 8), "text": _random(2, 6)})

    assert {"left.bias", "right.bias"} <= set(read_ir(result.model.path).graph.initializers)


def test_a_module_called_twice_names_both_calls(export_and_verify):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Sigmoid()

        def forward(self, x):
            return self.act(self.act(x))

    result, _ = export_and_verify(Twice(), IMAGES)

    nodes = list(read_ir(result.model.path).graph)
    assert [node.name for node in nodes] == ["act/Sigmoid", "act/Sigmoid_1"]
    assert [node_module(node) for node in nodes] == ["act", "act"]


def test_two_exports_of_one_model_are_byte_equal(tmp_path, filled, networks):
    module = filled(networks.Residual())
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    digests = {export_onnx(module, IMAGES, output=file).model.digest for file in files}

    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(digests) == 1
