"""A generator, or a critic, of the teacher's outputs: the student with it against the same one without."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.errors import DistillationError
from edgeport.exporter.distill.distilling import distill
from edgeport.exporter.distill.learned_losses.adversarial import Adversarial
from edgeport.exporter.distill.learned_losses.terms import WithLearningTerms, condition_of
from edgeport.exporter.distill.learned_losses.variational import OutputVae, Variational
from edgeport.exporter.distill.loss_factory import make_objective
from edgeport.exporter.distill.losses.task import CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import Objective, Tap
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.checkpoint import read_checkpoint
from edgeport.exporter.train.loop import CHECKPOINT, fit
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LearningSamples

SETTINGS = TrainingSettings(epochs=60, batch_size=16, seed=2, evaluate_every=60)
TAPS = (Tap(student="4", teacher="4"),)


class Learns:
    """The smallest task over a pair."""

    def __init__(self, pair):
        self.pair = pair

    def trained_modules(self):
        return self.pair.trained_modules()

    def step(self, batch, context):
        losses = self.pair.objective(self.pair.see({"x": batch["x"]}, batch.get("y"), context))
        context.update("student", losses.total)
        self.pair.after_update(context)
        return {"loss": losses.total.detach()}

    def evaluate(self, modules):
        return {}


def few(problem, count=48):
    """Few labels, of which some are wrong."""
    rng = np.random.default_rng(7)
    labels = problem.labels[:count].copy()
    wrong = rng.random(count) < 0.3
    labels[wrong] = rng.integers(4, size=int(wrong.sum()))
    return problem.images[:count], labels


def learned(problem, terms, folder, seed=1, settings=SETTINGS):
    images, labels = few(problem)
    student = problem.network(16, seed=seed)
    pair = problem.pair(student, terms=terms, rate=1e-2)
    task = WithLearningTerms(Learns(pair), pair, {"x": torch.from_numpy(images)}, torch.from_numpy(labels), seed=4)
    fit(task, ArrayBatches({"x": images, "y": labels}), settings, folder)
    judged = replace(problem, images=problem.images[100:], labels=problem.labels[100:])
    return judged.accuracy(student)


@pytest.fixture(scope="module")
def untaught(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("off")
    return [learned(problem, (CrossEntropy(),), folder / str(seed), seed) for seed in range(2)]


@pytest.mark.parametrize(
    ("term", "gain"),
    [
        pytest.param(Adversarial(weight=1.0), 0.02, id="adversarial"),
        pytest.param(Adversarial(weight=1.0, taps=TAPS), 0.02, id="adversarial features"),
        pytest.param(Variational(samples=1.0, likelihood=0.0), 0.1, id="samples"),
        pytest.param(Variational(samples=0.0, likelihood=3.0), 0.04, id="likelihood"),
        pytest.param(Variational(taps=TAPS), 0.02, id="variational features"),
    ],
)
def test_it_teaches(problem, tmp_path, untaught, term, gain):
    seeds = range(1 if term.taps else 2)
    taught = [learned(problem, (CrossEntropy(), term), tmp_path / str(seed), seed) for seed in seeds]
    assert np.mean(taught) > np.mean(untaught[: len(taught)]) + gain, (taught, untaught)


def test_nothing_of_a_term_that_weighs_nothing_reaches_the_student(problem, tmp_path, untaught):
    found = learned(problem, (CrossEntropy(), Variational(weight=0.0)), tmp_path, 0)
    assert found == untaught[0]


def seen_by(problem, terms, labels=True):
    pair = problem.pair(problem.network(16), terms=terms)
    feeds = {"x": torch.from_numpy(problem.images[:32])}
    given = torch.from_numpy(problem.labels[:32]) if labels else None
    WithLearningTerms(Learns(pair), pair, feeds, given)
    return pair.look(feeds, given)


def test_the_adversarial_losses_are_those_of_the_discriminators_scores(problem):
    term = Adversarial(hidden=8)
    seen = seen_by(problem, (term,))
    critic = term.held.module.eval()
    condition = condition_of(seen.feeds, 32)
    own, other = seen.pair()
    scale = (other - other.mean(dim=1, keepdim=True)).numpy()
    scale = (scale - scale.mean(axis=0)).astype(np.float64)
    deviation = math.sqrt((scale**2).mean())
    rows = []
    for values in (other.numpy(), own.numpy()):
        centred = values - values.mean(axis=1, keepdims=True)
        mean = (other - other.mean(dim=1, keepdim=True)).numpy().mean(axis=0)
        scaled = torch.from_numpy(((centred - mean) / deviation).astype(np.float32))
        source, classes = critic.net(scaled, condition)
        powers = np.exp(classes.detach().numpy().astype(np.float64))
        named = -np.log(powers[np.arange(32), problem.labels[:32]] / powers.sum(axis=1))
        rows.append((1 / (1 + np.exp(-source.detach().numpy().astype(np.float64))), named))
    (real, named_real), (fake, named_fake) = rows
    critics = -np.log(real).mean() - np.log(1 - fake).mean() + np.concatenate([named_real, named_fake]).mean()
    students = -np.log(fake).mean() + named_fake.mean()
    assert term.own_loss(seen, critic).item() == pytest.approx(critics, rel=1e-4)
    assert float(term.loss(seen)) == pytest.approx(students, rel=1e-4)
    assert term.held.seen is None  # nothing is learned from what is only looked at


def test_the_variational_losses_are_those_of_the_bound(problem):
    """The bound by quadrature-free hand: the code's noise is fixed, everything else is numpy."""
    torch.manual_seed(0)
    model = OutputVae(3, 2, 2, 4)
    with torch.no_grad():
        model.log_variance.copy_(torch.tensor([0.3, -0.4, 0.1]))
    values, classes = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    torch.manual_seed(9)
    bound, _ = model(values, classes)
    torch.manual_seed(9)
    noise = torch.randn(5, 2).numpy()

    def net(layers, rows):
        first, _, last = layers
        inner = rows @ first.weight.detach().numpy().T + first.bias.detach().numpy()
        inner = np.where(inner > 0, inner, 0.2 * inner)
        return inner @ last.weight.detach().numpy().T + last.bias.detach().numpy()

    named = np.eye(2, dtype=np.float32)[classes.numpy()]
    found = net(model.encoder, np.concatenate([values.numpy(), named], axis=1))
    mean, log_variance = found[:, :2], found[:, 2:]
    code = mean + noise * np.exp(0.5 * log_variance)
    decoded = net(model.decoder, np.concatenate([code, named], axis=1))
    spread = model.log_variance.detach().numpy()
    for row in range(5):
        expected = 0.0
        for x, m, lv in zip(values[row].tolist(), decoded[row], spread, strict=True):
            expected -= 0.5 * (math.log(2 * math.pi) + lv + (x - m) ** 2 / math.exp(lv))
        for m, lv in zip(mean[row], log_variance[row], strict=True):
            expected -= 0.5 * (m * m + math.exp(lv) - 1 - lv)
        assert bound[row].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classes", [True, False])
