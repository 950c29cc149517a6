"""What synthesizers do: steps of the generator, losses, what is kept, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgeport.contracts import TensorSpec
from edgeport.errors import ContractError, DistillationError, SamplesError
from edgeport.exporter.distill.data_free import synthesizers
from edgeport.exporter.distill.data_free.adversarial import Adversarial
from edgeport.exporter.distill.data_free.batch_norm import BatchNormMatch
from edgeport.exporter.distill.data_free.distilling import distill_without_data
from edgeport.exporter.distill.data_free.inversion_loss import Inversion, Weights
from edgeport.exporter.distill.data_free.methods import Contrastive, Dafl, Fast
from edgeport.exporter.distill.data_free.networks import generator_of
from edgeport.exporter.distill.data_free.replay_buffer import Memory
from edgeport.exporter.distill.data_free.synthesizers import synthesizer_of
from edgeport.exporter.distill.data_free.task import DataFreeDistillation, NoSamples
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.objective import Objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train import Schedule, TrainingSettings
from edgeport.exporter.train.checkpoint import read_checkpoint
from edgeport.exporter.train.loop import CHECKPOINT, fit

SIZE = 8
SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", SIZE), value_range=(-6.0, 6.0))
SETTINGS = TrainingSettings(
    epochs=1, batch_size=32, schedule=Schedule(shape="constant", warmup=0.0), seed=5, checkpoint_every=10
)
FAST = Fast(inner=3, cycle=2, warm_up=2, batch=16, memory=500, latent=6, width=4, carry=0.5)


class RecordedStep:
    """A context that only notes what a module is told."""

    def __init__(self, step=0):
        self.step, self.gradients, self.modules = step, {}, {}

    def module(self, name):
        return self.modules[name]

    def update(self, name, loss):
        loss.backward()
        self.gradients[name] = [one.grad.clone() for one in self.modules[name].parameters() if one.grad is not None]


def test_the_generator_is_told_what_all_steps_of_its_copy_were(problem):
    """First-order MAML, and Adam of the copy, written out again."""
    pair = problem.pair(problem.network(12))
    torch.manual_seed(3)
    synthesizer = synthesizer_of(FAST, pair, SPEC)
    generator = generator_of(SPEC, (SIZE,), latent=6, width=4)
    context = RecordedStep()
    context.modules["generator"] = synthesizer.trained_modules()["generator"].module
    generator.load_state_dict(context.modules["generator"]["net"].state_dict())
    torch.manual_seed(9)
    synthesizer.synthesize(context, 4)

    torch.manual_seed(9)
    codes = torch.randn(16, 6).requires_grad_()
    classes = torch.randint(4, (16,))
    norms = [one for one in problem.teacher.modules() if isinstance(one, nn.BatchNorm1d)]
    adam = torch.optim.Adam(
        [{"params": list(generator.parameters())}, {"params": [codes], "lr": FAST.latent_rate}],
        lr=FAST.rate,
        betas=(0.5, 0.999),
    )
    summed = [torch.zeros_like(one) for one in generator.parameters()]
    losses = []
    for _ in range(3):
        entering, made = [], generator(codes)
        hooks = [one.register_forward_pre_hook(lambda _, x, to=entering: to.append(x[0])) for one in norms]
        scores = problem.teacher(made)
        for hook in hooks:
            hook.remove()
        loss = FAST.one_hot * functional.cross_entropy(scores, classes)
        for norm, values in zip(norms, entering, strict=True):
            loss = loss + 10.0 * (values.mean(0) - norm.running_mean).norm()
            loss = loss + 10.0 * (values.var(0, unbiased=False) - norm.running_var).norm()
        adam.zero_grad()
        loss.backward()
        for total, one in zip(summed, generator.parameters(), strict=True):
            total.add_(one.grad)
        losses.append(float(loss.detach()))
        adam.step()

    for found, expected in zip(context.gradients["generator"], summed, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert losses[-1] < losses[0]
    problem.teacher.zero_grad()


def test_the_loss_of_an_inversion_is_that_of_its_parts(problem):
    student, images = problem.network(12), torch.from_numpy(problem.images[:32])
    pair = problem.pair(student)
    weights = Weights(statistics=0.5, one_hot=2.0, activation=0.3, balance=4.0, disagreement=1.5)
    classes = torch.from_numpy(problem.labels[:32])
    losses = Inversion(pair, "x", weights, BatchNormMatch(problem.teacher))(images, classes)

    with torch.no_grad():
        other, own = problem.teacher(images), student.eval()(images)
        entering = problem.teacher[:-1](images)
        same = other.argmax(1) == own.argmax(1)
        apart = (other.softmax(1) * (other.log_softmax(1) - own.log_softmax(1))).sum(1) * same
        often = other.softmax(1).mean(0)
        first = problem.teacher[0](images)
        second = problem.teacher[3](problem.teacher[:3](images))
        statistics = sum(
            (values.mean(0) - norm.running_mean).norm() + (values.var(0, unbiased=False) - norm.running_var).norm()
            for values, norm in ((first, problem.teacher[1]), (second, problem.teacher[4]))
        )
        expected = 0.5 * statistics + 2.0 * functional.cross_entropy(other, classes) - 0.3 * entering.abs().mean()
        expected += 4.0 * (often * often.log()).sum() - 1.5 * apart.mean()
    assert int(same.sum()) > 0
    assert losses.loss.item() == pytest.approx(expected.item(), rel=1e-4)


class Backwards(nn.Module):
    """Calls its layers in another order than they are named in, and one of them never."""

    def __init__(self):
        super().__init__()
        self.last, self.first, self.unused = nn.Linear(6, 4), nn.Linear(SIZE, 6), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.first(x).relu())


def test_what_is_excited_is_what_enters_the_layer_that_is_called_last(problem):
    torch.manual_seed(0)
    teacher, x = Backwards().eval(), torch.randn(5, SIZE)
    pair = problem.pair(problem.network(12), teacher=teacher)
    losses = Inversion(pair, "x", Weights(activation=1.0), BatchNormMatch(teacher))(x)
    assert losses.loss.item() == pytest.approx(-teacher.first(x).relu().mean().item(), rel=1e-5)


def test_nothing_needs_to_be_moved_where_nothing_is_carried():
    """The teacher goes to its device after the match is made; "meta" stands for a GPU."""
    norm = nn.BatchNorm1d(3).eval()
    match = BatchNormMatch(norm)
    norm.to("meta")
    with match.watching():
        norm(torch.zeros(4, 3, device="meta"))
    assert match.distance().device.type == "meta"
    match.batches += 1
    assert match.distance().device.type == "meta"


@pytest.mark.parametrize("count", [3, 5, 9])
def test_the_newest_come_in_their_order(count):
    memory = Memory(5, (1,))
    for start, end in ((0, 3), (3, 6), (6, 8)):
        memory.add(torch.arange(start, end, dtype=torch.float32)[:, None])
    assert memory.newest(count)[:, 0].tolist() == list(range(8))[-min(count, 5) :]
    assert Memory(5, (1,)).newest(2).shape == (0, 1)


def distilled(problem, folder, method=FAST, steps=30, spec=SPEC, settings=SETTINGS, **others):
    return distill_without_data(
        Network(module=problem.network(12)),
        Network(module=problem.teacher),
        spec,
        method,
        steps=steps,
        folder=folder,
        options=DistillOptions(training=settings),
        **others,
    )


def test_what_is_handed_out_was_made_last(problem, tmp_path):
    """The generator of a warm-up knows nothing yet: of many samples, its own are not those to calibrate with."""
    method = replace(FAST, memory=2000, batch=1024 // 4)
    done = distilled(problem, tmp_path, method, steps=12)
    kept = read_checkpoint(tmp_path / CHECKPOINT).tensors
    written = int(kept["weights/generator/memory.written"])
    assert written == 256 * 7
    assert np.array_equal(done.samples, kept["weights/generator/memory.samples"].numpy()[written - 1024 : written])


def test_numbers_that_are_no_images_are_kept_as_they_are_made(problem):
    """A range far wider than the data would leave one level of 256."""
    wide = replace(SPEC, value_range=(-6000.0, 6000.0))
    torch.manual_seed(3)
    synthesizer = synthesizer_of(FAST, problem.pair(problem.network(12)), wide)
    assert synthesizer.trained_modules()["generator"].module["memory"].samples.dtype == torch.float32


def test_a_memory_fits_or_is_refused(problem, monkeypatch):
    def memory(method):
        made = synthesizer_of(method, problem.pair(problem.network(12)), SPEC).trained_modules()
        return next(iter(made.values())).module["memory"].samples

    small = {"latent": 4, "width": 4}
    assert len(memory(Fast(**small))) == len(memory(Contrastive(**small))) == 51_200
    monkeypatch.setattr(synthesizers, "_MOST_BYTES", 100 * 4 * SIZE)
    assert len(memory(Fast(**small))) == 100
    with pytest.raises(DistillationError, match=r"(?s)keep 101 samples \[8\].*a memory of 100 or fewer"):
        memory(Fast(memory=101, **small))


@pytest.mark.parametrize(
    ("method", "steps"),
    [(FAST, 2), (replace(FAST, warm_up=29), 29), (Contrastive(latent=4, width=4, inner=1), 1)],
)
def test_a_student_that_would_never_learn_is_refused(problem, tmp_path, method, steps):
    with pytest.raises(ContractError, match=r"(?s)learns in none of them.*are the generator's warm-up"):
        distilled(problem, tmp_path, method, steps=steps)
    assert not list(tmp_path.iterdir())


def test_terms_that_need_samples_first_are_refused(problem, tmp_path):
    with pytest.raises(DistillationError, match=r"(?s)Adversarial without data.*distil with what was made"):
        distilled(problem, tmp_path, objective=Objective(L=(SoftTargets(), Adversarial())))


def test_a_student_of_other_classes_is_refused_before_anything_is_made(problem):
    student = nn.Linear(SIZE, 3)
    with pytest.raises(DistillationError, match="3 classes of the student, 4 of the teacher"):
        synthesizer_of(FAST, problem.pair(student), SPEC)
    assert synthesizer_of(replace(FAST, disagreement=0.0), problem.pair(student), SPEC)


def test_an_input_that_no_model_takes_is_refused(problem):
    with pytest.raises(SamplesError, match=r"does not take them \(mat1 and mat2 shapes.*declare the input"):
        synthesizer_of(FAST, problem.pair(problem.network(12)), replace(SPEC, shape=("batch", SIZE + 1)))


@pytest.mark.parametrize("between", [(0.0, float("inf")), (1.0, 1.0)])
def test_a_range_that_is_none_is_refused(problem, between):
    with pytest.raises(SamplesError, match="smaller one first"):
        synthesizer_of(FAST, problem.pair(problem.network(12)), replace(SPEC, value_range=between))


def test_that_no_range_was_declared_is_said(problem, tmp_path):
    (note,) = distilled(problem, tmp_path / "free", steps=4, spec=replace(SPEC, value_range=None)).notes
    assert note.startswith("No range of the input was declared")
    assert distilled(problem, tmp_path / "declared", steps=4).notes == ()


def test_videos_without_a_range_are_scaled_by_channel():
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 2, 3, 4, 4))
    generator = generator_of(spec, (2, 3, 4, 4), latent=5, width=4)
    made = generator(generator.codes(6)).detach()
    assert made.shape == (6, 2, 3, 4, 4)
    assert float(made.transpose(0, 1).flatten(1).mean(dim=1).abs().max()) < 1e-4
    with pytest.raises(SamplesError, match="declare the range"):
        generator_of(spec, (2, 1, 1, 1, 1), latent=5, width=4)


def test_many_samples_of_dafl_are_made_in_portions(problem):
    torch.manual_seed(3)
    synthesizer = synthesizer_of(Dafl(latent=4, width=4), problem.pair(problem.network(12)), SPEC)
    sizes = []
    synthesizer.trained_modules()["generator"].module.register_forward_hook(lambda _, x, y: sizes.append(len(x[0])))
    assert synthesizer.samples(300).shape == (300, SIZE)
    assert sizes == [128, 128, 44]


def test_contrast_spreads_what_is_made(problem, tmp_path):
    def spread(contrast):
        method = Contrastive(
            contrast=contrast, inner=40, batch=32, memory=64, rate=1e-2, latent=8, width=8, one_hot=0.1, statistics=0.1
        )
        pair = problem.pair(problem.network(12))
        torch.manual_seed(3)
        synthesizer = synthesizer_of(method, pair, SPEC)
        task = DataFreeDistillation(pair, "x", synthesizer)
        fit(task, NoSamples(32 * 2), SETTINGS, tmp_path / str(contrast))
        return float(torch.pdist(synthesizer.samples(32)).mean())

    assert spread(20.0) > 1.1 * spread(0.0)


@pytest.mark.parametrize(
    "method",
    [
        Contrastive(inner=2, cycle=4, warm_up=2, batch=16, memory=50, before=20, latent=6, width=4),
        Dafl(latent=6, width=4),
    ],
    ids=["contrastive", "dafl"],
)
def test_a_killed_training_ends_as_a_whole_one(whole_and_resumed, method):
    whole, cut = whole_and_resumed(method, SPEC, SETTINGS, 25, kill_at=17)

    assert (whole / CHECKPOINT).read_bytes() == (cut / CHECKPOINT).read_bytes()


def test_vectors_of_tokens_are_as_long_as_a_token():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Linear(2, 5), nn.Flatten(), nn.Linear(20, 3)).eval()
    means, x = synthesizers._Means(teacher), torch.randn(6, SIZE)
    with means.watching(), torch.no_grad():
        scores = teacher(x)
    expected = torch.cat([teacher[:2](x).mean(dim=1), scores], dim=1)
    torch.testing.assert_close(means.vectors(), expected)


@pytest.mark.parametrize(
    "method", [FAST, Contrastive(inner=2, cycle=2, warm_up=2, batch=16, memory=50, latent=6, width=4)]
)
def test_where_both_disagree_counts_once_the_student_learns(problem, method):
    torch.manual_seed(3)
    synthesizer = synthesizer_of(method, problem.pair(problem.network(12)), SPEC)
    (name,) = synthesizer.trained_modules()
    told = {}
    for step in range(4):
        context = RecordedStep(step)
        context.modules[name] = synthesizer.trained_modules()[name].module
        told[step] = synthesizer.synthesize(context, 4)
    assert [told[step].samples is None for step in range(4)] == [True, True, False, False]
    assert ["disagreement" in told[step].numbers for step in range(4)] == [False, False, True, False]
    assert len(synthesizer.samples(100)) == min(48, 50)


def test_what_compares_learns_and_keeps_whom_it_compares_with(problem):
    method = Contrastive(inner=2, batch=16, memory=50, latent=6, width=4)
    torch.manual_seed(3)
    synthesizer = synthesizer_of(method, problem.pair(problem.network(12)), SPEC)
    context = RecordedStep()
    context.modules["comparison"] = synthesizer.trained_modules()["comparison"].module
    synthesizer.synthesize(context, 4)
    assert sum(float(one.abs().sum()) for one in context.gradients["comparison"]) > 0
    norms = [one for one in problem.teacher.modules() if isinstance(one, nn.BatchNorm1d)]
    seen = []
    hooks = [norm.register_forward_hook(lambda _, x, out: seen.append(out)) for norm in norms]
    with torch.no_grad():
        problem.teacher(synthesizer.samples(16))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(context.modules["comparison"]["before"].first(16), torch.cat(seen, dim=1))


def test_equal_seeds_give_equal_students_whatever_was_drawn_before(problem, tmp_path):
    found = []
    for number in range(2):
        torch.manual_seed(number)
        found.append(distilled(problem, tmp_path / str(number), steps=5).samples)
    assert np.array_equal(*found)


@pytest.mark.parametrize("method", [Dafl(latent=6, width=4, activation=0.0), FAST])
def test_the_student_sees_views_of_what_is_made(problem, method):
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 1, 8, 8), value_range=(0.5, 1.0))
    teacher = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 4)).eval()
    pair = Pair(
        Network(module=nn.Sequential(nn.Flatten(), nn.Linear(64, 4))),
        Network(module=teacher),
        Objective(L=(SoftTargets(),)),
        {"x": torch.zeros(2, 1, 8, 8)},
        torch.optim.Adam,
    )
    synthesizer = synthesizer_of(method, pair, spec)
    (name,) = synthesizer.trained_modules()
    for step in range(3):
        context = RecordedStep(step)
        context.modules[name] = synthesizer.trained_modules()[name].module
        if isinstance(method, Dafl):
            context.modules[name] = synthesizer._generator
        made = synthesizer.synthesize(context, 40).samples
    assert float(made.min()) == 0.0  # zeros come in at the edges
    assert float(made[:, :, 2:6, 2:6].min()) >= 0.5
