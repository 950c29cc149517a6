"""Small modules: exported, verified on three batch sizes, and named after where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from torch import nn  # noqa: E402 (after the skip)

from edgeport.contracts import Outcome  # noqa: E402
from edgeport.errors import DynamicShapeError, ExportError, OutputError, SamplesError  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import Capture, ExportOptions  # noqa: E402
from edgeport.onnx_files import node_module, read_ir  # noqa: E402


def _trained(module):
    """Norms that have seen data: a mean of 0 and a variance of 1 would hide a wrong fold."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.5)
    return module.eval()


class ConvBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBlock()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.body(x) + x)
        return self.head(x.mean((2, 3)))


class SharedConv(nn.Module):
    """One convolution, two norms: each use needs folded weights of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


class Upsampling(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.stem = ConvBlock()

    def forward(self, x):
        return self.norm(self.up(self.stem(x)))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 4), nn.Linear(6, 4)

    def forward(self, image, text):
        return self.left(image) - self.right(text)


class DictOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"boxes": nn.Linear(8, 4), "scores": nn.Linear(8, 2)})

    def forward(self, x):
        scores = self.heads["scores"](x)
        return {"boxes": self.heads["boxes"](x), "scores": (scores.softmax(-1), None, scores)}


class Sequence3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 8, bias=False)

    def forward(self, x):
        return self.down(torch.nn.functional.gelu(self.norm(self.up(x))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class BiasedAttention(Attention):
    """With a bias from a table, torch takes another kernel apart than it captured, with other strides."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(9, 2))
        self.register_buffer("index", torch.arange(25) % 9)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].view(length, length, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))


class StandardisedWeight(nn.Module):
    """A weight that forward computes from a parameter; it is constant all the same."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 3, 9, 9))

    def forward(self, x):
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
        return torch.nn.functional.conv2d(x, weight)


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


IMAGES = {"x": _random(2, 3, 16, 16)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`operators` are the nodes that must be there, no more and no fewer of each."""

    id: str
    module: Callable[[], nn.Module]
    feeds: dict[str, np.ndarray]
    operators: dict[str, int]
    outputs: list[str] = field(default_factory=lambda: ["output"])


