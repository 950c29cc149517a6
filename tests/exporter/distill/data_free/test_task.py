"""A student that never sees a sample, against the same one whose generator learns nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.contracts import TensorSpec
from edgeport.errors import ContractError, DistillationError, SamplesError, TrainingError, UsageError
from edgeport.exporter.distill.data_free.distilling import distill_without_data
from edgeport.exporter.distill.data_free.methods import METHODS, Contrastive, Dafl, Fast, method_named
from edgeport.exporter.distill.data_free.synthesizers import synthesizer_of
from edgeport.exporter.distill.data_free.task import DataFreeDistillation, NoSamples
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.objective import Objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.task import HeldOut
from edgeport.exporter.distill.teacher_student import MovingAverage, Network, Pair
from edgeport.exporter.train import Schedule, TrainingSettings
from edgeport.exporter.train.checkpoint import read_checkpoint
from edgeport.exporter.train.loop import BEST, CHECKPOINT, fit
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LABELS

SIZE = 8
SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", SIZE), value_range=(-6.0, 6.0))
SETTINGS = TrainingSettings(epochs=1, batch_size=32, schedule=Schedule(warmup=0.0), seed=5)
SMALL = {"latent": 16, "width": 16}
METHODS_HERE = {
    "fast": Fast(
        inner=5, cycle=4, warm_up=10, batch=64, memory=2000, rate=1e-2, latent_rate=0.05, statistics=1.0, **SMALL
    ),
    "dafl": Dafl(rate=3e-3, **SMALL),
    "contrastive": Contrastive(inner=20, cycle=50, batch=64, memory=2000, rate=1e-2, **SMALL),
}
OFF = {"fast": {"rate": 0.0, "latent_rate": 0.0}, "dafl": {"rate": 0.0}, "contrastive": {"rate": 0.0}}


def distilled(problem, method, folder, steps=160, teacher=None, spec=SPEC):
    student = problem.network(12)
    pair = problem.pair(student, teacher=teacher)
    torch.manual_seed(3)
    synthesizer = synthesizer_of(method, pair, spec)
    fit(DataFreeDistillation(pair, "x", synthesizer), NoSamples(32 * steps), SETTINGS, folder)
    return student, synthesizer


@pytest.mark.parametrize("name", METHODS_HERE)
def test_inputs_that_are_made_for_the_teacher_teach_better(problem, tmp_path, name):
    method = METHODS_HERE[name]
    # DAFL knows nothing of where the data lie: it has to be told about.
    spec = replace(SPEC, value_range=(0.0, 6.0)) if name == "dafl" else SPEC
    steps = 320 if name == "dafl" else 160
    student, synthesizer = distilled(problem, method, tmp_path / "on", steps, spec=spec)
    untaught, _ = distilled(problem, replace(method, **OFF[name]), tmp_path / "off", steps, spec=spec)

    on, off = problem.accuracy(student), problem.accuracy(untaught)
    assert on > off + 0.1, (on, off)
    made = synthesizer.samples(40)
    assert made.shape == (40, SIZE)
    assert -6 <= float(made.min()) <= float(made.max()) <= 6


def test_fast_resumes_with_its_memory(whole_and_resumed):
    settings = replace(SETTINGS, checkpoint_every=10)
    whole, cut = whole_and_resumed(METHODS_HERE["fast"], SPEC, settings, 45, kill_at=31)

    for name in (CHECKPOINT, BEST):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()
    kept = read_checkpoint(cut / CHECKPOINT).tensors
    assert int(kept["weights/generator/memory.written"]) == 64 * (10 + 9)
    assert int(kept["weights/generator/match.batches"]) == 19


def test_a_teacher_without_batch_norm_is_done_without_or_refused(problem, tmp_path):
    plain = problem.trained(problem.network(48, norm=False))
    method = METHODS_HERE["fast"]
    with pytest.raises(DistillationError, match="no BatchNorm layer that keeps any"):
        distilled(problem, method, tmp_path / "asked", teacher=plain)
    _, synthesizer = distilled(problem, replace(method, statistics=None), tmp_path / "left", steps=12, teacher=plain)
    assert synthesizer.notes == ("The teacher has no BatchNorm layers: its inputs were made without their statistics.",)
    _, synthesizer = distilled(problem, replace(method, statistics=None), tmp_path / "usual", steps=12)
    assert synthesizer.notes == ()


@pytest.mark.parametrize("name", METHODS_HERE)
def test_from_end_to_end_with_samples_to_judge_by(problem, tmp_path, name):
    student = problem.network(12)
    judged = HeldOut(batches=ArrayBatches({"x": problem.images, LABELS: problem.labels}), classes=True)
    options = DistillOptions(training=replace(SETTINGS, epochs=3))
    done = distill_without_data(
        Network(module=student),
        Network(module=problem.teacher),
        SPEC,
        METHODS_HERE[name],
        steps=12,
        folder=tmp_path,
        options=options,
        judged=judged,
    )
    assert done.result.after["top1"] == pytest.approx(problem.accuracy(student))
    assert done.result.teacher["top1"] == pytest.approx(problem.accuracy(problem.teacher))
    assert done.result.steps == 12
    assert done.result.objective == f"1 SoftTargets, of inputs by {type(METHODS_HERE[name]).__name__}"
    assert done.samples.dtype == np.float32
    assert problem.teacher.training is False
    assert all(one.requires_grad for one in problem.teacher.parameters())
    half = replace(options, training=replace(options.training, precision="fp16"))
    with pytest.raises(DistillationError, match="take bf16 or fp32"):
        distill_without_data(
            Network(module=student), Network(module=problem.teacher), SPEC, steps=9, folder=tmp_path, options=half
        )
    with pytest.raises(DistillationError, match="fewer steps than looks"):
        distill_without_data(
            Network(module=student), Network(module=problem.teacher), SPEC, steps=2, folder=tmp_path, options=options
        )


def test_a_folder_of_another_training_without_data_is_not_taken_for_this_one(problem, tmp_path):
    def run(method=METHODS_HERE["dafl"], teacher=problem.teacher, spec=SPEC, **more):
        networks = (Network(module=module) for module in (problem.network(12), teacher))
        options = DistillOptions(training=SETTINGS)
        return distill_without_data(*networks, spec, method, steps=2, folder=tmp_path, options=options, **more)

    assert run().result == run().result
    for other in (
        {"method": replace(METHODS_HERE["dafl"], balance=1.0)},
        {"teacher": problem.network(48, seed=9)},
        {"spec": replace(SPEC, value_range=(0.0, 1.0))},
        {"objective": Objective(L=(SoftTargets(temperature=2.0),))},
    ):
        with pytest.raises(TrainingError, match="other settings, losses"):
            run(**other)


class Two(nn.Module):
    """Takes what it multiplies by, too."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, factor):
        return self.inner(x) * factor


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_models_with_more_inputs_than_the_one_that_is_made_are_told_so(problem, tmp_path, whose):
    networks = {"student": problem.network(12), "teacher": problem.teacher}
    networks[whose] = Two(networks[whose])

    with pytest.raises(SamplesError, match=rf"make x without data.*nothing for factor.*of the {whose}") as caught:
        distill_without_data(
            *(Network(module=networks[one]) for one in ("student", "teacher")), SPEC, steps=300, folder=tmp_path
        )

    assert "with several are distilled with samples" in caught.value.fix


