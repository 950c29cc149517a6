"""A TensorRT engine from ONNX, and why a parser refuses one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeport.backends.tensorrt.engine_options import Range
from edgeport.backends.tensorrt.runtime import TensorRt
from edgeport.backends.tensorrt.session import UnbuildableError, add_profiles, keep_timings, use_timings
from edgeport.contracts import OnnxModel, TensorSpec
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import node_module, read_ir

__all__ = ["BuiltEngine", "BuiltLayer", "EngineFromOnnx"]


@dataclass(frozen=True, kw_only=True)
class BuiltLayer:
    """One layer of the parsed network.

    Attributes:
        name: The ONNX node's, where the layer comes from one.
        operator: TensorRT's layer type ("CONVOLUTION").
        takes: What its first input is ("int8 numbers, dequantized", "float8 numbers, dequantized", "float32 numbers").

    """

    name: str
    operator: str
    takes: str


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """A serialised engine.

    Attributes:
        data: Its bytes; two builds of one model differ.
        layers: Of the network that it was built from.
        profiles: Each is of inputs with an open axis to their lowest, best and highest shape; none without such inputs.

    """

    data: bytes
    layers: tuple[BuiltLayer, ...]
    profiles: tuple[Mapping[str, tuple[tuple[int, ...], ...]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineFromOnnx:
    """Parses and builds one model.

    Attributes:
        tensorrt: The runtime.
        target: Compute capabilities to build for ("8.6", "8.6+8.9").
        batch: Largest and best batch size; smaller ones run too.
        axes: Ranges of open axes by name, one for each optimisation profile or one for all; the batch has 1..`batch`
            where it is not named.
        flags: See `session.configure`.
        about: What kernels' times that are kept are of: runtime, version, GPU, driver and flags.

    """

    tensorrt: TensorRt
    target: str
    batch: int
    axes: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list, repr=False)

    def __call__(self, model: OnnxModel) -> BuiltEngine:
        """The engine.

        Raises:
            UnsupportedByBackend: An operator or a form of one that TensorRT does not have, whose node is named; or no
                such DLA core.
            BackendError: It parsed, but could not be built.

        """
        module = self.tensorrt.module
        logger = self.tensorrt.logger(self._said.append)
        builder = module.Builder(logger)
        if builder is None:
            raise self._failed(model)
        network = self.tensorrt.network(builder)
        parser = module.OnnxParser(network, logger)
        if not parser.parse_from_file(str(model.path)):
            raise _refused(model, [parser.get_error(index) for index in range(parser.num_errors)])
        try:
            config = self.tensorrt.config(builder, self.target, self.flags)
        except UnbuildableError as error:
            asked, found, fix = error.parts
            raise UnsupportedByBackend(
                asked=f"build an engine of {model.path.name}: {asked}", found=found, fix=fix
            ) from error
        profiles = self._profiles(model.inputs)
        add_profiles(builder, config, profiles)
        use_timings(module, config, self.about)
        data = builder.build_serialized_network(network, config)
        if data is None:
            raise self._failed(model)
        keep_timings(module, config, self.about)
        return BuiltEngine(data=bytes(data), layers=_layers(network), profiles=profiles)

    def _profiles(self, inputs: Sequence[TensorSpec]) -> tuple[dict[str, tuple[tuple[int, ...], ...]], ...]:
        """Lowest, best and highest shape of each input with an open axis, profile by profile."""
        opened = [spec for spec in inputs if spec.dynamic_axes]
        named = {size for spec in opened for size in spec.shape if isinstance(size, str)}
        absent = sorted(set(self.axes) - named)
        if absent:
            raise UnsupportedByBackend(
                asked=f"build an engine with sizes of the axis {absent[0]!r}",
                found=f"open axes {', '.join(sorted(named))}" if named else "no open axis in its inputs",
                fix="name an axis of an input as the model calls it, or leave its sizes out",
            )
        count = max(map(len, self.axes.values()), default=1)
        profiles = []
        for number in range(count if opened else 0):
            sizes = {spec.name: [self._sizes(spec, axis, number) for axis in range(len(spec.shape))] for spec in opened}
            profiles.append(
                {name: tuple(tuple(size[place] for size in of) for place in range(3)) for name, of in sizes.items()}
            )
        return tuple(profiles)

    def _sizes(self, spec: TensorSpec, axis: int, profile: int) -> Range:
        size = spec.shape[axis]
        if not isinstance(size, str):
            return size, size, size
        if size in self.axes:
            ranges = self.axes[size]
            return ranges[profile if len(ranges) > 1 else 0]
        if axis == 0:
            return 1, self.batch, self.batch
        raise UnsupportedByBackend(
            asked=f"build an engine for input {spec.name!r} of shape {list(spec.shape)}",
            found=f"no range of sizes for its axis {size!r}; an engine needs one",
            fix=f"give one (runtime device GPU:axis.{size}=LOW/BEST/HIGH), or export the model with that axis fixed",
        )

    def _failed(self, model: OnnxModel) -> BackendError:
        return BackendError(
            asked=f"build an engine of {model.path.name} for compute capability {self.target}",
            found=self._said[-1] if self._said else f"that {self.tensorrt.name} gave no engine and no reason",
            fix="see what TensorRT says; the same file runs on other backends",
            details={"log": self._said[-10:]},
        )


def _layers(network: Any) -> tuple[BuiltLayer, ...]:
    """Of the parsed network, each with what it is handed.

    In the network everything between Q and DQ is float; that a layer's input was dequantized just before is what lets
    TensorRT take an integer kernel for it.
    """
    integers: dict[str, str] = {}
    stored: dict[str, str] = {}
    built = []
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        operator = str(layer.type).rpartition(".")[2]
        first = layer.get_input(0) if layer.num_inputs else None
        quantized = integers.get(str(first.name), "") if first is not None else ""
        kind = _TYPE_NAMES.get(str(first.dtype).rpartition(".")[2], str(first.dtype)) if first is not None else ""
        if operator == "DEQUANTIZE" or (operator == "SHUFFLE" and quantized):
            narrow = kind if operator == "DEQUANTIZE" else quantized
            integers.update((str(layer.get_output(index).name), narrow) for index in range(layer.num_outputs))
        takes = f"{quantized} numbers, dequantized" if quantized else f"{kind} numbers" if kind else ""
        width = kind if operator == "DEQUANTIZE" else stored.get(str(first.name), "") if first is not None else ""
        if operator in ("DEQUANTIZE", "SHUFFLE") and width:
            stored[str(layer.get_output(0).name)] = width
        second = layer.get_input(1) if layer.num_inputs > 1 else None
        if takes and not quantized and second is not None and str(second.name) in stored:
            takes += f", and weights of {stored[str(second.name)]}, dequantized"
        built.append(BuiltLayer(name=str(layer.name), operator=operator, takes=takes))
    return tuple(built)


_TYPE_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT4": "int4",
    "FP8": "float8",
    "BOOL": "boolean",
}


def _refused(model: OnnxModel, errors: Sequence[Any]) -> UnsupportedByBackend:
    """The parser's first complaint, with the node and the PyTorch module that it is about."""
    if not errors:
        return UnsupportedByBackend(
            asked=f"parse {model.path.name} with TensorRT",
            found="that it was refused without a reason",
            fix="export the model again with opset 20",
        )
    first = errors[0]
    name, operator = _said(first, "node_name"), _said(first, "node_operator")
    node = next((node for node in read_ir(model).graph if node.name == name), None)
    module = node_module(node) if node is not None else ""
    operator = operator or (node.op_type if node is not None else "an operator")
    where = f"node {name!r}" + (f" (module {module!r})" if module else "")
    description = _said(first, "desc")
    # What it says is the text of the check that failed, which may be no more than "false".
    told = description if description.strip("() ") != "false" else "its parser does not take it"
    return UnsupportedByBackend(
        asked=f"parse {model.path.name} with TensorRT",
        found=f"{where} uses {operator}: {told}",
        fix=_next_step(operator, description),
        details={
            "nodes": [_said(error, "node_name") for error in errors],
            "operators": [_said(error, "node_operator") for error in errors],
        },
    )


def _next_step(operator: str, description: str) -> str:
    """What to do about a complaint, where its words say enough."""
    if "zero point" in description.lower():
        return "plan again in the dialect 'tensorrt': symmetric int8, zero point 0"
    if "Plugin not found" in description:
        return f"write that module without {operator}, or leave TensorRT out; it is no operator of its parser"
    return "write that module in another way, or leave TensorRT out"


def _said(error: Any, what: str) -> str:
    """What a parser error says; older versions say less."""
    method = getattr(error, what, None)
    return str(method()) if method is not None else ""