CASES = [
    Case(id="conv-bn-relu", module=ConvBlock, feeds=IMAGES, operators={"Conv": 1, "BatchNormalization": 0, "Relu": 1}),
    Case(
        id="residual",
        module=Residual,
        feeds=IMAGES,
        operators={"Conv": 2, "BatchNormalization": 0, "Add": 1, "Relu": 3, "Gemm": 1, "MatMul": 0},
    ),
    Case(id="shared-conv", module=SharedConv, feeds=IMAGES, operators={"Conv": 2, "BatchNormalization": 0}),
    Case(
        id="transposed-conv-in-groups",
        module=Upsampling,
        feeds=IMAGES,
        operators={"ConvTranspose": 1, "BatchNormalization": 0},
    ),
    Case(
        id="two-inputs",
        module=TwoInputs,
        feeds={"image": _random(2, 8), "text": _random(2, 6)},
        operators={"Gemm": 2, "Sub": 1},
    ),
    Case(
        id="dict-output",
        module=DictOutput,
        feeds={"x": _random(2, 8)},
        operators={"Gemm": 2, "Softmax": 1},
        outputs=["boxes", "scores_0", "scores_2"],
    ),
    Case(
        id="linear-on-3d",
        module=Sequence3d,
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 2, "Add": 1, "Transpose": 0, "Gelu": 1},
    ),
    Case(id="lstm", module=Recurrent, feeds={"x": _random(2, 5, 8)}, operators={"LSTM": 1, "Loop": 0}),
    Case(
        id="attention",
        module=Attention,
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 4, "Shape": 0, "Softmax": 1},
    ),
    Case(
        id="attention-with-a-bias",
        module=BiasedAttention,
        feeds={"x": _random(2, 5, 8)},
        operators={"MatMul": 4, "Shape": 0, "Softmax": 1, "Identity": 0},
    ),
    Case(id="token-ids", module=Tokens, feeds={"ids": np.arange(10).reshape(2, 5) // 2}, operators={"Gather": 1}),
    Case(id="computed-weight", module=StandardisedWeight, feeds=IMAGES, operators={"Conv": 1, "Sub": 0, "Div": 0}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_small_module_computes_the_same_on_three_batch_sizes(case, export_and_verify):
    result, checked = export_and_verify(_trained(case.module()), case.feeds)

    assert checked.outcome is Outcome.PASS, checked.outputs
    assert checked.batch_sizes == (2, 1, 3)
    assert [output.name for output in result.model.outputs] == case.outputs
    assert [output.name for output in checked.outputs] == case.outputs
    found = [node.op_type for node in read_ir(result.model.path).graph]
    assert {operator: found.count(operator) for operator in case.operators} == case.operators


def test_header_is_opset_20_ir_10_and_a_free_batch(export_and_verify):
    result, _ = export_and_verify(_trained(Residual()), IMAGES)

    model = read_ir(result.model.path)
    assert (model.opset_imports[""], model.ir_version) == (20, 10)
    assert result.model.opset == 20
    assert result.model.inputs[0].shape == ("batch", 3, 16, 16)
    assert result.model.outputs[0].shape == ("batch", 5)
    assert result.exporter == "torch.export"
    assert result.capture == "non-strict"
    assert result.notes == ()


@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets_are_written_as_asked(opset, export_and_verify):
    result, checked = export_and_verify(_trained(Attention()), {"x": _random(2, 5, 8)}, opset=opset)

    assert result.model.opset == opset
    assert checked.outcome is Outcome.PASS


def test_names_come_from_modules_and_weights_keep_theirs(export_and_verify):
    result, _ = export_and_verify(_trained(Residual()), IMAGES)

    graph = read_ir(result.model.path).graph
    nodes = {node.name: node for node in graph}
    assert list(nodes) == [
        "stem.conv/Conv",
        "stem.relu/Relu",
        "body.0/Conv",
        "body.2/Relu",
        "Add",
        "Relu",
        "ReduceMean",
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
        "ReduceMean.1",
    }


def test_metadata_is_the_module_and_a_line_without_paths_of_this_machine(export_and_verify):
    result, _ = export_and_verify(_trained(Residual()), IMAGES)

    graph = read_ir(result.model.path).graph
    sources = {node.name: node.metadata_props.get("edgeport.source", "") for node in graph}
    assert all(set(node.metadata_props) <= {"edgeport.module", "edgeport.source"} for node in graph)
    assert all(not source.startswith("/") for source in sources.values())
    lines = __import__("inspect").getsource(__import__("sys").modules[Residual.__module__]).splitlines()
    number = int(sources["Add"].rpartition(":")[2])
    assert "self.body(x) + x" in lines[number - 1]


def test_module_map_counts_nodes(export_and_verify):
    result, _ = export_and_verify(_trained(Residual()), IMAGES)

    counted = {each.module: dict(each.operators) for each in result.modules}
    assert counted["stem.conv"] == {"Conv": 1}
    assert counted[""] == {"Add": 1, "ReduceMean": 1, "Relu": 1}


def test_equal_weights_are_not_merged(export_and_verify):
    module = TwoInputs()
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


def test_two_exports_of_one_model_are_byte_equal(tmp_path):
    module = _trained(Residual())
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    digests = {export_onnx(module, IMAGES, output=file).model.digest for file in files}

    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(digests) == 1


def test_feeds_may_have_names_of_their_own(export_and_verify):
    result, checked = export_and_verify(_trained(ConvBlock()), {"picture": IMAGES["x"]})

    assert [spec.name for spec in result.model.inputs] == ["picture"]
    assert checked.outcome is Outcome.PASS


def test_feeds_are_matched_by_name_not_by_order(export_and_verify):
    result, checked = export_and_verify(_trained(TwoInputs()), {"text": _random(2, 6), "image": _random(2, 8)})

    assert {spec.name for spec in result.model.inputs} == {"image", "text"}
    assert checked.outcome is Outcome.PASS


def test_a_map_tells_which_feed_is_which_parameter(export_and_verify):
    result, checked = export_and_verify(
        _trained(TwoInputs()),
        {"b": _random(2, 6), "a": _random(2, 8)},
        parameters={"a": "image", "b": "text"},
        output_names=("difference",),
    )

    assert {spec.name: spec.shape for spec in result.model.inputs} == {"a": ("batch", 8), "b": ("batch", 6)}
    assert [spec.name for spec in result.model.outputs] == ["difference"]
    assert checked.outcome is Outcome.PASS


def test_more_axes_may_be_free(export_and_verify, tmp_path, open_model):
    result, _ = export_and_verify(
        _trained(ConvBlock()), IMAGES, dynamic_axes={"x": {2: "height", 3: "width"}}, capture=Capture.STRICT
    )

    assert result.model.inputs[0].shape == ("batch", 3, "height", "width")
    assert result.model.outputs[0].shape == ("batch", 4, "height", "width")
    assert result.capture == "strict"
    with open_model(result.model.path) as run:
        assert run({"x": _random(1, 3, 7, 9)})["output"].shape == (1, 4, 7, 9)


class UnusedInput(nn.Module):
    def forward(self, x, mask):
        del mask
        return x * 2


class SameTwice(nn.Module):
    def forward(self, x):
        y = x * 2
        return {"x": y, "second": y, "untouched": x}


@pytest.mark.parametrize(
    ("module", "inputs", "outputs"),
    [
        (UnusedInput, ["x", "mask"], ["output"]),
        (SameTwice, ["x"], ["x_out", "second", "untouched"]),
    ],
    ids=["unused-input", "repeated-and-untouched-outputs"],
)
def test_inputs_and_outputs_are_all_kept(module, inputs, outputs, export_and_verify):
    result, checked = export_and_verify(module(), {name: _random(2, 3) for name in inputs})

    assert [spec.name for spec in result.model.inputs] == inputs
    assert [spec.name for spec in result.model.outputs] == outputs
    assert checked.outcome is Outcome.PASS


def test_an_output_may_not_be_named_as_an_input(tmp_path):
    with pytest.raises(ExportError, match="an input of that name"):
        export_onnx(
            UnusedInput().eval(),
            {"x": _random(2, 3), "mask": _random(2, 3)},
            output=tmp_path / "m.onnx",
            options=ExportOptions(output_names=("mask",)),
        )


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1) * 2


def test_a_fixed_batch_is_an_error_unless_asked_for(export_and_verify):
    with pytest.raises(DynamicShapeError):
        export_and_verify(FixedBatch(), IMAGES)

    result, checked = export_and_verify(FixedBatch(), IMAGES, static_batch_fallback=True)

    assert result.model.inputs[0].shape == (2, 3, 16, 16)
    assert "The batch is fixed to 2" in result.notes[0]
    assert checked.outcome is Outcome.PASS


def test_a_static_batch_may_be_1(export_and_verify):
    result, checked = export_and_verify(_trained(ConvBlock()), {"x": _random(1, 3, 16, 16)}, dynamic_batch=False)

    assert result.model.inputs[0].shape == (1, 3, 16, 16)
    assert checked.outcome is Outcome.PASS


class Counting(nn.Module):
    """numpy in the middle: only the strict way follows it."""

    def forward(self, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))


def test_the_strict_way_is_tried_and_told(export_and_verify):
    result, checked = export_and_verify(Counting(), IMAGES)

    assert result.capture == "strict"
    assert "np.tanh" in result.notes[0]
    assert checked.outcome is Outcome.PASS


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return x


def test_the_older_exporter_is_used_only_where_allowed_and_told(export_and_verify):
    feeds = {"x": np.abs(_random(2, 8))}
    result, checked = export_and_verify(_trained(Branching()), feeds, allow_legacy_exporter=True)

    assert result.exporter == "TorchScript"
    assert result.capture == ""
    assert "older TorchScript exporter" in result.notes[0]
    assert "x.sum() > 0" in result.notes[0]
    assert result.model.inputs[0].shape == ("batch", 8)
    assert checked.outcome is Outcome.PASS
    assert [node.name for node in read_ir(result.model.path).graph] == ["fc/Gemm"]


def test_a_batch_of_one_is_refused_where_the_batch_is_free(tmp_path):
    with pytest.raises(SamplesError, match="give an example of 2 or more samples"):
        export_onnx(ConvBlock().eval(), {"x": _random(1, 3, 8, 8)}, output=tmp_path / "m.onnx")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"name the file \.onnx"):
        export_onnx(ConvBlock().eval(), IMAGES, output=tmp_path / "m.pb")


def test_a_failed_export_leaves_no_file(tmp_path):
    with pytest.raises(DynamicShapeError):
        export_onnx(FixedBatch().eval(), IMAGES, output=tmp_path / "m.onnx", options=ExportOptions())

    assert list(tmp_path.iterdir()) == []
