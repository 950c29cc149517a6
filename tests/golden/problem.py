"""Small models, samples and recipes: an image network in ONNX and in PyTorch, and a model with a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

NET = '''\
"""Two convolutions, a norm and two products; the width is an argument."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, width, 3), nn.ReLU()
        )
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.features(image).mean((2, 3)))
        return self.head(torch.nn.functional.gelu(self.wide(features)))


def broken() -> nn.Module:
    raise ValueError("no such weights")
'''

_SEARCH = "search = { rounds = 6, screening_rounds = 2, duration_s = 0.01, warmup_s = 0.01"
_DATA = """\
data.calibration = "calibration.npz"
data.evaluation = "evaluation.npz"
data.target = "label"
data.metric = "agreement"
"""
_COMPRESS = """\
model.source = "net:Net"
data.training = "training.npz"
{data}
budget.accuracy_drop = 0.9
target = [{{ backend = "onnxruntime", precisions = ["fp32", "int8"], threads = 1 }}]
{search} }}
"""
_TRAINED = _COMPRESS.format(data=_DATA, search=_SEARCH)
RECIPES = {
    "float.toml": f"""\
model.source = "net.onnx"
{_DATA}
target = [{{ backend = "onnxruntime", precisions = ["fp32"], threads = 1 }}]
{_SEARCH} }}
""",
    "both.toml": f"""\
model.source = "net.onnx"
{_DATA}
budget.accuracy_drop = 0.9
{_SEARCH}, recovery = ["equalization", "smoothing:0.5", "rounding:20", "bias-correction"], calibration_method = "mse" }}

[[target]]
name = "server"
backend = "onnxruntime"
precisions = ["fp32", "bf16", "int8", "int8-dynamic"]
threads = 1

[target.nodes]
"conv_1" = "fp32"
"Gemm" = "int8-dynamic"

[[target]]
name = "board"
backend = "openvino"
precisions = ["fp32", "fp16", "int8"]
rest = "bf16"
threads = 1
""",
    "folded.toml": f"""\
model.source = "net:Net"
{_DATA.replace("n.npz", "n_raw.npz")}
budget.accuracy_drop = 0.9
target = [{{ backend = "onnxruntime", precisions = ["fp32", "int8"], threads = 1 }}]
{_SEARCH} }}

[inputs.image]
shape = ["batch", 3, 8, 8]

[inputs.image.preprocess]
scale = "1/255"
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.3, 0.4]
fold = true
""",
    "state.toml": f"""\
model.source = "state.onnx"
state = {{ next = "held" }}
data = {{ calibration = "steps.npz", evaluation = "other_steps.npz", sequence = "clip", metric = "cosine" }}
budget.accuracy_drop = 0.9
target = [{{ backend = "onnxruntime", precisions = ["fp32", "int8"], threads = 1 }}]
{_SEARCH} }}
""",
    "trained.toml": _TRAINED,
    "compress.toml": f"""\
{_TRAINED}
[[compress]]
method = "prune"
criterion = "taylor"
target = "macs <= 60 %"
epochs = 1
batch_size = 32
device = "cpu"

[[compress]]
method = "qat"
epochs = 1
batch_size = 32
device = "cpu"
""",
    "student.toml": f"""\
{_TRAINED}
[[compress]]
method = "distill"
student = "net:Net"
student_arguments = {{ width = 8 }}
epochs = 2
batch_size = 32
device = "cpu"
""",
}


def write_problem(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "net.py").write_text(NET, encoding="utf-8")
    for name, text in RECIPES.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, count in (("training", 96), ("calibration", 32), ("evaluation", 200)):
        images, labels = random.normal(size=(count, 3, 8, 8)).astype(np.float32), random.integers(0, 4, count)
        np.savez(folder / f"{name}.npz", image=images, label=labels)
        raw = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
        np.savez(folder / f"{name}_raw.npz", image=raw, label=labels)
    np.savez(folder / "wrong.npz", picture=np.zeros((8, 3, 8, 8), np.float32))
    np.savez(folder / "nan.npz", image=np.full((8, 3, 8, 8), np.nan, np.float32))
    for name in ("steps", "other_steps"):
        np.savez(folder / f"{name}.npz", x=random.normal(size=(48, 6)).astype(np.float32), clip=np.repeat(range(12), 4))
    onnx.save(_network(random), folder / "net.onnx")
    onnx.save(_recurrent(random), folder / "state.onnx")
    (folder / "damaged.onnx").write_bytes(b"no model")


def _network(random: np.random.Generator) -> onnx.ModelProto:
    """A chain of convolutions, one with groups, a residual, a norm, and products of both kinds."""
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="conv_0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["h0"], name="relu_0"),
        helper.make_node("Conv", ["h0", "wa", "ba"], ["ca"], name="conv_a"),
        helper.make_node("Relu", ["ca"], ["r0"], name="relu_a"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="conv_1", pads=[1, 1, 1, 1], group=16),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"], name="clip_1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv_2"),
        helper.make_node("Add", ["r0", "c2"], ["a2"], name="add_2"),
        helper.make_node("GlobalAveragePool", ["a2"], ["p3"], name="pool_3"),
        helper.make_node("Flatten", ["p3"], ["f3"], name="flatten_3"),
        helper.make_node("LayerNormalization", ["f3", "scale", "shift"], ["n4"], name="norm_4"),
        helper.make_node("MatMul", ["n4", "w5"], ["m5"], name="product_5"),
        helper.make_node("Add", ["m5", "b5"], ["s5"], name="add_5"),
        helper.make_node("Gelu", ["s5"], ["g5"], name="gelu_5"),
        helper.make_node("Gemm", ["g5", "w6", "b6"], ["scores"], name="head_6"),
    ]
    shapes = {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 1, 3, 3), "b1": (16,), "w2": (16, 16, 1, 1)}
    shapes |= {"wa": (16, 16, 1, 1), "ba": (16,), "b2": (16,)}
    shapes |= {"scale": (16,), "shift": (16,), "w5": (16, 64), "b5": (64,), "w6": (64, 4), "b6": (4,)}
    constants = {name: 0.4 * random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {"zero": np.float32(0), "six": np.float32(6)}
    return _model(nodes, constants, {"image": ["batch", 3, 8, 8]}, {"scores": ["batch", 4]})


def _recurrent(random: np.random.Generator) -> onnx.ModelProto:
    """next = tanh(x @ w + held @ u), y = next @ v."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="from_input"),
        helper.make_node("MatMul", ["held", "u"], ["hu"], name="from_state"),
        helper.make_node("Add", ["xw", "hu"], ["sum"], name="sum"),
        helper.make_node("Tanh", ["sum"], ["next"], name="tanh"),
        helper.make_node("MatMul", ["next", "v"], ["y"], name="head"),
    ]
    shapes = {"w": (6, 8), "u": (8, 8), "v": (8, 3)}
    constants = {name: 0.4 * random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    given = {"x": ["batch", 6], "held": ["batch", 8]}
    return _model(nodes, constants, given, {"y": ["batch", 3], "next": ["batch", 8]})


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], inputs: dict[str, list], outputs: dict[str, list]
) -> onnx.ModelProto:
    given, computed = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    )
    values = [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", given, computed, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
