"""A module as the graph that will run: captured as the export captures it, batch norms folded, ready to be trained.

What learns is the very graph whose integers are written later, so there is nothing in between that could differ. Batch
norms have the statistics that the float training left them, as in inference (Krishnamoorthi, "Quantizing Deep
Convolutional Networks for Efficient Inference", 2018, section 3.2.2: frozen in the end of the training anyway), and
dropout is off: a fine-tuning of a few epochs, not a training from scratch.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from edgeport.contracts import Arrays
from edgeport.errors import EdgeportError, ExportError
from edgeport.exporter.capture import CaptureFailed, capture, free_axes, tensors_only
from edgeport.exporter.explain import explain_export_failure
from edgeport.exporter.input_binding import Binding, bind_feeds, run_eagerly
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.silence import quiet

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TrainableGraph", "parameter_of", "trainable_graph"]

_ATEN = torch.ops.aten
_DROPOUTS = (_ATEN.dropout.default, _ATEN.feature_dropout.default, _ATEN.alpha_dropout.default)
_TOLERANCE = 1e-3
"""Of the largest output: batch norms are folded, and sums run in another order."""
_WEIGHTED = (
    _ATEN.conv1d.default,
    _ATEN.conv2d.default,
    _ATEN.conv3d.default,
    _ATEN.conv1d.padding,
    _ATEN.conv2d.padding,
    _ATEN.conv3d.padding,
    _ATEN.linear.default,
)


@dataclass(frozen=True, kw_only=True)
class TrainableGraph:
    """The graph, and how it is called.

    Attributes:
        graph: Parameters have the names that they have in the user's module; biases that batch norms left are added.
        binding: Feeds to arguments.
        outputs: Names, in the order of what the graph returns.

    """

    graph: fx.GraphModule
    binding: Binding
    outputs: tuple[str, ...]

    def run(self, graph: torch.nn.Module, batch: Any) -> dict[str, Tensor]:
        """Outputs by name of this graph, or of another that is called as it is, for tensors by the feeds' names."""
        args, kwargs = self.binding.filled(lambda name: batch[name])
        found = graph(*args, **kwargs)
        return dict(zip(self.outputs, found, strict=True))


