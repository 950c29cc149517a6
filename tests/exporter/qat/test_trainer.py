"""A small network learns with each dialect's rounding, and the written file gives on ONNX Runtime what PyTorch gave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.onnxruntime.rules import arm_rules, x86_rules
from edgeport.backends.qdq.write import write_plan
from edgeport.backends.tensorrt.rules import rules as tensorrt_rules
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.observers import OBSERVERS
from edgeport.calibration.plan import make_plan
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import Array, Calibration, OnnxModel, Precision, QuantizationPlan, QuantizationRules
from edgeport.errors import ContractError, PlanError, SamplesError, SourceError
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.qat.options import QatOptions, default_teacher
from edgeport.exporter.qat.trainer import LearningSamples, TrainedNetwork, learn
from edgeport.exporter.train import TrainingSettings

OPTIONS = QatOptions(rate=2e-4, training=TrainingSettings(epochs=4, batch_size=16, average=0.9))


class Residual(torch.nn.Module):
    """Convolutions with norms, a sum, a concatenation, a pooled head; a product of three axes behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.second = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.third = torch.nn.Conv2d(16, 8, 1)
        self.relu = torch.nn.ReLU(inplace=True)
        self.mix = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        one = self.relu(self.norm(self.first(image)))
        two = self.second(one)
        two += one
        two = self.relu(two)
        three = self.third(torch.cat([one, two], dim=1))
        tokens = torch.relu(self.mix(three.flatten(2).transpose(1, 2)))
        return self.head(tokens.mean(dim=1))


@dataclass(frozen=True)
class Made:
    module: Callable[[], torch.nn.Module]
    model: OnnxModel
    calibration: Calibration
    images: Array
    labels: Array


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    def module() -> torch.nn.Module:
        torch.manual_seed(1)
        net = Residual()
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.3, 2.0)
        return net.eval()

    images = np.random.default_rng(0).standard_normal((160, 3, 6, 6)).astype(np.float32)
    model = export_onnx(module(), {"image": images[:2]}, output=tmp_path_factory.mktemp("made") / "net.onnx").model
    observers = {name: OBSERVERS[name] for name in ("extremes", "histogram")}
    calibration = collect(model, ArraySamples({"image": images[:64]}), open_reference, observers=observers)
    with torch.no_grad():
        labels = module()(torch.from_numpy(images)).argmax(dim=1).numpy()
    return Made(module=module, model=model, calibration=calibration, images=images, labels=labels)


def learned(
    made: Made,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    folder: Path,
    *,
    options: QatOptions = OPTIONS,
    labels: Array | None = None,
) -> TrainedNetwork:
    samples = LearningSamples(feeds={"image": made.images}, labels=labels)
    return learn(
        made.module(),
        made.model,
        plan,
        rules,
        samples,
        open_reference,
        folder=folder,
        options=options,
        search_path=Path(__file__).parent,
    )


def on_runtime(learnt: TrainedNetwork, rules: QuantizationRules, folder: Path, images: Array) -> Array:
    written = write_plan(learnt.result.model, learnt.result.plan, rules, folder / "quantized.onnx")
    with open_reference(written.path) as run:
        return run({"image": images})["output"]


def difference(found: Array, wanted: Array) -> float:
    """Root mean square, over that of what was wanted."""
    return float(np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()))


DIALECTS = [x86_rules(vnni=True), x86_rules(vnni=False), arm_rules(), tensorrt_rules()]


@pytest.mark.parametrize("rules", DIALECTS, ids=["x86", "x86-without-vnni", "arm", "tensorrt"])
def test_the_runtime_gives_what_was_trained(made: Made, tmp_path: Path, rules: QuantizationRules) -> None:
    plan = make_plan(made.model, made.calibration, rules)

    learnt = learned(made, plan, rules, tmp_path)

    result = learnt.result
    assert result.left_float == ()
    assert dict(result.plan.nodes) == dict(plan.nodes)
    assert result.plan.model_digest == result.model.digest != plan.model_digest
    assert result.after["loss"] < 0.9 * result.before["loss"]
    in_pytorch = learnt.outputs({"image": made.images})["output"]
    assert difference(on_runtime(learnt, rules, tmp_path, made.images), in_pytorch) < 0.01