def test_the_student_fits_what_is_drawn_in_the_teachers_unit(problem, classes):
    term = Variational(samples=2.0, likelihood=0.0, temperature=3.0, classes=classes)
    seen = seen_by(problem, (term,))
    own, other = (one.numpy().astype(np.float64) for one in seen.pair())
    model = term.held.module
    torch.manual_seed(5)
    with torch.no_grad():
        drawn = model(seen.pair()[1], seen.pair()[1].argmax(dim=1) if classes else None)[1].numpy().astype(np.float64)
    torch.manual_seed(5)
    found = float(term.loss(seen))
    plain = other - other.mean(axis=1, keepdims=True) if classes else other
    deviation = math.sqrt(((plain - plain.mean(axis=0)) ** 2).mean())
    drawn = drawn * deviation + plain.mean(axis=0)
    if classes:
        warm = [np.exp(one / 3.0) / np.exp(one / 3.0).sum(axis=1, keepdims=True) for one in (own, drawn)]
        expected = 9.0 * (warm[1] * np.log(warm[1] / warm[0])).sum(axis=1).mean()
    else:
        expected = (((own - drawn) / deviation) ** 2).mean()
    assert found == pytest.approx(2.0 * expected, rel=1e-3)


@pytest.mark.parametrize("term", [Adversarial(), Variational()], ids=["adversarial", "variational"])
def test_a_regression_and_samples_without_labels(term):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    term = replace(term)
    x = torch.randn(16, 3)
    pair = Pair(
        Network(module=nn.Linear(3, 1)),
        Network(module=teacher),
        Objective(L=(SquaredError(), term)),
        {"x": x},
        torch.optim.Adam,
    )
    WithLearningTerms(Learns(pair), pair, {"x": x})
    seen = pair.look({"x": x}, None)
    with torch.no_grad():
        assert math.isfinite(float(term.loss(seen)))
        assert math.isfinite(float(term.own_loss(seen, term.held.module)))


@pytest.mark.parametrize("labelled", [True, False], ids=["numbers as labels", "said so"])
def test_outputs_that_are_no_classes_are_fitted_as_they_are(labelled):
    """Where classes are compared, a number that is added to all outputs means nothing; of boxes it is all wrong."""
    torch.manual_seed(0)
    teacher, x = nn.Linear(3, 4).eval(), torch.randn(64, 3)
    student = nn.Linear(3, 4)
    student.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        student.bias += 5.0
    kind = None if labelled else False
    fitting = Variational(samples=1.0, likelihood=0.0, classes=kind)
    critic = Adversarial(classes=kind)
    labels = teacher(x).detach() if labelled else None
    pair = Pair(
        Network(module=student),
        Network(module=teacher),
        Objective(L=(fitting, critic)),
        {"x": x},
        torch.optim.Adam,
    )
    WithLearningTerms(Learns(pair), pair, {"x": x}, labels)
    seen = pair.look({"x": x}, labels)
    right = replace(seen, student=seen.teacher)
    with torch.no_grad():
        assert float(fitting.loss(seen)) > float(fitting.loss(right)) + 1.0
    assert critic.held.module.net.classes is None
    assert not torch.allclose(critic.held.module.scaling(seen.output()), critic.held.module.scaling(right.output()))
    with pytest.raises(DistillationError, match="set classes to False"):
        WithLearningTerms(Learns(pair), *wrong(x))


