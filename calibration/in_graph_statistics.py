"""A model that sums up its large inner tensors by itself, in a temporary copy.

Extremes, and the values that are counted, are found by nodes beside the model's own. So a large tensor is neither
copied out of the runtime nor kept until all the others are computed.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeport.calibration.intermediate_outputs import add_node, add_output, inner, open_edited
from edgeport.calibration.observers.histogram import every
from edgeport.calibration.observers.summary import Summary
from edgeport.contracts import Arrays, OnnxModel, OpenModel, RunModel
from edgeport.errors import EdgeportError

__all__ = ["CallOutputs", "CallStatistics", "StatisticsModel", "SummaryConfig", "can_sum_up", "start_of"]

_FIRST_OPSET = 13
"""Since then the axes of ReduceSum are an input."""
_AXES_OPSET = 18
"""Since then those of ReduceMin and ReduceMax are."""
_ROWS = "edgeport.ragged"
_START = "edgeport.start_"
_START_VALUES = 4096
"""Of each input, in which `start_of` finds a number."""
_ENDS, _SHAPE, _COUNTED = (f"#edgeport.{what}" for what in ("lowest.highest.sum", "shape", "counted"))


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """How a tensor is summed up.

    Attributes:
        by_sample: Axis 0 counts samples, or a multiple of them; else the whole tensor counts as one sample.
        step: From one value that is given away to the next, within a sample; 0 for none.
        most: Values of a sample that are given away; what the step is found by, see `every`.

    """

    by_sample: bool
    step: int = 0
    most: int = 0


@dataclass(frozen=True, kw_only=True)
class CallStatistics:
    """What one call told.

    Attributes:
        arrays: Tensors as they are, feeds among them, by name.
        summaries: Of the others, by name.
        start: As `thinned` takes it, for what is still to be counted.

    """

    arrays: Arrays
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    start: int = 0


def can_sum_up(model: OnnxModel) -> bool:
    """Whether the operators that this takes are in the model's opset."""
    return model.opset >= _FIRST_OPSET


@dataclass(kw_only=True)
class CallOutputs:
    """What a runtime told of one call; it does not hold the opened model, or only by what was raised.

    Attributes:
        opening: How often the model had been opened anew before.
        start: As in `CallStatistics`.
        outputs: Its outputs.
        error: What was raised instead.

    """

    opening: int
    start: int
    outputs: Arrays = field(default_factory=dict)
    error: EdgeportError | None = None


