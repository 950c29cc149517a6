"""Puts a plan's rounding into a trainable graph, where the writer of the plan puts its pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from edgeport.contracts import Array, Precision, QuantizationPlan, QuantizationRules, WeightQuantization
from edgeport.errors import PlanError
from edgeport.exporter.qat.fake_quant import FakeActivation, FakeBias, FakeWeight
from edgeport.exporter.qat.graph import TrainableGraph, parameter_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QatGraph", "prepare", "wanted_tensors"]

_TRANSPOSED = ".T"
"""Behind the name of a weight that the export transposed."""

_BIAS = 2
"""Place of the bias among the arguments of PyTorch's convolutions and linear."""

_FAR = 4
"""Operators between a tensor and its reader, such as a transposition that the file has in the weight."""

_CLOSE = 1e-4
"""Of the largest number of a weight: it was folded in float64 there, and here too."""


@dataclass(frozen=True, kw_only=True)
class QatGraph:
    """A graph that rounds as the plan says.

    Attributes:
        plan: What of the plan is in the graph; the rest runs in float.
        activations: Tensor of the file to its rounding.
        weights: Initializer of the file to its rounding.
        trained: Initializer of the file to the parameter it is made of, and whether it is transposed.
        left_float: Nodes of the plan that were not found.
        fixed: Initializers that no parameter stands for.

    """

    plan: QuantizationPlan
    activations: Mapping[str, FakeActivation]
    weights: Mapping[str, FakeWeight]
    trained: Mapping[str, tuple[torch.nn.Parameter, bool]]
    left_float: tuple[str, ...]
    fixed: int

    def values(self) -> dict[str, Array]:
        """Initializers of the file as they were learned, on their grids."""
        found: dict[str, Array] = {}
        with torch.no_grad():
            for name, (parameter, turned) in self.trained.items():
                value: Tensor = parameter if name not in self.weights else self.weights[name](parameter)
                found[name] = np.ascontiguousarray((value.t() if turned else value).float().cpu().numpy())
        return found

    def learned_plan(self) -> QuantizationPlan:
        """The plan with the ranges as they are now."""
        return replace(self.plan, activations={name: one.spec() for name, one in self.activations.items()})


def wanted_tensors(graph: ir.Graph, plan: QuantizationPlan) -> list[str]:
    """Tensors whose places in the PyTorch graph have to be known."""
    made = {str(node.outputs[0].name) for node in graph if node.name in plan.nodes}
    return [*dict.fromkeys([*plan.activations, *sorted(made)])]


def prepare(
    trainable: TrainableGraph,
    graph: ir.Graph,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    places: Mapping[str, fx.Node],
    *,
    learn_ranges: bool,
) -> QatGraph:
    """Inserts the rounding, in place.

    Args:
        trainable: Of the module.
        graph: Of the file that was exported from it; the plan is for it.
        plan: What is rounded.
        rules: Of the plan's dialect.
        places: Tensors to nodes.
        learn_ranges: Whether ranges of activations learn.

    Raises:
        PlanError: Nothing of the plan is in the PyTorch graph.

    """
    trained, fixed = _parameters(trainable.graph, graph)
    kept = _kept_nodes(graph, plan, rules, places, trained)
    if not kept:
        raise PlanError(
            asked=f"train with the rounding of a plan for {plan.dialect}",
            found="none of its nodes in the PyTorch graph",
            fix="quantize this model without training (edgeport run)",
        )
    left = tuple(name for name in plan.nodes if name not in kept)
    plan = _restricted(graph, plan, kept)
    weights = _insert_weights(trainable.graph, plan, trained)
    activations = _insert_activations(trainable.graph, graph, plan, rules, places, learn=learn_ranges)
    if rules.quantize_bias:
        _insert_biases(trainable.graph, graph, rules, places, activations, weights)
    for parameter in trainable.graph.parameters():
        parameter.requires_grad = False
    for parameter, _ in trained.values():
        parameter.requires_grad = True
    for one in (*activations.values(), *weights.values()):
        for parameter in one.parameters():
            clipped = isinstance(one, FakeWeight) and one.is_clipped
            parameter.requires_grad = clipped or (isinstance(one, FakeActivation) and learn_ranges)
    trainable.graph.graph.lint()
    trainable.graph.recompile()
    return QatGraph(plan=plan, activations=activations, weights=weights, trained=trained, left_float=left, fixed=fixed)