@pytest.mark.parametrize("precision", [Precision.INT4_WEIGHTS_32, Precision.UINT4_WEIGHTS_32, Precision.INT8_WEIGHTS])
def test_weights_alone_learn_too(made: Made, tmp_path: Path, precision: Precision) -> None:
    rules = x86_rules(vnni=True)
    plan = weight_plan(made.model, rules, precision)

    learnt = learned(made, plan, rules, tmp_path)

    assert learnt.result.left_float == ()
    assert learnt.result.after["loss"] < 0.9 * learnt.result.before["loss"]
    in_pytorch = learnt.outputs({"image": made.images})["output"]
    # ONNX Runtime's own product of narrow weights rounds what it multiplies them with (MatMulNBits, accuracy level 4).
    assert difference(on_runtime(learnt, rules, tmp_path, made.images), in_pytorch) < 2e-3


def test_ranges_that_do_not_learn_are_those_of_the_plan(made: Made, tmp_path: Path) -> None:
    rules = tensorrt_rules()
    plan = make_plan(made.model, made.calibration, rules)

    result = learned(made, plan, rules, tmp_path, options=replace(OPTIONS, learn_ranges=False)).result

    assert dict(result.plan.activations) == dict(plan.activations)


LOSSES = {
    "auto": "cross-entropy, 0.5 of it the float model's outputs",
    "cross-entropy": "cross-entropy, 0.5 of it the float model's outputs",
    "teacher": "the float model's outputs",
    "test_trainer:their_loss": "test_trainer:their_loss, 0.5 of it the float model's outputs",
}


