"""A student and its teacher as an objective sees them: what any method, with data or without, is built on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch

from edgeport.errors import DistillationError
from edgeport.exporter.batch_norm import layers_with_statistics
from edgeport.exporter.distill.feature_hooks import require_paths, tapped
from edgeport.exporter.distill.objective import BatchOutputs, Objective, key_of
from edgeport.exporter.input_binding import Binding, bind_feeds
from edgeport.exporter.output_naming import name_outputs
from edgeport.exporter.train import StepContext, TrainedModule
from edgeport.exporter.train.ema import ramped
from edgeport.exporter.train.frozen_module import answering

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MakeOptimizer", "MovingAverage", "Network", "Pair", "answers"]

MakeOptimizer = Callable[[Iterable["torch.nn.Parameter"]], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A module, and how feeds get into its `forward`.

    Attributes:
        module: Is called as it is.
        parameters: Feed to parameter, as in `ExportOptions`; empty where names or order say it.
        constants: Parameter to the value that it is always handed.

    """

    module: torch.nn.Module
    parameters: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)

    def bound(self, feeds: Mapping[str, Tensor]) -> Binding:
        """Which of these feeds goes where.

        Raises:
            SamplesError: Too many or too few.

        """
        return bind_feeds(self.module, cast("Any", feeds), self.parameters, self.constants)


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """The student's own moving average teaches it: Tarvainen and Valpola, "Mean teachers are better role models"
    (2017).


    Attributes:
        decay: 0..1; it begins small, as in `edgeport.exporter.train.ema`.

    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise DistillationError(
                asked="let a student's average teach it", found=f"a decay of {self.decay}", fix="give 0 to 1"
            )


def answers(network: Network, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its outputs by name, in evaluation mode without gradients; on its own device."""
    with answering(network.module):
        return _called(network.module, network.bound(feeds), _beside(network.module, feeds))


