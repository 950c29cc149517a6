"""Runs a model piece by piece over some samples, and may change what goes from one piece to the next.

Every node runs once, however many layers are looked at; what is held is what later nodes still read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgeport.calibration.graph import constant_of
from edgeport.contracts import Array, Arrays, OnnxModel, OpenModel
from edgeport.errors import CalibrationError
from edgeport.onnx_files import infer_types, load_weights, read_ir, values_read

__all__ = ["Stepper", "StoredWeight"]


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """A weight behind a DequantizeLinear.

    Attributes:
        node: Name of the DequantizeLinear.
        name: Of the integers.
        integers: As they are.
        scale: float32, [] or [C].
        axis: That the scale runs along; None for one scale in all.

    """

    node: str
    name: str
    integers: Array
    scale: Array
    axis: int | None

    def scale_for(self, ndim: int) -> Array:
        """In a shape that broadcasts against the weight."""
        shape = [1] * ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return self.scale.reshape(shape)


class Stepper:
    """A model somewhere between its inputs and its outputs, for all batches of some samples.

    Args:
        model: Float, or with Q/DQ pairs.
        batches: Feeds, arrays by input name.
        open_model: Opens an ONNX file with some runtime.

    Raises:
        CalibrationError: A value that is no tensor stands between two pieces.

    """

    def __init__(self, model: OnnxModel, batches: Sequence[Arrays], open_model: OpenModel) -> None:
        ir_model = read_ir(model)
        infer_types(ir_model)
        load_weights(ir_model)  # the pieces are files in folders of their own
        self._name = model.path.name
        self._open_model = open_model
        self._shell = ir.serde.serialize_model(ir_model)
        self._shell.ClearField("graph")
        self._nodes = list(ir_model.graph)
        self._constants = dict(ir_model.graph.initializers)
        self._places = {str(node.name): index for index, node in enumerate(self._nodes)}
        own = {value for node in self._nodes for value in node.outputs} | set(ir_model.graph.inputs)
        own |= set(ir_model.graph.initializers.values())
        # What a branch computes for itself is read in it too.
        self._reads = [{str(value.name) for value in values_read(node) if value in own} for node in self._nodes]
        self._last_read = {name: index for index, names in enumerate(self._reads) for name in names}
        self._at = 0
        self._held: list[dict[str, Array]] = [dict(feeds) for feeds in batches]
        self.most_bytes = self._bytes()

    def until(self, node: str) -> None:
        """Runs all that stands before the node, and the node itself."""
        end = self._places[node] + 1
        if end <= self._at:
            return
        piece = self._nodes[self._at : end]
        read = set().union(*self._reads[self._at : end])
        self._at = end
        wanted = {str(value.name) for value in piece[-1].outputs if value.name}
        given = {str(value.name): value for one in piece for value in one.outputs if value.name}
        outputs = [value for name, value in given.items() if name in wanted or self._last_read.get(name, -1) >= end]
        inputs = [name for name in sorted(read - given.keys()) if name not in self._constants]
        with tempfile.TemporaryDirectory(prefix="edgeport-piece-") as folder:
            path = Path(folder) / self._name
            path.write_bytes(self._proto(piece, inputs, outputs, read).SerializeToString())
            with self._open_model(path) as run:
                for held in self._held:
                    held.update(run({name: held[name] for name in inputs}))
        for held in self._held:
            for name in [name for name in held if name not in wanted and self._last_read.get(name, -1) < end]:
                del held[name]
        self.most_bytes = max(self.most_bytes, self._bytes())

    def outputs_of(self, node: str) -> list[Array]:
        """The first output of the node that was run last, one array per batch."""
        name = str(self._nodes[self._places[node]].outputs[0].name)
        return [held[name] for held in self._held]

    def inputs_of(self, node: str, index: int = 0) -> list[Array]:
        """An input of a node that comes next (run `until` the one before it), one array per batch."""
        value = self._nodes[self._places[node]].inputs[index]
        return [held[str(value.name if value is not None else "")] for held in self._held]

    def before(self, node: str) -> None:
        """Runs all that stands before the node."""
        place = self._places[node]
        if place > self._at:
            self.until(str(self._nodes[place - 1].name))

    def change(self, node: str, to: Callable[[Array], Array]) -> None:
        """Puts other arrays in place of the first output of a node that was run last."""
        name = str(self._nodes[self._places[node]].outputs[0].name)
        for held in self._held:
            held[name] = to(held[name])

    def weight_of(self, node: str) -> StoredWeight:
        """The integers that are the weight of a node of a quantized model.

        Raises:
            CalibrationError: Its weight is not stored as symmetric integers.

        """
        value = self._nodes[self._places[node]].inputs[1]
        pair = value.producer() if value is not None else None
        inputs = [one for one in pair.inputs if one is not None] if pair is not None else []
        arrays = [constant_of(one) for one in inputs]
        if pair is None or pair.op_type != "DequantizeLinear" or len(arrays) != 3 or np.any(arrays[2]):
            raise CalibrationError(
                asked=f"look at the integers of {node!r}",
                found="a weight that is not stored as symmetric integers",
                fix="leave the recovery methods that change integers out for this model",
            )
        integers, scale = np.asarray(arrays[0]), np.asarray(arrays[1])
        axis = pair.attributes.get_int("axis", 1) if scale.ndim else None
        name = str(inputs[0].name)
        return StoredWeight(node=str(pair.name), name=name, integers=integers, scale=scale, axis=axis)

    def set_weight(self, stored: StoredWeight, integers: Array) -> None:
        """Puts other integers in place of a weight's, before its node is run."""
        tensor = ir.tensor(np.ascontiguousarray(integers.astype(stored.integers.dtype)), name=stored.name)
        self._constants[stored.name].const_value = tensor

    def _bytes(self) -> int:
        return sum(array.nbytes for held in self._held for array in held.values())

    def _proto(
        self, piece: Sequence[ir.Node], inputs: Sequence[str], outputs: Sequence[ir.Value], read: set[str]
    ) -> onnx.ModelProto:
        """The piece as a model of its own; its inputs have the dtypes and ranks of what is held."""
        model = onnx.ModelProto()
        model.CopyFrom(self._shell)
        graph = model.graph
        graph.name = "piece"
        for node in piece:
            graph.node.append(ir.serde.serialize_node(node))
        for name in sorted(read & self._constants.keys()):
            tensor = self._constants[name].const_value
            if tensor is not None:
                graph.initializer.append(ir.serde.serialize_tensor(tensor))
                graph.initializer[-1].name = name
        for name in inputs:
            array = self._held[0][name]
            if not isinstance(array, np.ndarray):
                raise CalibrationError(
                    asked=f"run {self._name} piece by piece",
                    found=f"{name!r}, which is no tensor but a {type(array).__name__}",
                    fix="leave the recovery methods that need samples out for this model",
                )
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim))
        for value in outputs:
            info = onnx.ValueInfoProto(name=str(value.name))
            if value.dtype is not None:
                info.type.tensor_type.elem_type = int(value.dtype)
            graph.output.append(info)
        return model
