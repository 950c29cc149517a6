"""Writes the stages of a graph as models of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from edgeport.backends.stages.partition import Cut, Stage
from edgeport.contracts import OnnxModel
from edgeport.onnx_files import values_read, write_ir

__all__ = ["stage_model", "write_stages"]


def write_stages(model: ir.Model, cut: Cut, folder: Path) -> tuple[OnnxModel, ...]:
    """`stage_0.onnx`, `stage_1.onnx`, ... in `folder`, large weights beside them.

    A weight that two stages read is written twice. Run one after the other, each with what the earlier ones gave, they
    compute what the whole does by the same operators: to the bit, but for what a runtime fuses and then rounds
    otherwise (in float32 some 1e-6 of the largest value; behind that a quantizer may take the next integer).

    Args:
        model: That `cut_graph` cut.
        cut: Its result.
        folder: Where the files go.

    Raises:
        OutputError: A path is a link or can't be written.

    """
    return tuple(
        write_ir(stage_model(model, stage), folder / f"stage_{index}.onnx") for index, stage in enumerate(cut.stages)
    )


def stage_model(model: ir.Model, stage: Stage) -> ir.Model:
    """One stage; names of nodes and values, opsets, functions and metadata are the whole's, weights are shared."""
    graph = model.graph
    wanted = set(stage.nodes)
    nodes = [node for node in graph if node.name in wanted]
    values = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    values |= {value.name: value for node in graph for value in node.outputs}
    outputs = [values[name] for name in stage.outputs]
    constants = _constants(graph, nodes, outputs)
    proto = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name or "")
    proto.opset_import.extend(onnx.helper.make_opsetid(*one) for one in model.opset_imports.items())
    proto.functions.extend(ir.to_proto(one) for one in model.functions.values())
    proto.graph.name = graph.name or "stage"
    proto.graph.node.extend(ir.to_proto(node) for node in nodes)
    # Weights as inputs first: so they are known by name, and what they hold is not copied.
    given = dict.fromkeys([*(values[name] for name in stage.inputs), *constants])
    proto.graph.input.extend(ir.to_proto(value) for value in given)
    proto.graph.output.extend(ir.to_proto(value) for value in outputs)
    ends = {*given, *outputs}
    inner = [value for node in nodes for value in node.outputs if value.name and value.type and value not in ends]
    proto.graph.value_info.extend(ir.to_proto(value) for value in inner)
    made = ir.from_proto(proto)
    made.metadata_props.update(model.metadata_props)
    stored = {value.name: value.const_value for value in constants}
    for value in list(made.graph.inputs):
        if value.name in stored:
            made.graph.inputs.remove(value)
            value.const_value = stored[value.name]
            made.graph.register_initializer(value)
    return made


def _constants(graph: ir.Graph, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> list[ir.Value]:
    read = {value for node in nodes for value in values_read(node)} | set(outputs)
    return [value for value in graph.initializers.values() if value in read]