def trainable_graph(module: torch.nn.Module, example: Arrays, options: ExportOptions) -> TrainableGraph:
    """Captures the module in evaluation mode, and folds its batch norms.

    Args:
        module: In evaluation mode.
        example: As in `export_onnx`.
        options: Of the export, so that the graph is that of the file.

    Raises:
        ExportError: It can't be captured.

    """
    from edgeport.exporter.eager_check import run_once

    binding = bind_feeds(module, example, options.parameters, options.constants)
    outputs = run_once(module, binding, example, options).outputs
    axes = free_axes(example, options, batch=options.dynamic_batch)
    with quiet(), tensors_only(module):
        try:
            program = capture(module, binding, example, axes, options.capture).program
        except CaptureFailed as failed:
            raise explain_export_failure(type(module).__name__, failed.failures) from failed.failures[0]
    graph = program.module()
    if not isinstance(graph, fx.GraphModule):
        raise EdgeportError(asked="train a captured graph", found=type(graph).__name__, fix="report this")
    _drop_guards(graph)
    _overwrite_nothing(graph)
    _drop_dropouts(graph)
    _merge_equal(graph)
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is _ATEN.batch_norm.default:
            _fold(graph, node)
        elif node.op == "call_function" and node.target is _ATEN.linear.default:
            _take_apart(graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    trainable = TrainableGraph(graph=graph, binding=binding, outputs=tuple(outputs))
    _require_same(trainable, module, example)
    return trainable


def _require_same(trainable: TrainableGraph, module: torch.nn.Module, example: Arrays) -> None:
    feeds = {name: torch.from_numpy(array.copy()) for name, array in example.items()}
    with torch.no_grad():
        found = trainable.run(trainable.graph, feeds)
    for name, wanted in zip(trainable.outputs, run_eagerly(module, trainable.binding, example).values(), strict=True):
        own = found[name].numpy()
        allowed = _TOLERANCE * max(float(abs(wanted).max(initial=0.0)), 1e-6)
        if own.shape != wanted.shape or not float(abs(own - wanted).max(initial=0.0)) <= allowed:
            raise ExportError(
                asked=f"train {type(module).__name__} as a graph",
                found=f"other numbers for output {name!r} than the module's own",
                fix="take out of forward what changes tensors in place",
            )


def parameter_of(graph: fx.GraphModule, name: str) -> torch.nn.Parameter | None:
    """The parameter of that name, or None."""
    path, _, attribute = name.rpartition(".")
    try:
        found = getattr(graph.get_submodule(path), attribute, None)
    except AttributeError:
        return None
    return found if isinstance(found, torch.nn.Parameter) else None


def _drop_guards(graph: fx.GraphModule) -> None:
    """Batches of the training have other sizes than the example's, which axes that are free allow."""
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and str(node.target).startswith("_guards"):
            graph.graph.erase_node(node)


def _drop_dropouts(graph: fx.GraphModule) -> None:
    """In evaluation mode they hand on what they get; the file has none."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in _DROPOUTS and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _overwrite_nothing(graph: fx.GraphModule) -> None:
    """Operators that change their first argument (`relu_`, `+=`) become those that give a new tensor."""
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    for node, place in order.items():
        plain, changed = _giving_new(node), node.args[0] if node.args else None
        if plain is None or not isinstance(changed, fx.Node) or any(map(_is_view, (changed, *changed.users))):
            continue
        node.target = plain
        for user in [user for user in changed.users if order[user] > place]:
            user.replace_input_with(changed, node)


def _giving_new(node: fx.Node) -> Any:
    """The operator that does the same and changes nothing; None where this one changes nothing, or there is none."""
    target: Any = node.target
    if node.op != "call_function" or getattr(target, "namespace", "") != "aten":
        return None
    name, overload = target.name().removeprefix("aten::").partition(".")[::2]
    if not name.endswith("_") or name.endswith("__"):
        return None
    return getattr(getattr(_ATEN, name.removesuffix("_"), None), overload or "default", None)


def _merge_equal(graph: fx.GraphModule) -> None:
    """What is computed twice from the same is computed once in the file, and rounded there for all who read it."""
    nodes = list(graph.graph.nodes)
    if any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in nodes):
        return  # the same tensor may be another one later
    seen: dict[tuple[object, str], fx.Node] = {}
    for node in nodes:
        tags = getattr(node.target, "tags", ())
        pure = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in tags  # noqa: SLF001
        if node.op != "get_attr" and not (node.op == "call_function" and pure):
            continue
        same = seen.setdefault((node.target, repr((node.args, node.kwargs))), node)
        if same is not node:
            node.replace_all_uses_with(same)
            graph.graph.erase_node(node)


def _is_view(node: fx.Node) -> bool:
    """It shares memory with what it is given, so that a change of the one is one of the other."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(one.alias_info and not one.alias_info.is_write for one in schema.returns)


def _fold(graph: fx.GraphModule, norm: fx.Node) -> bool:
    """W' = W s and b' = (b - mean) s + beta with s = gamma / sqrt(variance + epsilon), as the export folds it."""
    layer, training, epsilon = norm.args[0], norm.args[5], norm.args[7]
    if not isinstance(layer, fx.Node) or layer.target not in _WEIGHTED or len(layer.users) != 1 or training:
        return False
    gamma, beta, mean, variance = (_value(graph, one) for one in norm.args[1:5])
    weight_node = layer.args[1]
    weight = _value(graph, weight_node)
    bias_node = layer.args[2] if len(layer.args) > 2 else None
    bias = _value(graph, bias_node)
    if weight is None or mean is None or variance is None or (bias_node is not None and bias is None):
        return False
    if not isinstance(weight_node, fx.Node) or len(weight_node.users) != 1 or _is_shared(graph, weight_node):
        return False
    scale = (1.0 if gamma is None else gamma.double()) / torch.sqrt(variance.double() + cast("float", epsilon))
    offset = (0.0 if bias is None else bias.double()) - mean.double()
    shift = offset * scale + (0.0 if beta is None else beta.double())
    name = str(weight_node.target)
    folded = weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1))
    _set(graph, name, folded.to(weight.dtype))
    bias_name = f"{name.removesuffix('weight')}bias" if name.endswith("weight") else f"{name}_bias"
    _set(graph, bias_name, shift.to(weight.dtype))
    with graph.graph.inserting_before(layer):
        new = graph.graph.get_attr(bias_name)
    layer.args = (*layer.args[:2], new, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    graph.graph.erase_node(norm)
    return True


def _take_apart(graph: fx.GraphModule, linear: fx.Node) -> None:
    """A product and a sum, where the export writes a MatMul and an Add: of inputs with other than two axes."""
    source, weight, *bias = linear.args
    if not isinstance(source, fx.Node) or source.meta["val"].dim() == 2:
        return
    with graph.graph.inserting_before(linear):
        turned = graph.graph.call_function(_ATEN.t.default, (weight,))
        found = graph.graph.call_function(_ATEN.matmul.default, (source, turned))
        found.meta = dict(linear.meta)
        if bias and bias[0] is not None:
            found = graph.graph.call_function(_ATEN.add.Tensor, (found, bias[0]))
            found.meta = dict(linear.meta)
    linear.replace_all_uses_with(found)
    graph.graph.erase_node(linear)


def _value(graph: fx.GraphModule, node: object) -> Tensor | None:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found = operator.attrgetter(str(node.target))(graph)
    return found.detach() if isinstance(found, torch.Tensor) else None


def _is_shared(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Another layer reads the same weight: then the fold is not the weight's alone."""
    mine = operator.attrgetter(str(node.target))(graph)
    others = (one for one in graph.graph.nodes if one.op == "get_attr" and one is not node)
    return any(operator.attrgetter(str(one.target))(graph) is mine for one in others)


def _set(graph: fx.GraphModule, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    owner = graph.get_submodule(path)
    if hasattr(owner, attribute):
        delattr(owner, attribute)
    owner.register_parameter(attribute, torch.nn.Parameter(value.detach().clone()))
