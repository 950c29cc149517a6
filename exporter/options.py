"""How to export, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgeport.contracts import OnnxModel
from edgeport.errors import ContractError

__all__ = ["Capture", "ExportOptions", "ExportResult", "ModuleNodes"]

OPSETS = range(18, 24)
"""What torch.onnx of 2.11 and later writes; 20 by default, 18 for old consumers."""

_AXIS = re.compile(r"([1-9]\d*\*)?[A-Za-z_]\w*")


class Capture(StrEnum):
    """How torch.export walks through the model."""

    AUTO = "auto"
    """Non-strict, and strict where that fails."""
    STRICT = "strict"
    """TorchDynamo reads the bytecode: sound, but refuses more Python."""
    NON_STRICT = "non-strict"
    """Python runs the model on traced tensors."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Settings of an export.

    Attributes:
        opset: Of the default ONNX domain.
        dynamic_batch: Axis 0 of every input is free; else the batch of the example is fixed.
        static_batch_fallback: Where the model itself fixes the batch, export it so and say it in the notes,
            instead of raising.
        capture: How torch.export walks through the model.
        allow_legacy_exporter: Where torch.export fails, use the older TorchScript exporter and say so.
        parameters: Name of a feed to the parameter of `forward` that it is for. Empty where feeds are named as
            the parameters, or come in their order.
        output_names: In the order of the flattened outputs; empty for `output`, `output_0` or the dict's keys.
        dynamic_axes: More free axes: name of a feed to axis index to the axis' name. "32*height" says that
            only multiples of 32 are allowed. Equal names are one axis, in whichever inputs they stand; "batch" is
            axis 0 of what samples feed.
        axis_ranges: Smallest and largest size of a free axis, by its name without the factor.
        state: Output to the input that it feeds on the next call; such an input has no batch as axis 0.
        constants: Parameter of `forward` to the value that it is always handed, JSON values; they are no inputs.

    """

    opset: int = 20
    dynamic_batch: bool = True
    static_batch_fallback: bool = False
    capture: Capture = Capture.AUTO
    allow_legacy_exporter: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    axis_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ContractError(
                asked=f"export to opset {self.opset}",
                found=f"that PyTorch writes {OPSETS.start} to {OPSETS.stop - 1}",
                fix="use 20, or 18 for old runtimes",
            )
        for name, axes in self.dynamic_axes.items():
            for index, axis in axes.items():
                least = 0 if name in self.state.values() else 1
                if index < least or not _AXIS.fullmatch(axis):
                    raise ContractError(
                        asked=f"leave axis {index} of {name!r} free as {axis!r}",
                        found="an index below 1 or no name",
                        fix="count axes from 1 (0 is the batch), and name them like 'height' or '32*height'",
                    )
        for axis, (low, high) in self.axis_ranges.items():
            if not 1 <= low < high:
                raise ContractError(
                    asked=f"leave the axis {axis!r} free",
                    found=f"the range {low} to {high}",
                    fix="give the smaller size first, 1 or more",
                )
        if len(set(self.output_names)) != len(self.output_names):
            raise ContractError(
                asked=f"name the outputs {self.output_names}", found="a name twice", fix="give each its own name"
            )


@dataclass(frozen=True, kw_only=True)
class ModuleNodes:
    """What became of one PyTorch module.

    Attributes:
        module: Its path ("layer1.0.conv1"); empty for the model's own forward.
        operators: ONNX operator to how many nodes of it.

    """

    module: str
    operators: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """An exported model.

    Attributes:
        model: The ONNX file.
        exporter: "torch.export" or "TorchScript".
        capture: How it was captured ("non-strict", "strict"; empty for TorchScript).
        notes: What a reader must know, one sentence each.
        modules: The PyTorch modules in the order of the graph, and the nodes that came from them.
        seconds: Wall-clock seconds by step ("capture", "convert", "optimize", "write").

    """

    model: OnnxModel
    exporter: str
    capture: str = ""
    notes: tuple[str, ...] = ()
    modules: tuple[ModuleNodes, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = 1