def wrong(x):
    pair = Pair(
        Network(module=nn.Linear(3, 1)),
        Network(module=nn.Linear(3, 1)),
        Objective(L=(Adversarial(classes=True),)),
        {"x": x},
        torch.optim.Adam,
    )
    return pair, {"x": x}


def test_the_scale_is_that_of_all_samples_in_whatever_order(problem, tmp_path):
    order = np.argsort(problem.labels, kind="stable")
    images, labels = problem.images[order], problem.labels[order]
    term = Adversarial()
    distill(
        Network(module=problem.network(16)),
        Network(module=problem.teacher),
        LearningSamples(feeds={"x": images}, labels=labels),
        Objective(L=(CrossEntropy(), term)),
        folder=tmp_path,
        options=DistillOptions(training=TrainingSettings(epochs=1, batch_size=200)),
    )
    with torch.no_grad():
        scores = problem.teacher(torch.from_numpy(images))
    wanted = (scores - scores.mean(dim=1, keepdim=True)).mean(dim=0)
    found = term.held.module.scaling
    assert float((found.mean - wanted).abs().max()) < 0.2 * float(found.deviation)


@pytest.mark.parametrize("parsed", ["adversarial", "0.5 variational:4=4"])
def test_from_end_to_end_as_commands_spell_it(problem, tmp_path, parsed):
    done = distill(
        Network(module=problem.network(16)),
        Network(module=problem.teacher),
        LearningSamples(feeds={"x": problem.images[:64]}, labels=problem.labels[:64]),
        make_objective(("cross-entropy", parsed), (), 0.0),
        folder=tmp_path,
        options=DistillOptions(training=TrainingSettings(epochs=1, batch_size=16)),
    )
    assert done.steps == 3
    assert set(done.after) == {"top1", "loss"}
    # Without labels, the objective itself is what is looked at.
    done = distill(
        Network(module=problem.network(16)),
        Network(module=problem.teacher),
        LearningSamples(feeds={"x": problem.images[:64]}),
        make_objective((parsed,), (), 0.0),
        folder=tmp_path / "unlabelled",
        options=DistillOptions(training=TrainingSettings(epochs=1, batch_size=16)),
    )
    assert math.isfinite(done.after["loss"])


def test_features_of_other_widths_are_brought_together(problem):
    term = Variational(taps=TAPS)
    seen = seen_by(problem, (term,), labels=False)
    own, other = seen.tapped(term, TAPS[0])
    assert own.shape == other.shape == (32, 48)


def test_tokens_are_brought_together_by_their_last_axis():
    torch.manual_seed(0)
    term = Adversarial(taps=(Tap(student="0", teacher="0"),))
    x = torch.randn(8, 5, 3)
    student, teacher = (
        nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Flatten(), nn.Linear(5 * width, 2)) for width in (4, 6)
    )
    pair = Pair(Network(module=student), Network(module=teacher), Objective(L=(term,)), {"x": x}, torch.optim.Adam)
    WithLearningTerms(Learns(pair), pair, {"x": x})
    seen = pair.look({"x": x})
    own, other = seen.tapped(term, term.taps[0])
    assert own.shape == other.shape == (8, 5, 6)
    mean = term.held.module.scaling.mean
    torch.testing.assert_close(mean, other.mean(dim=(0, 1)))


def test_networks_that_learn_beside_the_student_are_in_the_checkpoint(problem, tmp_path):
    learned(problem, (CrossEntropy(), Adversarial()), tmp_path, settings=replace(SETTINGS, epochs=1))
    names = read_checkpoint(tmp_path / CHECKPOINT).tensors
    assert any(name.startswith("weights/Adversarial-1/net.") for name in names)
    assert any(name.startswith("optimizer/Adversarial-1/") for name in names)


def test_images_are_seen_small_and_words_are_not_seen():
    feeds = {"image": torch.rand(2, 3, 9, 9), "words": torch.ones(2, 7, dtype=torch.int64), "row": torch.rand(2, 5)}
    assert condition_of(feeds, 2).shape == (2, 3 * 16 + 5)
    assert condition_of({"words": feeds["words"]}, 2).shape == (2, 0)


def test_a_term_without_its_task_says_so(problem):
    pair = problem.pair(problem.network(16), terms=(CrossEntropy(), Adversarial()))
    seen = pair.look({"x": torch.from_numpy(problem.images[:4])}, torch.from_numpy(problem.labels[:4]))
    with pytest.raises(DistillationError, match="WithLearningTerms"):
        pair.objective(seen)
    with pytest.raises(DistillationError, match=r"\[N, C\]"):
        Adversarial(taps=TAPS).adapter(torch.zeros(2, 3, 4), torch.zeros(2, 3))