class StatisticsModel:
    """A model that is opened so that some tensors are returned and others summed up.

    Where a tensor can't be summed up after all (a value that is not finite, samples of other sizes, no values at all),
    the model is opened anew, and from then on returns that tensor.

    Args:
        model: Its file is only read.
        names: Tensors to tell of; those of inputs are known anyway.
        looks: How those of them are summed up that are not to be returned.
        open_model: Opens an ONNX file with some runtime.
        folder: For temporary files.
        moves: Whether other values are counted in each call, see `start_of`.

    """

    def __init__(
        self,
        model: OnnxModel,
        names: Sequence[str],
        looks: Mapping[str, SummaryConfig],
        open_model: OpenModel,
        folder: Path,
        *,
        moves: bool = False,
    ) -> None:
        self._model = model
        self._names = names
        self._looks = {name: looks[name] for name in names if name in looks}
        self._open_model = open_model
        self._folder = folder
        self._moves = moves
        self._stack = contextlib.ExitStack()
        self._opening = 0
        self._run = self._opened()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the model."""
        self._close()

    def see(self, feeds: Arrays, samples: int) -> CallStatistics:
        """One call.

        Args:
            feeds: Of the model.
            samples: In the feeds.

        Raises:
            EdgeportError: What the runtime raises.

        """
        return self.seen(self.call(feeds, samples), feeds, samples)

    def call(self, feeds: Arrays, samples: int) -> CallOutputs:
        """What the runtime tells of a call; several threads may be here at once, and nothing is raised."""
        start = start_of(feeds) if self._moves else 0
        told = CallOutputs(opening=self._opening, start=start)
        asked = {f"{_START}{step}": np.array([start % step], np.int64) for step in self._steps()}
        if self._by_sample():
            asked[_ROWS] = np.array([samples, -1], np.int64)
        try:
            told.outputs = self._run({**feeds, **asked})
        except EdgeportError as error:
            told.error = error
        return told

    def seen(
        self, told: CallOutputs, feeds: Arrays, samples: int, settle: Callable[[], object] = bool
    ) -> CallStatistics:
        """What `call` told of the same feeds.

        Args:
            told: By `call`, which is asked again where the model was opened anew since.
            feeds: Of the model.
            samples: In the feeds.
            settle: Waits until nobody is in `call` any more; before the model is opened anew.

        Raises:
            EdgeportError: What the runtime raised.

        """
        while True:
            if told.opening != self._opening:
                told = self.call(feeds, samples)
            unfit: Sequence[str]
            if told.error is not None:
                if not self._looks:
                    raise told.error
                unfit = list(self._looks)  # it may be a tensor without values, which has no extremes
            else:
                outputs = told.outputs
                seen = _summaries(outputs, self._looks, samples)
                unfit = [name for name, summary in seen.items() if summary is None]
                if not unfit:
                    arrays = {name: array for name, array in outputs.items() if "#edgeport." not in name}
                    summaries = {name: summary for name, summary in seen.items() if summary is not None}
                    return CallStatistics(arrays={**feeds, **arrays}, summaries=summaries, start=told.start)
            settle()
            told.error = None  # its traceback holds the model that is closed now
            for name in unfit:
                del self._looks[name]
            self._close()
            self._opening += 1
            self._run = self._opened()

    def _close(self) -> None:
        del self._run  # the runtime's memory lives as long as this
        self._stack.close()

    def _by_sample(self) -> bool:
        return any(look.by_sample for look in self._looks.values())

    def _steps(self) -> set[int]:
        return {look.step for look in self._looks.values() if look.step}

    def _opened(self) -> RunModel:
        fed = {spec.name for spec in self._model.inputs}
        if not self._model.state and fed.issuperset(self._names):
            return lambda _: {}  # nothing is asked of the model
        return self._stack.enter_context(open_edited(self._model, self._edit, self._open_model, self._folder))

    def _edit(self, graph: ir.Graph) -> None:
        kept = set(self._model.state) | (set(self._names) - set(self._looks))
        values = inner(graph, self._names)
        outputs = [value for value in graph.outputs if value.name in kept]
        outputs += [value for value in values if value.name in kept and value not in outputs]
        graph.outputs[:] = outputs
        if not self._looks:
            return
        rows = _integers(_ROWS, 2)
        if self._by_sample():
            graph.inputs.append(rows)
        starts = {step: _integers(f"{_START}{step}", 1) for step in sorted(self._steps())}
        graph.inputs.extend(starts.values())
        one_row = _constant(graph, "edgeport.one_row", [1, -1])
        for value in values:
            look = self._looks.get(value.name or "")
            if look is not None:
                flat = _sum_up(graph, value, rows if look.by_sample else one_row, self._model.opset)
                if look.step:
                    _pick(graph, value, flat, starts[look.step], look.step)


def start_of(feeds: Arrays) -> int:
    """Where to begin to count in a call: any number, which depends on nothing but what is fed."""
    found = 0
    for array in feeds.values():
        if array.dtype.kind in "fiub":
            some = array.reshape(-1)[:: 1 + array.size // _START_VALUES]
            found = zlib.crc32(some.tobytes(), found)
    return found


def _integers(name: str, count: int) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([count]))


def _sum_up(graph: ir.Graph, value: ir.Value, rows: ir.Value, opset: int) -> ir.Node:
    """What gives the tensor as rows, which are summed up behind it."""
    axes = _constant(graph, "edgeport.axes", [1])
    flat = ir.node("Reshape", [value, rows], name=f"{value.name}#edgeport.ragged")
    flat.outputs[0].name = flat.name
    add_node(graph, value.producer(), flat)
    ends = [
        _extreme("ReduceMin", flat.outputs[0], axes, opset),
        _extreme("ReduceMax", flat.outputs[0], axes, opset),
        # For NaN: an extreme need not show one (the ONNX specification leaves that open), but a sum does.
        ir.node("ReduceSum", [flat.outputs[0], axes], attributes={"keepdims": 0}),
    ]
    add_output(graph, flat, ir.node("Shape", [value]), f"{value.name}{_SHAPE}", ir.DataType.INT64)
    # One output: to hand over three takes longer than to put them into one.
    together = ir.node("Concat", [end.outputs[0] for end in ends], attributes={"axis": 0})
    add_output(graph, flat, together, f"{value.name}{_ENDS}", ir.DataType.FLOAT)
    for node in ends:
        add_node(graph, flat, node)
    return flat


def _pick(graph: ir.Graph, value: ir.Value, flat: ir.Node, start: ir.Value, step: int) -> None:
    behind = _constant(graph, "edgeport.behind", [np.iinfo(np.int64).max])
    axes, steps = (
        _constant(graph, f"edgeport.{name}", [number]) for name, number in (("axes", 1), (f"step_{step}", step))
    )
    node = ir.node("Slice", [flat.outputs[0], start, behind, axes, steps])
    add_output(graph, flat, node, f"{value.name}{_COUNTED}", ir.DataType.FLOAT)


def _extreme(operator: str, rows: ir.Value, axes: ir.Value, opset: int) -> ir.Node:
    if opset < _AXES_OPSET:
        return ir.node(operator, [rows], attributes={"keepdims": 0, "axes": [1]})
    return ir.node(operator, [rows, axes], attributes={"keepdims": 0})


def _constant(graph: ir.Graph, name: str, values: Sequence[int]) -> ir.Value:
    if name not in graph.initializers:
        tensor = ir.tensor(np.array(values, np.int64), name=name)
        graph.register_initializer(ir.Value(name=name, const_value=tensor))
    return graph.initializers[name]


def _summaries(outputs: Arrays, looks: Mapping[str, SummaryConfig], samples: int) -> dict[str, Summary | None]:
    """Of each tensor what sums it up; None where that does not say what the tensor itself would have."""
    if not looks:
        return {}
    # A copy, since small arrays that are kept would lie scattered over the runtime's memory; and to look at all of them
    # at once takes a fraction of what looking at each does.
    together = np.concatenate([outputs[f"{name}{_ENDS}"] for name in looks])
    finite, at, found = bool(np.isfinite(together).all()), 0, {}
    for name, look in looks.items():
        rows = samples if look.by_sample else 1
        ends = together[at : at + 3 * rows].reshape(3, rows)
        at += ends.size
        # A sum of large values is infinite, of a mask for example, and hides nothing.
        fits = finite or (np.isfinite(ends[:2]).all() and not np.isnan(ends[2]).any())
        found[name] = _summary(outputs, name, look, ends) if fits else None
    return found


def _summary(outputs: Arrays, name: str, look: SummaryConfig, ends: NDArray[np.float32]) -> Summary | None:
    """`ends` are float32 [3, rows]: the lowest and the highest value, and the sum of each."""
    shape: list[int] = outputs[f"{name}{_SHAPE}"].tolist()
    rows, values = ends.shape[1], math.prod(shape)
    if look.by_sample and (not shape or shape[0] % rows):
        return None
    if look.step and every(values // rows, look.most) != look.step:
        return None
    counted = outputs[f"{name}{_COUNTED}"].reshape(-1) if look.step else None
    return Summary(lowest=ends[0], highest=ends[1], values=values, counted=counted)