def their_loss(outputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.multi_margin_loss(outputs["output"], labels)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_the_teacher(made: Made, tmp_path: Path, loss: str) -> None:
    rules = x86_rules(vnni=True)
    plan = make_plan(made.model, made.calibration, rules)
    options = replace(OPTIONS, loss=loss, training=replace(OPTIONS.training, epochs=1))

    result = learned(made, plan, rules, tmp_path, options=options, labels=made.labels).result

    assert result.loss == LOSSES[loss]
    assert ("top1" in result.after) == ("cross-entropy" in result.loss)
    assert result.after["loss"] <= result.before["loss"]


CALLS: list[int] = []
STOP_AT = 14


def stopping_loss(outputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    CALLS.append(1)
    if len(CALLS) == STOP_AT:
        raise KeyboardInterrupt
    return their_loss(outputs, labels)


def test_stopped_and_called_again_it_learns_the_same(made: Made, tmp_path: Path) -> None:
    rules = x86_rules(vnni=True)
    plan = make_plan(made.model, made.calibration, rules)
    training = replace(OPTIONS.training, epochs=2, checkpoint_every=3)
    options = replace(OPTIONS, loss="test_trainer:stopping_loss", training=training)
    CALLS.extend([1] * STOP_AT)  # not this time
    module = sys.modules["test_trainer"] = sys.modules[__name__]
    whole = learned(made, plan, rules, tmp_path / "whole", options=options, labels=made.labels).result
    module.CALLS.clear()
    with pytest.raises(KeyboardInterrupt):
        learned(made, plan, rules, tmp_path / "cut", options=options, labels=made.labels)

    resumed = learned(made, plan, rules, tmp_path / "cut", options=options, labels=made.labels).result

    assert resumed.model.path.read_bytes() == whole.model.path.read_bytes()
    assert resumed.plan == whole.plan
    assert (resumed.before, resumed.after) == (whole.before, whole.after)


def test_numbers_as_labels_are_regressed(made: Made, tmp_path: Path) -> None:
    rules = x86_rules(vnni=True)
    plan = make_plan(made.model, made.calibration, rules)
    labels = np.zeros((len(made.images), 4), dtype=np.float32)

    result = learned(made, plan, rules, tmp_path, options=replace(OPTIONS, teacher=0.0), labels=labels).result

    assert result.loss == "mean squared error"
    assert result.after["loss"] < result.before["loss"]


@pytest.mark.parametrize(
    ("precision", "loss", "share"),
    [
        (Precision.INT8, "auto", 1.0),
        (Precision.INT8, "cross-entropy", 0.5),
        (Precision.INT8_WEIGHTS, "auto", 1.0),
        (Precision.INT4_WEIGHTS_32, "auto", 0.5),
    ],
)
def test_the_float_model_says_all_where_only_8_bits_are_to_be_undone(
    precision: Precision, loss: str, share: float
) -> None:
    assert default_teacher(precision, loss) == share


def test_labels_are_counted_where_the_float_model_says_all(made: Made, tmp_path: Path) -> None:
    rules = x86_rules(vnni=True)
    plan = make_plan(made.model, made.calibration, rules)
    options = replace(OPTIONS, teacher=1.0, training=replace(OPTIONS.training, epochs=1))
    wrong = (made.labels + 1) % 4

    results = [
        learned(made, plan, rules, tmp_path / name, options=options, labels=labels).result
        for name, labels in (("right", made.labels), ("wrong", wrong))
    ]

    assert [result.loss for result in results] == ["the float model's outputs"] * 2
    assert results[0].after["loss"] == results[1].after["loss"]
    assert results[0].after["top1"] != results[1].after["top1"]


def test_what_can_not_be_learned_from_is_refused(made: Made, tmp_path: Path) -> None:
    rules = x86_rules(vnni=True)
    plan = make_plan(made.model, made.calibration, rules)

    with pytest.raises(SamplesError, match="without labels"):
        learned(made, plan, rules, tmp_path, options=replace(OPTIONS, loss="mse"))
    with pytest.raises(SamplesError, match="for 4 classes"):
        learned(made, plan, rules, tmp_path, labels=made.labels + 9)
    with pytest.raises(SamplesError, match=r"labels of int64 \[\] and an output of \[4\]"):
        learned(made, plan, rules, tmp_path, options=replace(OPTIONS, loss="mse"), labels=made.labels)
    with pytest.raises(SourceError, match="no_such"):
        learned(made, plan, rules, tmp_path, options=replace(OPTIONS, loss="no_such:fn"), labels=made.labels)
    with pytest.raises(SamplesError, match="held out"):
        learned(made, plan, rules, tmp_path, options=replace(OPTIONS, training=TrainingSettings(batch_size=150)))
    with pytest.raises(PlanError, match="none of its nodes"):
        learned(made, replace(plan, nodes={}), rules, tmp_path)
    with pytest.raises(ContractError, match="held out"):
        QatOptions(held_out=0.9)


class Encoder(torch.nn.Module):
    """A norm in float, which a product reads as integers and a sum as floats, behind a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = torch.nn.LayerNorm(8), torch.nn.Dropout(0.1)
        self.product, self.out = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.drop(self.norm(tokens))
        return self.out(torch.tanh(self.product(normed)) + normed)


class Twice(Encoder):
    """Computes one norm twice; the file computes and rounds it once."""

    def __init__(self) -> None:
        super().__init__()
        self.other = torch.nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.product(self.norm(tokens))) + self.other(self.norm(tokens)))


def learn_tokens(module: torch.nn.Module, tokens: Array, rules: QuantizationRules, folder: Path) -> TrainedNetwork:
    """One epoch of a module that takes tokens, with a plan for all of it."""
    model = export_onnx(module, {"tokens": tokens[:2]}, output=folder / "net.onnx").model
    observers = {name: OBSERVERS[name] for name in ("extremes", "histogram")}
    calibration = collect(model, ArraySamples({"tokens": tokens}), open_reference, observers=observers)
    plan = make_plan(model, calibration, rules)
    samples = LearningSamples(feeds={"tokens": tokens})
    options = replace(OPTIONS, training=replace(OPTIONS.training, epochs=1, batch_size=8))
    return learn(module, model, plan, rules, samples, open_reference, folder=folder, options=options)


def difference_on_runtime(learnt: TrainedNetwork, tokens: Array, rules: QuantizationRules, folder: Path) -> float:
    written = write_plan(learnt.result.model, learnt.result.plan, rules, folder / "quantized.onnx")
    with open_reference(written.path) as run:
        found = run({"tokens": tokens})["output"]
    return difference(found, learnt.outputs({"tokens": tokens})["output"])


@pytest.mark.parametrize("kind", [Encoder, Twice])
def test_who_reads_a_float_tensor_gets_it_as_in_the_file(kind: type[torch.nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, tokens = kind().eval(), np.random.default_rng(0).standard_normal((40, 5, 8)).astype(np.float32)
    rules = x86_rules(vnni=True)

    learnt = learn_tokens(module, tokens, rules, tmp_path)

    assert learnt.result.left_float == ()
    assert difference_on_runtime(learnt, tokens, rules, tmp_path) < 1e-3


class Attending(torch.nn.Module):
    """Attention, which PyTorch keeps whole and the file does not."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = torch.nn.Linear(8, 24), torch.nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.into(tokens)[:, None].chunk(3, dim=-1)
        return self.out(torch.nn.functional.scaled_dot_product_attention(query, key, value)[:, 0])


def test_what_the_graph_does_not_show_stays_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, tokens = Attending().eval(), np.random.default_rng(0).standard_normal((40, 5, 8)).astype(np.float32)
    rules = x86_rules(vnni=True)

    learnt = learn_tokens(module, tokens, rules, tmp_path)

    assert learnt.result.left_float
    assert {"into/MatMul", "out/MatMul"} <= set(learnt.result.plan.nodes)
    assert difference_on_runtime(learnt, tokens, rules, tmp_path) < 0.01