def _parameters(graph: fx.GraphModule, onnx: ir.Graph) -> tuple[dict[str, tuple[torch.nn.Parameter, bool]], int]:
    """Initializers that are a parameter, number for number; and how many floats with more than one number are none."""
    found: dict[str, tuple[torch.nn.Parameter, bool]] = {}
    fixed = 0
    for name, value in onnx.initializers.items():
        if value.dtype != ir.DataType.FLOAT or value.const_value is None:
            continue
        turned = name.endswith(_TRANSPOSED)
        parameter = parameter_of(graph, name.removesuffix(_TRANSPOSED))
        array = np.asarray(value.const_value.numpy())
        if parameter is None or not parameter.is_floating_point() or not _equal(parameter, array, turned=turned):
            fixed += array.size > 1
        else:
            found[name] = (parameter, turned)
    return found, fixed


def _equal(parameter: torch.nn.Parameter, array: Array, *, turned: bool) -> bool:
    own = parameter.detach().float().numpy()
    if turned:
        own = own.T if own.ndim == 2 else np.zeros(0)
    allowed = _CLOSE * max(float(np.abs(array).max(initial=0.0)), 1e-12)
    return own.shape == array.shape and float(np.abs(own - array).max(initial=0.0)) <= allowed


def _kept_nodes(
    graph: ir.Graph,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    places: Mapping[str, fx.Node],
    trained: Mapping[str, object],
) -> set[str]:
    """Nodes of the plan all of whose roundings have a place; what is folded into a node goes with it."""
    kept: set[str] = set()
    for node in graph:
        name = str(node.name)
        precision = plan.nodes.get(name)
        if precision is None or precision.is_float:
            continue
        sources = [value for value in node.inputs if value is not None]
        if precision is not Precision.INT8:  # weights alone
            index = rules.weight_operators.get(node.op_type)
            weight = node.inputs[index] if index is not None else None
            if weight is not None and weight.name in trained:
                kept.add(name)
            continue
        if all(_has_place(value, plan, places, trained, kept) for value in sources):
            kept.add(name)
    return kept


def _has_place(
    value: ir.Value,
    plan: QuantizationPlan,
    places: Mapping[str, fx.Node],
    trained: Mapping[str, object],
    kept: Collection[str],
) -> bool:
    if value.name in plan.activations:
        return value.name in places
    if value.name in plan.weights:
        return value.name in trained
    maker = value.producer()
    planned = maker is not None and plan.nodes.get(str(maker.name)) is Precision.INT8
    return not planned or (maker is not None and str(maker.name) in kept)


def _restricted(graph: ir.Graph, plan: QuantizationPlan, kept: Collection[str]) -> QuantizationPlan:
    """The plan with these nodes alone, and the tensors that they touch."""
    touched: set[str] = set()
    for node in graph:
        if node.name in kept:
            touched |= {str(value.name) for value in (*node.inputs, *node.outputs) if value is not None}
    return replace(
        plan,
        nodes={name: one for name, one in plan.nodes.items() if name in kept},
        activations={name: one for name, one in plan.activations.items() if name in touched},
        weights={name: one for name, one in plan.weights.items() if name in touched},
    )


def _insert_weights(
    graph: fx.GraphModule, plan: QuantizationPlan, trained: Mapping[str, tuple[torch.nn.Parameter, bool]]
) -> dict[str, FakeWeight]:
    """Behind every place where a planned weight is read."""
    found: dict[str, FakeWeight] = {}
    for number, (name, spec) in enumerate(plan.weights.items()):
        parameter, turned = trained[name]
        fake = FakeWeight(parameter, _turned(spec) if turned else spec)
        graph.add_submodule(f"rounded_weight_{number}", fake)
        attribute = name.removesuffix(_TRANSPOSED)
        for node in [one for one in graph.graph.nodes if one.op == "get_attr" and one.target == attribute]:
            _put_behind(graph, node, f"rounded_weight_{number}", list(node.users))
        found[name] = fake
    return found


def _turned(spec: WeightQuantization) -> WeightQuantization:
    return spec if spec.axis is None else replace(spec, axis=1 - spec.axis % 2)


