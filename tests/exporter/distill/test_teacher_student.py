"""Student and teacher side by side: what is looked at, what is left as it was, what is refused."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import torch

from edgeport.errors import DistillationError, SamplesError
from edgeport.exporter.distill.losses.feature import Attention, Hints, Relational
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.losses.task import CrossEntropy
from edgeport.exporter.distill.objective import Objective, Tap, key_of
from edgeport.exporter.distill.teacher_student import MovingAverage, Network, Pair

SGD = partial(torch.optim.SGD, lr=0.1)


class Net(torch.nn.Module):
    def __init__(self, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(1, width, 3, stride, 1), torch.nn.BatchNorm2d(width))
        self.act = torch.nn.ReLU()
        self.spare = torch.nn.Linear(1, 1)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(width, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.act(self.act(self.stem(image)))
        return self.head(self.drop(found.mean(dim=(2, 3))))


class Alone:
    """A context of a loop without one."""

    step = 5

    def __init__(self, pair: Pair) -> None:
        self.modules = pair.trained_modules()

    def module(self, name: str) -> torch.nn.Module:
        return self.modules[name].module

    def update(self, name: str, loss: torch.Tensor) -> None:
        optimizer = self.modules[name].optimizer
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


FEEDS = {"image": torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))}
LABELS = torch.tensor([0, 1, 2, 0])
STEM = Tap(student="stem", teacher="stem")


def pair_of(objective: Objective, student: Net | None = None, teacher: object = None) -> Pair:
    torch.manual_seed(0)
    teacher = Network(module=Net(5)) if teacher is None else teacher
    return Pair(Network(module=student or Net(2)), teacher, objective, FEEDS, SGD)


def test_both_are_seen_and_the_projection_learns() -> None:
    hints, attention = Hints(taps=(STEM,)), Attention(taps=(STEM,))
    pair = pair_of(Objective(L=(hints, attention)))
    before = pair.adapted_student.adapters[0].weight.detach().clone()
    context = Alone(pair)

    seen = pair.see(FEEDS, LABELS, context)
    context.update("student", pair.objective(seen).total)

    assert seen.student["output"].shape == seen.teacher["output"].shape == (4, 3)
    assert seen.features[key_of(hints, STEM)].shape == seen.taught["stem"].shape == (4, 5, 6, 6)
    assert seen.features[key_of(attention, STEM)].shape == (4, 2, 6, 6)
    assert not seen.taught["stem"].requires_grad
    assert not torch.equal(before, pair.adapted_student.adapters[0].weight)
    assert {name.split(".")[0] for name in pair.adapted_student.state_dict()} == {"student", "adapters"}


def test_no_mode_or_weight_of_the_teacher_changes_and_the_student_has_its_modes_back() -> None:
    teacher, student = Net(5), Net(2)
    teacher.drop.eval()  # whatever the user left: some modules in training mode, others not
    student.eval()
    student.drop.train()
    pair = pair_of(Objective(L=(SoftTargets(),)), student, Network(module=teacher))
    context = Alone(pair)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    means = student.stem[1].running_mean.clone()
    modes = [module.training for net in (teacher, student) for module in net.modules()]

    seen = pair.see(FEEDS, LABELS, context)
    context.update("student", pair.objective(seen).total)
    pair.look(FEEDS, LABELS)

    assert [module.training for net in (teacher, student) for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in teacher.parameters())
    assert not torch.equal(means, student.stem[1].running_mean)  # it learned in training mode
    assert not any(module._forward_hooks for net in (teacher, student) for module in net.modules())


def test_one_module_learns_from_two_of_the_teacher_through_a_projection_each() -> None:
    deep = Tap(student="stem", teacher="stem.0")
    hints = Hints(taps=(STEM, deep))
    pair = pair_of(Objective(L=(hints,)))

    seen = pair.look(FEEDS)

    assert len(pair.adapted_student.adapters) == 2
    assert not torch.equal(seen.feature(hints, STEM), seen.feature(hints, deep))


def test_what_a_module_gives_is_seen_as_it_is_whatever_changes_it_afterwards() -> None:
    student = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(inplace=True), torch.nn.Flatten())
    first = Relational(taps=(Tap(student="0", teacher="0"),))
    teacher = Network(module=copy.deepcopy(student))
    pair = Pair(Network(module=student), teacher, Objective(L=(first,)), FEEDS, SGD)

    seen = pair.look(FEEDS)

    assert float(seen.feature(first, first.taps[0]).min()) < 0
    assert torch.equal(seen.taught["0"], student[0](FEEDS["image"]))


class Scaling(Net):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image *= 0.5
        return super().forward(image)


@pytest.mark.parametrize("networks", [(Scaling(2), Net(5)), (Net(2), Scaling(5))], ids=["student", "teacher"])
def test_a_network_that_changes_what_it_is_fed_changes_it_for_no_other(networks: tuple[Net, Net]) -> None:
    student, teacher = networks
    pair = pair_of(Objective(L=(SoftTargets(),)), student, Network(module=teacher))
    context, before = Alone(pair), FEEDS["image"].clone()
    fed = {"image": before.clone()}

    seen = pair.see(fed, None, context)
    context.update("student", pair.objective(seen).total)

    assert torch.equal(fed["image"], before)
    assert torch.equal(seen.teacher["output"], teacher.eval()(before.clone()))


def test_gradients_reach_feeds_through_networks_that_do_not_learn() -> None:
    pair = pair_of(Objective(L=(SoftTargets(), Hints(taps=(STEM,)))))
    made = FEEDS["image"].clone().requires_grad_()

    pair.objective(pair.look({"image": made}, through=True)).total.backward()

    assert float(made.grad.abs().sum()) > 0
    parameters = [*pair.adapted_student.parameters(), *pair.teacher.parameters()]
    assert all(one.requires_grad and one.grad is None for one in parameters)


def test_the_moving_average_of_a_student_teaches_it_and_is_saved() -> None:
    pair = pair_of(Objective(L=(SoftTargets(), Relational(taps=(STEM,)))), teacher=MovingAverage(decay=0.9))
    context = Alone(pair)
    own, average = pair.adapted_student.student.head.weight, pair.teacher.head.weight
    before = own.detach().clone()

    losses = pair.objective(pair.see(FEEDS, LABELS, context))
    context.update("student", (losses.total + 1) * own.sum())
    pair.after_update(context)

    decay = (1 + 5) / (10 + 5)
    assert torch.allclose(average, decay * before + (1 - decay) * own)
    assert list(pair.trained_modules()) == ["student"]
    assert "average.head.weight" in pair.adapted_student.state_dict()
    assert not average.requires_grad


@pytest.mark.parametrize(
    ("objective", "student", "says"),
    [
        pytest.param(
            Objective(L=(Hints(taps=(Tap(student="stems", teacher="stem"),)),)),
            Net(2),
            "module 'stems' of the student.*did you mean 'stem'",
            id="no such module",
        ),
        pytest.param(
            Objective(L=(Hints(taps=(Tap(student="stem", teacher="qqq"),)),)),
            Net(2),
            "'qqq' of the teacher.*name one of stem, act, spare",
            id="nothing near",
        ),
        pytest.param(
            Objective(L=(Relational(taps=(Tap(student="act", teacher="stem"),)),)), Net(2), "more than once", id="twice"
        ),
        pytest.param(
            Objective(L=(Relational(taps=(Tap(student="spare", teacher="stem"),)),)), Net(2), "never calls", id="never"
        ),
        pytest.param(
            Objective(L=(Hints(taps=(STEM,)),)),
            Net(2, stride=2),
            r"\[4, 2, 3, 3\] of the student and \[4, 5, 6, 6\] of the teacher.*Relational",
            id="other pixels",
        ),
        pytest.param(
            Objective(L=(Attention(taps=(STEM,)),)), Net(2, stride=2), "equal height and width", id="other places"
        ),
    ],
)
def test_taps_that_do_not_suit_are_refused_before_any_training(objective: Objective, student: Net, says: str) -> None:
    with pytest.raises(DistillationError) as caught:
        pair_of(objective, student)
    assert re.search(says, str(caught.value))


def test_who_is_missing_is_said() -> None:
    with pytest.raises(DistillationError, match="no teacher"):
        Pair(Network(module=Net(2)), None, Objective(L=(Hints(taps=(STEM,)),)), FEEDS, SGD)
    with pytest.raises(SamplesError):
        Pair(Network(module=Net(2)), None, Objective(L=(CrossEntropy(),)), FEEDS | {"more": FEEDS["image"]}, SGD)
    frozen = Net(2).requires_grad_(requires_grad=False)
    with pytest.raises(DistillationError, match="wants gradients"):
        pair_of(Objective(L=(CrossEntropy(),)), frozen).trained_modules()
    tied = Net(2)
    tied.head = frozen.head.requires_grad_()
    with pytest.raises(DistillationError, match=r"share head\.weight and 1 more.*deepcopy"):
        pair_of(Objective(L=(SoftTargets(),)), tied, Network(module=frozen))
    tied.head.requires_grad_(requires_grad=False)
    assert pair_of(Objective(L=(SoftTargets(),)), tied, Network(module=frozen))
    tied.stem = frozen.stem  # frozen too, but statistics are no weights
    with pytest.raises(DistillationError, match=r"share stem\.1\.running_mean and 2 more.*deepcopy"):
        pair_of(Objective(L=(SoftTargets(),)), tied, Network(module=frozen))
    with pytest.raises(DistillationError, match="a decay of 1"):
        MovingAverage(decay=1.0)


def test_alone_a_student_learns_from_labels() -> None:
    pair = Pair(Network(module=Net(2)), None, Objective(L=(CrossEntropy(),)), FEEDS, SGD)
    context = Alone(pair)

    seen = pair.see(FEEDS, LABELS, context)

    assert seen.teacher == {}
    assert float(pair.objective(seen).total.detach()) > 0
