"""How many multiplications and additions a node can't do without, by operator; of shapes alone, no weights are read.

Every count is a lower bound: a product with the zeros of a convolution's padding is left out (kernels skip them), and
so is whatever depends on the values of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["NodeContext", "factors", "operations"]

Shape = tuple[int, ...]

_CONTRIB = "com.microsoft"


class _UnknownError(Exception):
    """A shape, or a form of the operator, that no count can be given for."""


@dataclass(frozen=True, kw_only=True)
class NodeContext:
    """A node and what is known around it.

    Attributes:
        node: Of the graph.
        shapes: By tensor name; what is not known is not there.
        padding: Count products with the zeros of a convolution's padding too, as published figures do.

    """

    node: onnx.NodeProto
    shapes: Mapping[str, Shape]
    padding: bool = False

    def given(self, index: int) -> bool:
        """The input is there (optional ones may be left out)."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def input(self, index: int) -> Shape:
        """Shape of an input."""
        return self._shape(self.node.input[index] if self.given(index) else "")

    def output(self) -> Shape:
        """Shape of the first output."""
        return self._shape(self.node.output[0])

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value; text as str."""
        import onnx

        for one in self.node.attribute:
            if one.name == name:
                value = onnx.helper.get_attribute_value(one)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def _shape(self, name: str) -> Shape:
        if name not in self.shapes:
            raise _UnknownError(name)
        return self.shapes[name]


def operations(seen: NodeContext) -> int | None:
    """Multiplications plus additions (twice the multiply-adds); None for an operator or a form that isn't counted."""
    rule = _RULES.get((seen.node.domain, seen.node.op_type))
    if rule is None:
        return None
    try:
        return 2 * rule.count(seen)
    except (_UnknownError, IndexError, ValueError):
        return None


def factors(node: onnx.NodeProto) -> list[str]:
    """The inputs that are multiplied with each other: where a counted node has its weights."""
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None:
        return []
    indices = range(len(node.input)) if rule.factors is None else rule.factors
    return [node.input[index] for index in indices if index < len(node.input) and node.input[index]]


def _product(left: Shape, right: Shape) -> int:
    """numpy.matmul: one axis stands for a row on the left, for a column on the right; axes before the last two
    broadcast.
    """
    if not left or not right:
        raise _UnknownError
    rows, inner = (left[-2] if len(left) > 1 else 1), left[-1]
    columns = right[-1] if len(right) > 1 else 1
    if inner != (right[-2] if len(right) > 1 else right[0]):
        raise _UnknownError
    before = [left[:-2][::-1], right[:-2][::-1]]
    axes = [[axis[i] for axis in before if i < len(axis)] for i in range(max(map(len, before)))]
    return math.prod(max(sizes) if 0 not in sizes else 0 for sizes in axes) * rows * inner * columns


def _matmul(left: int, right: int) -> Callable[[NodeContext], int]:
    return lambda seen: _product(seen.input(left), seen.input(right))


def _gemm(left: int, right: int) -> Callable[[NodeContext], int]:
    def count(seen: NodeContext) -> int:
        a, b = seen.input(left), seen.input(right)
        return _product(a[::-1] if seen.attribute("transA", 0) else a, b[::-1] if seen.attribute("transB", 0) else b)

    return count


def _matmul_nbits(seen: NodeContext) -> int:
    rows = seen.input(0)
    inner, columns = int(seen.attribute("K", 0)), int(seen.attribute("N", 0))
    if not rows or rows[-1] != inner:
        raise _UnknownError
    return math.prod(rows) * columns


def _conv(data: int, weight: int) -> Callable[[NodeContext], int]:
    def count(seen: NodeContext) -> int:
        image, kernel, out = seen.input(data), seen.input(weight), seen.output()
        axes = len(kernel) - 2
        strides, dilations = seen.attribute("strides", [1] * axes), seen.attribute("dilations", [1] * axes)
        begins = _begins(seen, image[2:], kernel[2:], out[2:])
        taps = [
            out[2 + i] * kernel[2 + i]
            if seen.padding
            else _hits(out[2 + i], kernel[2 + i], image[2 + i], strides[i], dilations[i], begins[i])
            for i in range(axes)
        ]
        return out[0] * kernel[0] * kernel[1] * math.prod(taps)

    return count


def _conv_transpose(seen: NodeContext) -> int:
    """Each input value is multiplied with the whole kernel, but for what would land in the cropped border."""
    image, kernel, out = seen.input(0), seen.input(1), seen.output()
    axes = len(kernel) - 2
    strides, dilations = seen.attribute("strides", [1] * axes), seen.attribute("dilations", [1] * axes)
    extra = seen.attribute("output_padding", [0] * axes)
    pads = seen.attribute("pads", [0] * 2 * axes)
    mode = seen.attribute("auto_pad", "NOTSET")
    taps = []
    for i in range(axes):
        size, width, result = image[2 + i], kernel[2 + i], out[2 + i]
        begin = pads[i]
        if mode in ("SAME_UPPER", "SAME_LOWER") or seen.attribute("output_shape", None):
            total = strides[i] * (size - 1) + extra[i] + (width - 1) * dilations[i] + 1 - result
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        hits = _hits(size, width, result, strides[i], dilations[i], begin)
        taps.append(size * width if seen.padding else hits)
    return image[0] * kernel[0] * kernel[1] * math.prod(taps)