def _insert_activations(
    graph: fx.GraphModule,
    onnx: ir.Graph,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    places: Mapping[str, fx.Node],
    *,
    learn: bool,
) -> dict[str, FakeActivation]:
    """Behind an integer node everybody reads the rounded tensor; behind another one only integer nodes do."""
    makers = {str(value.name): node for node in onnx for value in node.outputs}
    readers = {str(value.name): [use.node for use in value.uses()] for value in _values(onnx)}
    groups = _shared(onnx, plan, rules)
    modules: dict[str, FakeActivation] = {}
    found: dict[str, FakeActivation] = {}
    done: dict[fx.Node, str] = {}
    for name, spec in plan.activations.items():
        if name not in places:  # written by an integer node, read by none: it stays float
            continue
        group, place = groups[name], places[name]
        if place in done:
            found[name] = modules[done[place]]
            continue
        if group not in modules:
            modules[group] = FakeActivation(spec, learn=learn)
            graph.add_submodule(f"rounded_{len(modules)}", modules[group])
        target = f"rounded_{list(modules).index(group) + 1}"
        maker = makers.get(name)
        whole = maker is not None and str(maker.name) in plan.nodes
        if whole:
            reads = [(place, user) for user in place.users]
        else:
            integer = [places.get(str(one.outputs[0].name)) for one in readers[name] if one.name in plan.nodes]
            reads = [read for reader in integer if reader is not None for read in _reads(reader, place)]
        by_source: dict[fx.Node, list[fx.Node]] = {}
        for source, user in reads or [(place, user) for user in place.users]:
            by_source.setdefault(source, []).append(user)
        for source, behind in by_source.items():
            _put_behind(graph, source, target, behind)
        done[place], found[name] = group, modules[group]
    return found


def _reads(reader: fx.Node, place: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """Where a node reads what another gives, itself or behind a few operators that only move it."""
    found = []
    for argument in reader.all_input_nodes:
        at: fx.Node | None = argument
        for _ in range(_FAR):
            if at is None or at is place:
                break
            at = at.all_input_nodes[0] if len(at.all_input_nodes) == 1 else None
        if at is place:
            found.append((argument, reader))
    return found


def _insert_biases(
    graph: fx.GraphModule,
    onnx: ir.Graph,
    rules: QuantizationRules,
    places: Mapping[str, fx.Node],
    activations: Mapping[str, FakeActivation],
    weights: Mapping[str, FakeWeight],
) -> None:
    """Biases of integer nodes are 32-bit integers in the steps of the sums."""
    for node in onnx:
        rule = rules.operators.get(node.op_type)
        place = places.get(str(node.outputs[0].name)) if node.outputs else None
        if rule is None or rule.bias is None or rule.weight is None or place is None or len(place.args) < _BIAS + 1:
            continue
        source = activations.get(str(node.inputs[0].name)) if node.inputs[0] is not None else None
        value = node.inputs[rule.weight]
        weight = weights.get(str(value.name)) if value is not None else None
        bias, read = place.args[_BIAS], place.args[1]
        raw = read.args[0] if isinstance(read, fx.Node) and read.op == "call_module" else None
        if source is None or weight is None or raw is None or not isinstance(bias, fx.Node) or bias.op != "get_attr":
            continue
        target = f"rounded_bias_{place.name}"
        graph.add_submodule(target, FakeBias(source, weight))
        with graph.graph.inserting_before(place):
            rounded = graph.graph.call_module(target, (bias, raw))
        place.args = (*place.args[:_BIAS], rounded, *place.args[_BIAS + 1 :])


def _values(onnx: ir.Graph) -> list[ir.Value]:
    return [*onnx.inputs, *(value for node in onnx for value in node.outputs)]


def _shared(onnx: ir.Graph, plan: QuantizationPlan, rules: QuantizationRules) -> dict[str, str]:
    """Tensor to the first one that shares its range: operators that only move values have one for both sides."""
    first = {name: name for name in plan.activations}
    for node in onnx:
        rule = rules.operators.get(node.op_type)
        if rule is None or not rule.same_scale or node.name not in plan.nodes:
            continue
        names = [str(value.name) for value in (*node.inputs, *node.outputs) if value is not None]
        ends = [name for name in names if name in first]
        for name in ends[1:]:
            if plan.activations[name] == plan.activations[ends[0]]:
                old, new = first[name], first[ends[0]]
                first = {key: new if value == old else value for key, value in first.items()}
    return first


def _put_behind(graph: fx.GraphModule, node: fx.Node, target: str, users: Collection[fx.Node]) -> None:
    with graph.graph.inserting_after(node):
        rounded = graph.graph.call_module(target, (node,))
    for user in users:
        user.replace_input_with(node, rounded)
