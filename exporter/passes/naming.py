"""Names that say where a node comes from, equal in every export of the same model.

A node is `<path of its PyTorch module>/<operator>`, its outputs that and `:0`, `:1`; weights keep the names of
the state dict, other constants are `<node>.<index of the input>`. A name that is taken gets `_1`, `_2`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeport.exporter.explain import line_of_stack
from edgeport.exporter.options import ModuleNodes
from edgeport.onnx_files import MODULE_KEY

__all__ = ["SOURCE_KEY", "annotate", "list_modules", "name_axes", "rename"]

SOURCE_KEY = "edgeport.source"

_SCOPES = "pkg.torch.onnx.name_scopes"
_STACK = "pkg.torch.onnx.stack_trace"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"
"""What torch.export writes for sizes that it asks of the inputs."""

_CALL_NUMBER = re.compile(r"@\d+")
"""torch.export marks the second call of a module as `relu@1`; it is the same module."""


def annotate(model: ir.Model) -> None:
    """Writes module and source line into each node's metadata, before anything is folded.

    Args:
        model: As torch.onnx made it; changed in place.

    """
    for node in _nodes(model):
        module, source = _module_of(node), line_of_stack(node.metadata_props.get(_STACK, ""))
        if module:
            node.metadata_props[MODULE_KEY] = module
        if source is not None:
            node.metadata_props[SOURCE_KEY] = f"{_portable(source.file)}:{source.line}"


def _module_of(node: ir.Node) -> str:
    """Innermost scope but the operator's own; empty for the model's own forward."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    module = _CALL_NUMBER.sub("", str(scopes[-2])) if len(scopes) > 1 else ""
    return "" if module == _NO_MODULE else module


def _portable(file: str) -> str:
    """Relative to the entry of the import path that holds it, so that every machine writes the same bytes."""
    path = Path(file).resolve()
    roots = [Path(entry).resolve() for entry in sys.path if entry]
    inside = [root for root in roots if root in path.parents]
    return str(path.relative_to(max(inside, key=lambda root: len(root.parts)))) if inside else path.name


def rename(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], weights: Collection[str]) -> None:
    """Gives every input, output, node, tensor and constant its canonical name, and drops torch's own metadata.

    Args:
        model: Changed in place.
        inputs: One name per graph input.
        outputs: One name per graph output.
        weights: Names in the state dict, which initializers keep.

    """
    graph = model.graph
    names = _Names()
    graph.name = "model"
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = names.take(name)
    named = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for value in graph.initializers.values():
        if id(value) not in named and _is_weight(value.name or "", weights):
            names.take(value.name or "")
            named.add(id(value))
    _rename_nodes(graph, names, named)
    # The order of initializers is part of the file; by name it is the same every time.
    ordered = sorted(graph.initializers.values(), key=lambda value: value.name or "")
    graph.initializers.clear()
    for value in ordered:
        graph.register_initializer(value)
    _strip(model)


def name_axes(model: ir.Model, axes: Sequence[Mapping[int, str]]) -> None:
    """Puts the declared names of free axes in place of the symbols that torch.export made up (`s77`).

    Args:
        model: Changed in place; sizes that are computed from free axes are renamed with them.
        axes: Per graph input, axis index to name ("batch", "32*height").

    """
    renamed: dict[str, str] = {}
    for value, declared in zip(model.graph.inputs, axes, strict=True):
        for index, label in declared.items():
            size = value.shape[index] if value.shape is not None else None
            symbol = re.search(r"[A-Za-z_]\w*", str(getattr(size, "value", "") or ""))
            if symbol is not None:
                renamed[symbol.group()] = label.rpartition("*")[2]
    if not renamed:
        return
    pattern = re.compile(r"\b(" + "|".join(sorted(map(re.escape, renamed), key=len, reverse=True)) + r")\b")

    def rename_size(size: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
        text = getattr(size, "value", None)
        return ir.SymbolicDim(pattern.sub(lambda m: renamed[m.group()], text)) if isinstance(text, str) else size

    values = [*model.graph.inputs, *(value for node in _nodes(model) for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([rename_size(size) for size in value.shape])


class _Names:
    """Hands out each name once."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._used: set[str] = set()

    def take(self, name: str) -> str:
        candidate = name
        while candidate in self._used:
            self._taken[name] += 1
            candidate = f"{name}_{self._taken[name]}"
        self._used.add(candidate)
        return candidate


def _is_weight(name: str, weights: Collection[str]) -> bool:
    """In the state dict, or made of one that is there (`.T` transposed, `@1` a copy)."""
    root = re.sub(r"(\.T|@\d+)+$", "", name)
    return root in weights or (root.endswith(".bias") and f"{root.removesuffix('.bias')}.weight" in weights)


def _rename_nodes(graph: ir.Graph, names: _Names, named: set[int]) -> None:
    for node in graph:
        module = node.metadata_props.get(MODULE_KEY, "")
        node.name = names.take(f"{module}/{node.op_type}" if module else node.op_type)
        for index, value in enumerate(node.inputs):
            if value is not None and value.is_initializer() and id(value) not in named:
                value.name = names.take(f"{node.name}.{index}")
                named.add(id(value))
        for index, value in enumerate(node.outputs):
            if id(value) not in named and value.name != "":
                value.name = names.take(f"{node.name}:{index}")
        for key, attribute in node.attributes.items():
            for number, inner in enumerate(_subgraphs(attribute)):
                inner.name = f"{node.name}.{key}" + (f"_{number}" if number else "")
                _rename_inner(inner, names, named, inner.name)


def _rename_inner(graph: ir.Graph, names: _Names, named: set[int], prefix: str) -> None:
    for index, value in enumerate(graph.inputs):
        value.name = names.take(f"{prefix}.{index}")
        named.add(id(value))
    _rename_nodes(graph, names, named)


def _subgraphs(attribute: ir.Attr) -> Iterator[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        yield attribute.as_graph()
    elif attribute.type == ir.AttributeType.GRAPHS:
        yield from attribute.as_graphs()


def _strip(model: ir.Model) -> None:
    """Torch's metadata holds paths of this machine and whole stacks; only our two keys stay."""
    for node in _nodes(model):
        kept = {key: node.metadata_props[key] for key in (MODULE_KEY, SOURCE_KEY) if key in node.metadata_props}
        node.metadata_props.clear()
        node.metadata_props.update(kept)
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.doc_string = None


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def list_modules(model: ir.Model) -> tuple[ModuleNodes, ...]:
    """Each PyTorch module in the order of the graph, with the number of its nodes per operator."""
    counts: dict[str, Counter[str]] = {}
    for node in _nodes(model):
        counts.setdefault(node.metadata_props.get(MODULE_KEY, ""), Counter())[node.op_type] += 1
    return tuple(ModuleNodes(module=module, operators=dict(sorted(ops.items()))) for module, ops in counts.items())