def _begins(seen: NodeContext, image: Shape, kernel: Shape, out: Shape) -> list[int]:
    """Zeros before the first value of each axis."""
    mode, axes = seen.attribute("auto_pad", "NOTSET"), len(kernel)
    if mode == "VALID":
        return [0] * axes
    if mode == "NOTSET":
        return list(seen.attribute("pads", [0] * 2 * axes))[:axes]
    strides, dilations = seen.attribute("strides", [1] * axes), seen.attribute("dilations", [1] * axes)
    totals = [max(0, (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - image[i]) for i in range(axes)]
    return [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]


def _hits(steps: int, taps: int, size: int, stride: int, dilation: int, begin: int) -> int:
    """Pairs of a step and a tap with 0 <= step * stride + tap * dilation - begin < size."""
    found = 0
    for tap in range(taps):
        shift = begin - tap * dilation
        first, last = max(0, -(-shift // stride)), min(steps - 1, (size - 1 + shift) // stride)
        found += max(0, last - first + 1)
    return found


def _recurrent(seen: NodeContext) -> int:
    """Per step and direction: the input and the hidden state, each times its weights.

    Sequences of lengths of their own (input 4) can't be counted. Without an initial state the first step has none to
    multiply.
    """
    if seen.given(4):
        raise _UnknownError
    data, kernel, recurrence = seen.input(0), seen.input(1), seen.input(2)
    steps, batch = (data[1], data[0]) if seen.attribute("layout", 0) else (data[0], data[1])
    later = steps if seen.given(5) else max(0, steps - 1)
    return batch * (steps * math.prod(kernel) + later * math.prod(recurrence))


def _einsum(seen: NodeContext) -> int:
    """Two factors, where no index could be summed away before they are multiplied."""
    equation = seen.attribute("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != 2 or "." in equation or any(len(set(term)) < len(term) for term in terms):
        raise _UnknownError
    shared = set(terms[0]) & set(terms[1])
    kept = set(right) if arrow else set(terms[0]) ^ set(terms[1])
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for name, size in zip(term, seen.input(index), strict=True):
            if sizes.setdefault(name, size) != size:
                raise _UnknownError
    if sizes.keys() - shared - kept or not shared - kept:  # summed before; or nothing is summed at all
        raise _UnknownError
    return math.prod(sizes.values())


def _attention(seen: NodeContext) -> int:
    """Queries times keys, and weights times values; a mask (input 3) or lengths (input 6) may leave any of it out."""
    if seen.given(3) or seen.given(6):
        raise _UnknownError
    query, key, value = seen.input(0), seen.input(1), seen.input(2)
    if len(query) == 3:
        heads, shared = int(seen.attribute("q_num_heads", 0)), int(seen.attribute("kv_num_heads", 0))
        query, key, value = (
            (shape[0], count, shape[1], shape[2] // count)
            for shape, count in ((query, heads), (key, shared), (value, shared))
        )
    batch, heads, rows, width = query
    columns = key[2]
    pairs = rows * columns
    if seen.attribute("is_causal", 0):
        pairs = sum(min(columns, row + 1) for row in range(rows))
    return batch * heads * pairs * (width + value[3])


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Multiply-adds of an operator, and which inputs are multiplied (None: all)."""

    count: Callable[[NodeContext], int]
    factors: tuple[int, ...] | None


_RULES: Mapping[tuple[str, str], _Rule] = MappingProxyType(
    {
        ("", "Attention"): _Rule(count=_attention, factors=(0, 1, 2)),
        ("", "Conv"): _Rule(count=_conv(0, 1), factors=(0, 1)),
        ("", "ConvInteger"): _Rule(count=_conv(0, 1), factors=(0, 1)),
        ("", "ConvTranspose"): _Rule(count=_conv_transpose, factors=(0, 1)),
        ("", "Einsum"): _Rule(count=_einsum, factors=None),
        ("", "Gemm"): _Rule(count=_gemm(0, 1), factors=(0, 1)),
        ("", "GRU"): _Rule(count=_recurrent, factors=(0, 1, 2)),
        ("", "LSTM"): _Rule(count=_recurrent, factors=(0, 1, 2)),
        ("", "MatMul"): _Rule(count=_matmul(0, 1), factors=(0, 1)),
        ("", "MatMulInteger"): _Rule(count=_matmul(0, 1), factors=(0, 1)),
        ("", "QLinearConv"): _Rule(count=_conv(0, 3), factors=(0, 3)),
        ("", "QLinearMatMul"): _Rule(count=_matmul(0, 3), factors=(0, 3)),
        ("", "RNN"): _Rule(count=_recurrent, factors=(0, 1, 2)),
        (_CONTRIB, "DynamicQuantizeMatMul"): _Rule(count=_matmul(0, 1), factors=(0, 1)),
        (_CONTRIB, "MatMulIntegerToFloat"): _Rule(count=_matmul(0, 1), factors=(0, 1)),
        (_CONTRIB, "MatMulNBits"): _Rule(count=_matmul_nbits, factors=(0, 1)),
        (_CONTRIB, "QGemm"): _Rule(count=_gemm(0, 3), factors=(0, 3)),
    }
)
"""By domain and type. The contrib operators are those that ONNX Runtime's own tools write (its ContribOperators.md)."""