def _called(module: torch.nn.Module, binding: Binding, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # A copy: some networks scale what they are fed in place, and the other one is fed the same.
    args, kwargs = binding.filled(lambda name: feeds[name].clone())
    device = next(iter(feeds.values())).device
    kwargs = {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in kwargs.items()}
    return name_outputs(module(*args, **kwargs))


class AdaptedStudent(torch.nn.Module):
    """What learns: the student, and the adapters of its features. One module, so that several processes share it.

    Args:
        student: To learn.
        binding: Of its feeds.
        objective: Its taps are looked at.
        adapters: By `key_of`.
        average: The copy of the student that teaches it, where there is one; here so that checkpoints have it.

    """

    def __init__(
        self,
        student: torch.nn.Module,
        binding: Binding,
        objective: Objective,
        adapters: Mapping[str, torch.nn.Module],
        average: torch.nn.Module | None,
    ) -> None:
        super().__init__()
        self.student, self.average = student, average
        self.adapters = torch.nn.ModuleList(adapters.values())
        self._indices = {key: index for index, key in enumerate(adapters)}
        self._binding, self._objective = binding, objective

    def forward(self, feeds: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Outputs by name, and features by `key_of`."""
        paths = [tap.student for term in self._objective.feature_terms for tap in term.taps]
        with tapped(self.student, paths, "student") as seen:
            outputs = _called(self.student, self._binding, feeds)
        features: dict[str, Tensor] = {}
        for term in self._objective.feature_terms:
            for tap in term.taps:
                key = key_of(term, tap)
                index = self._indices.get(key)
                features[key] = seen[tap.student] if index is None else self.adapters[index](seen[tap.student])
        return outputs, features


class Pair:
    """A student and its teacher, ready for a training.

    A task asks it for `trained_modules`, and in each step for what both make of a batch, wherever that comes from:

        seen = pair.see({"image": images}, labels, context)
        losses = objective(seen)
        context.update("student", losses.total)
        pair.after_update(context)

    Args:
        student: To learn; its modes are those of training within `see` alone, and as they were else.
        teacher: Is never changed: it answers in evaluation mode without gradients, and has its modes back after each
            answer. None for none.
        objective: What is learned from.
        example: Two samples or more of each feed, on the CPU: features are looked at with them.
        optimizer: Makes the student's, for the parameters that want gradients, the adapters' among them.
        seed: Of the adapters' first weights.

    Raises:
        DistillationError: A path or a shape that does not suit the objective, or weights that both networks have.
        SamplesError: Feeds that a network does not take.

    """

    def __init__(
        self,
        student: Network,
        teacher: Network | MovingAverage | None,
        objective: Objective,
        example: Mapping[str, Tensor],
        optimizer: MakeOptimizer,
        seed: int = 0,
    ) -> None:
        self.objective, self.student = objective, student
        self._optimizer = optimizer
        self._decay = teacher.decay if isinstance(teacher, MovingAverage) else None
        average = copy.deepcopy(student.module) if isinstance(teacher, MovingAverage) else None
        given = teacher if isinstance(teacher, Network) else None
        if given is not None:
            _require_apart(student.module, given.module)
        self.teacher: torch.nn.Module | None = average if given is None else given.module
        binding = student.bound(example)
        self._binding = binding if given is None else given.bound(example)
        self._taught = tuple(
            dict.fromkeys(tap.teacher for term in objective.feature_terms for tap in term.taps if tap.teacher)
        )
        self._require_paths(student.module)
        for parameter in average.parameters() if average is not None else ():
            parameter.requires_grad = False
        bare = AdaptedStudent(student.module, binding, objective, {}, average)
        self.adapted_student = AdaptedStudent(
            student.module, binding, objective, self._adapters(bare, example, seed), average
        )

    def trained_modules(self) -> dict[str, TrainedModule]:
        """The student with its adapters, and the teacher where one was given."""
        learning = [one for one in self.adapted_student.parameters() if one.requires_grad]
        if not learning:
            raise DistillationError(
                asked=f"train {type(self.adapted_student.student).__name__}",
                found="no parameter that wants gradients",
                fix="set requires_grad of what is to learn",
            )
        made = {"student": TrainedModule(module=self.adapted_student, optimizer=self._optimizer(learning))}
        if self.teacher is not None and self.adapted_student.average is None:
            made["teacher"] = TrainedModule(module=self.teacher)
        return made

    def see(self, feeds: Mapping[str, Tensor], labels: Tensor | None, context: StepContext) -> BatchOutputs:
        """What both make of a batch in a step of a training: the student in training mode, with gradients.

        Args:
            feeds: By input name, [N, ...].
            labels: [N, ...]; None where there are none.
            context: Of the loop.

        """
        student = context.module("student")
        modes = [(module, module.training) for module in self.adapted_student.student.modules()]
        self.adapted_student.student.train()
        try:
            outputs, features = student(dict(feeds))
        finally:
            for module, training in modes:
                module.training = training
        taught, inside = self.taught(feeds)
        return BatchOutputs(
            student=outputs, teacher=taught, labels=labels, features=features, taught=inside, feeds=feeds
        )

    def look(self, feeds: Mapping[str, Tensor], labels: Tensor | None = None, *, through: bool = False) -> BatchOutputs:
        """What both make of a batch in evaluation mode, while neither learns.

        Args:
            feeds: By input name, [N, ...].
            labels: [N, ...]; None where there are none.
            through: Gradients go back through both networks into the feeds, for whatever makes these.

        """
        with answering(self.adapted_student, through=through):
            outputs, features = self.adapted_student(feeds)
        taught, inside = self.taught(feeds, through=through)
        return BatchOutputs(
            student=outputs, teacher=taught, labels=labels, features=features, taught=inside, feeds=feeds
        )

    def answers(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The student's outputs by name, in evaluation mode without gradients."""
        return answers(self.student, feeds)

    def taught(
        self, feeds: Mapping[str, Tensor], *, through: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The teacher's outputs by name, and its features by path; nothing where nobody teaches."""
        if self.teacher is None:
            return {}, {}
        with answering(self.teacher, through=through), tapped(self.teacher, self._taught, "teacher") as inside:
            outputs = _called(self.teacher, self._binding, feeds)
        return outputs, inside

    def after_update(self, context: StepContext) -> None:
        """Of a student whose average teaches it: the average takes in its weights as they are now."""
        average = self.adapted_student.average
        if average is None or self._decay is None:
            return
        weight = 1 - ramped(self._decay, context.step)
        with torch.no_grad():
            for own, now in zip(average.parameters(), self.adapted_student.student.parameters(), strict=True):
                own.lerp_(now, weight)
            for kept, buffer in zip(average.buffers(), self.adapted_student.student.buffers(), strict=True):
                kept.copy_(buffer)

    def _require_paths(self, student: torch.nn.Module) -> None:
        terms = self.objective.feature_terms
        require_paths(student, [tap.student for term in terms for tap in term.taps], "student")
        if self._taught and self.teacher is None:
            raise DistillationError(
                asked=f"compare features of {', '.join(self._taught)}",
                found="no teacher",
                fix="give one, or take an objective without teacher terms",
            )
        if self.teacher is not None:
            require_paths(self.teacher, self._taught, "teacher")

    def _adapters(self, bare: AdaptedStudent, example: Mapping[str, Tensor], seed: int) -> dict[str, torch.nn.Module]:
        """By the features of the example, whose shapes must suit their terms."""
        if not self.objective.feature_terms:
            return {}
        with answering(bare):
            _, features = bare(_beside(bare.student, example))
        inside = self.taught(_beside(self.teacher, example))[1] if self.teacher is not None else {}
        made: dict[str, torch.nn.Module] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for term in self.objective.feature_terms:
                for tap in term.taps:
                    adapter = term.adapter(features[key_of(term, tap)], inside.get(tap.teacher))
                    if adapter is not None:
                        made[key_of(term, tap)] = adapter
        return made


def _require_apart(student: torch.nn.Module, teacher: torch.nn.Module) -> None:
    """Makes sure that nothing of the teacher learns with the student.

    Raises:
        DistillationError: They share weights, or BatchNorm layers, whose statistics every step of the student changes.

    """
    changing = {id(one) for one in student.parameters() if one.requires_grad}
    changing |= {id(one) for layer in layers_with_statistics(student) for one in layer.buffers()}
    of_teacher = (*teacher.named_parameters(), *teacher.named_buffers())
    shared = [name for name, one in of_teacher if id(one) in changing]
    if shared:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise DistillationError(
            asked=f"let {type(teacher).__name__} teach {type(student).__name__}",
            found=f"that they share {shared[0]}{more}, which would change while the teacher answers",
            fix="give the teacher a copy of its own (copy.deepcopy), freeze the weights that are shared, or let the "
            "student's own average teach it (MovingAverage)",
        )


def _beside(network: torch.nn.Module, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The feeds on the device where the network is."""
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    return {name: one.to(device) for name, one in feeds.items()}