def test_what_cannot_be_done_is_refused(problem):
    def synthesizer(teacher, method=METHODS_HERE["fast"], spec=SPEC):
        return synthesizer_of(method, problem.pair(problem.network(12), teacher=teacher), spec)

    values = nn.Sequential(nn.Linear(SIZE, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).eval()
    with pytest.raises(DistillationError, match="no score of each of two classes"):
        synthesizer(values)
    convolution = nn.Sequential(nn.Unflatten(1, (SIZE, 1)), nn.Conv1d(SIZE, 4, 1), nn.Flatten()).eval()
    with pytest.raises(DistillationError, match="set the weight of activation to 0"):
        synthesizer(convolution, METHODS_HERE["dafl"])
    with pytest.raises(SamplesError, match="every axis but the first"):
        synthesizer(problem.teacher, spec=replace(SPEC, shape=("batch", "n")))
    example = {"x": torch.zeros(2, SIZE)}
    own = Pair(
        Network(module=problem.network(12)),
        MovingAverage(),
        problem.pair(problem.network(12)).objective,
        example,
        torch.optim.Adam,
    )
    with pytest.raises(DistillationError, match="give a teacher"):
        synthesizer_of(METHODS_HERE["fast"], own, SPEC)
    with pytest.raises(UsageError, match="fast, dafl, contrastive"):
        method_named("gan")
    assert {type(method_named(name)) for name in METHODS} == {Fast, Dafl, Contrastive}
    assert method_named("fast", {"inner": 5}) == Fast(inner=5)
    assert method_named("fast", steps=2000) == Fast(cycle=10)
    assert method_named("contrastive", {"cycle": 7}, steps=10**6) == Contrastive(cycle=7)
    assert method_named("dafl", steps=5) == Dafl()
    with pytest.raises(ContractError, match="it has statistics, one_hot"):
        method_named("fast", {"depth": 5})


@pytest.mark.parametrize("wrong", [{"inner": 0}, {"rate": -1.0}, {"carry": 1.0}, {"batch": 2.5}, {"width": True}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ContractError, match=next(iter(wrong))):
        Fast(**wrong)
