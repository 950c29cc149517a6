"""LSTM and GRU as one ONNX operator each, which takes sequences of any length.

torch.export takes them apart step by step, so that the length of the example is fixed. While the module is captured,
they are calls of operators of ours, which nothing takes apart, and which are translated here.

Gates are ordered i, f, g, o in PyTorch and i, o, f, c in ONNX; r, z, n and z, r, h in a GRU, whose reset gate PyTorch
applies behind the product (`linear_before_reset`). See the ONNX operators LSTM and GRU, version 14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

__all__ = ["as_operators", "has_recurrence", "translations"]

_LSTM_ORDER, _GRU_ORDER = (0, 3, 1, 2), (1, 0, 2)
_NOT_TRAINING = False


def has_recurrence(module: Any) -> bool:
    """Some LSTM or GRU in the module can be kept whole."""
    import torch

    return any(isinstance(each, torch.nn.LSTM | torch.nn.GRU) and not each.proj_size for each in module.modules())


@contextmanager
def as_operators() -> Iterator[None]:
    """While it is entered, LSTM and GRU call operators of ours."""
    import torch

    lstm, gru = _operators()
    functions: Any = torch._VF  # noqa: SLF001 (where nn.LSTM looks it up)
    plain_lstm, plain_gru = functions.lstm, functions.gru

    def whole_lstm(x: Any, hidden: Any, weights: Any, bias: bool, *rest: Any) -> Any:
        layers, _, training, bidirectional, batch_first = rest if len(rest) == 5 else (0, 0, True, False, False)
        if training or x.ndim != 3 or hidden[0].shape[2] != hidden[1].shape[2]:
            return plain_lstm(x, hidden, weights, bias, *rest)
        return lstm(x, hidden[0], hidden[1], list(weights), bias, layers, bidirectional, batch_first)

    def whole_gru(x: Any, hidden: Any, weights: Any, bias: bool, *rest: Any) -> Any:
        layers, _, training, bidirectional, batch_first = rest if len(rest) == 5 else (0, 0, True, False, False)
        if training or x.ndim != 3:
            return plain_gru(x, hidden, weights, bias, *rest)
        return gru(x, hidden, list(weights), bias, layers, bidirectional, batch_first)

    functions.lstm, functions.gru = whole_lstm, whole_gru
    try:
        yield
    finally:
        functions.lstm, functions.gru = plain_lstm, plain_gru


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operators, and what writes them as ONNX; for torch.onnx.export."""
    import torch

    _operators()
    return {torch.ops.edgeport.lstm.default: _onnx_lstm, torch.ops.edgeport.gru.default: _onnx_gru}


@lru_cache(maxsize=1)
def _operators() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Defined once in a process."""
    import torch

    make: Any = torch.library.Library
    library = make("edgeport", "DEF")
    settings = "Tensor[] weights, bool bias, int layers, bool bidirectional, bool batch_first"
    library.define(f"lstm(Tensor x, Tensor h, Tensor c, {settings}) -> (Tensor, Tensor, Tensor)")
    library.define(f"gru(Tensor x, Tensor h, {settings}) -> (Tensor, Tensor)")
    functions: Any = torch._VF  # noqa: SLF001 (where nn.LSTM looks it up)
    plain_lstm, plain_gru = functions.lstm, functions.gru

    def lstm(x: Any, h: Any, c: Any, weights: Any, *rest: Any) -> Any:
        bias, layers, bidirectional, batch_first = rest
        return plain_lstm(x, (h, c), weights, bias, layers, 0.0, _NOT_TRAINING, bidirectional, batch_first)

    def gru(x: Any, h: Any, weights: Any, *rest: Any) -> Any:
        bias, layers, bidirectional, batch_first = rest
        return plain_gru(x, h, weights, bias, layers, 0.0, _NOT_TRAINING, bidirectional, batch_first)

    def hidden(x: Any, h: Any, bidirectional: bool) -> Any:
        return x.new_empty(x.shape[0], x.shape[1], h.shape[2] * (2 if bidirectional else 1))

    def lstm_shapes(x: Any, h: Any, c: Any, *rest: Any) -> Any:
        return hidden(x, h, rest[3]), torch.empty_like(h), torch.empty_like(c)

    def gru_shapes(x: Any, h: Any, *rest: Any) -> Any:
        return hidden(x, h, rest[3]), torch.empty_like(h)

    library.impl("lstm", lstm, "CPU")
    library.impl("gru", gru, "CPU")
    torch.library.register_fake("edgeport::lstm", lstm_shapes, lib=library)
    torch.library.register_fake("edgeport::gru", gru_shapes, lib=library)
    _operators.library = library  # type: ignore[attr-defined]  # it ends with its last reference
    return torch.ops.edgeport.lstm, torch.ops.edgeport.gru


def _onnx_lstm(x: Any, h: Any, c: Any, weights: Sequence[Any], *how: Any) -> Any:
    return _layers("LSTM", x, (h, c), weights, how)


def _onnx_gru(x: Any, h: Any, weights: Sequence[Any], *how: Any) -> Any:
    return _layers("GRU", x, (h,), weights, how)


def _layers(kind: str, x: Any, states: tuple[Any, ...], weights: Sequence[Any], how: Sequence[Any]) -> tuple[Any, ...]:
    """One node for each layer; x: [T, B, I], or [B, T, I] with batch first; states: [layers * directions, B, H]."""
    from onnxscript import opset20

    op: Any = opset20

    bias, layers, bidirectional, batch_first = how
    directions, each = 2 if bidirectional else 1, 4 if bias else 2
    size = int(weights[1].shape[1])
    order = _LSTM_ORDER if kind == "LSTM" else _GRU_ORDER
    direction = "bidirectional" if bidirectional else "forward"
    flow = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    last: list[list[Any]] = [[] for _ in states]
    for layer in range(layers):
        start = layer * directions
        own = [list(weights[(start + d) * each : (start + d + 1) * each]) for d in range(directions)]
        parts = [[_reordered(op, one, order) for one in direct] for direct in own]
        w, r = (_stacked(op, [direct[index] for direct in parts]) for index in (0, 1))
        b = _stacked(op, [op.Concat(direct[2], direct[3], axis=0) for direct in parts]) if bias else None
        begins = [_rows(op, state, start, start + directions) for state in states]
        if kind == "LSTM":
            y, *ends = op.LSTM(flow, w, r, b, None, *begins, hidden_size=size, direction=direction)
        else:
            y, *ends = op.GRU(
                flow, w, r, b, None, *begins, hidden_size=size, direction=direction, linear_before_reset=1
            )
        # [T, directions, B, H] to [T, B, directions * H]
        flow = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, directions * size]))
        for held, end in zip(last, ends, strict=True):
            held.append(end)
    whole = [op.Concat(*held, axis=0) if layers > 1 else held[0] for held in last]
    return (op.Transpose(flow, perm=[1, 0, 2]) if batch_first else flow, *whole)


def _reordered(op: Any, weight: Any, order: tuple[int, ...]) -> Any:
    gates = op.Split(weight, num_outputs=len(order), axis=0)
    return op.Concat(*(gates[index] for index in order), axis=0)


def _stacked(op: Any, each: Sequence[Any]) -> Any:
    """Each direction's along a new axis 0."""
    axis = op.Constant(value_ints=[0])
    parts = [op.Unsqueeze(one, axis) for one in each]
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)


def _rows(op: Any, state: Any, start: int, stop: int) -> Any:
    ends = [op.Constant(value_ints=[index]) for index in (start, stop, 0)]
    return op.Slice(state, *ends)
