"""From a module to an ExportedProgram, by the ways that the options allow."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeport.contracts import Arrays
from edgeport.exporter.input_binding import Binding
from edgeport.exporter.options import Capture, ExportOptions
from edgeport.exporter.output_naming import name_outputs

if TYPE_CHECKING:
    import torch

__all__ = ["CaptureFailed", "Captured", "capture", "free_axes", "tensors_only"]

_WAYS = {Capture.AUTO: (False, True), Capture.STRICT: (True,), Capture.NON_STRICT: (False,)}
"""Non-strict first: it takes more Python. Strict knows the line where a free axis was fixed."""


class CaptureFailed(Exception):
    """Every way failed; `failures` has one exception per way."""

    def __init__(self, failures: list[Exception]) -> None:
        super().__init__(failures)
        self.failures = failures


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A captured model.

    Attributes:
        program: The ExportedProgram.
        way: "non-strict" or "strict".
        failures: What the ways before it said.

    """

    program: torch.export.ExportedProgram
    way: str
    failures: tuple[Exception, ...] = ()


def capture(
    module: torch.nn.Module, binding: Binding, feeds: Arrays, axes: Mapping[str, Mapping[int, Any]], way: Capture
) -> Captured:
    """Walks the module once per allowed way, until one works.

    Args:
        module: In evaluation mode.
        binding: Which feed goes where.
        feeds: An example; axis 0 at least 2 where the batch is free.
        axes: Feed to index to `torch.export.Dim`, as `free_axes` gives.
        way: Which ways are allowed.

    Raises:
        CaptureFailed: None worked.

    """
    import torch

    args, kwargs = binding.tensors(feeds)
    failures: list[Exception] = []
    for strict in _WAYS[way]:
        try:
            with torch.no_grad():
                program = torch.export.export(
                    module, args, kwargs=kwargs, dynamic_shapes=binding.shapes(axes), strict=strict
                )
        except Exception as error:  # noqa: BLE001 (torch raises anything, and so does the user's forward)
            failures.append(error)
            continue
        _forget_strides(program)
        return Captured(program=program, way="strict" if strict else "non-strict", failures=tuple(failures))
    raise CaptureFailed(failures)


@contextmanager
def tensors_only(module: torch.nn.Module) -> Iterator[None]:
    """While it is entered, `forward` returns its tensors alone: ONNX has no word for a number of Python."""
    forward: Any = module.forward

    @functools.wraps(forward)
    def filtered(*args: Any, **kwargs: Any) -> list[torch.Tensor]:
        return list(name_outputs(forward(*args, **kwargs)).values())

    module.forward = filtered
    try:
        yield
    finally:
        del module.forward


def _forget_strides(program: torch.export.ExportedProgram) -> None:
    """Keeps strides that were seen while capturing from being relied on later.

    The conversion takes attention apart, which changes the strides of its result, and then refuses views of it
    (torch 2.13: "Cannot view a tensor with shape ..."). ONNX knows no strides: a reshape does for a view, and the
    copy behind attention leaves nothing in the file.
    """
    import torch

    aten = torch.ops.aten
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in module.graph.find_nodes(op="call_function", target=aten.view.default):
            node.target = aten.reshape.default
        for node in module.graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default):
            if not any(user.op == "output" for user in node.users):
                _copy_behind(node)
        module.recompile()


def _copy_behind(node: torch.fx.Node) -> None:
    import torch

    contiguous: dict[str, Any] = {"memory_format": torch.contiguous_format}
    with node.graph.inserting_after(node):
        copy = node.graph.call_function(torch.ops.aten.clone.default, (node,), contiguous)
    copy.meta = {**node.meta, "val": node.meta["val"].clone(**contiguous)}
    node.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)


def free_axes(feeds: Arrays, options: ExportOptions, *, batch: bool) -> dict[str, dict[int, Any]]:
    """Feed to axis index to `torch.export.Dim`; equal names are one axis."""
    from torch.export import Dim

    dims: dict[str, Any] = {}

    def axis(name: str) -> Any:
        factor, _, root = name.rpartition("*")
        low, high = options.axis_ranges.get(root, (None, None))
        dim = dims.setdefault(root, Dim(root, min=low, max=high))
        return int(factor) * dim if factor else dim

    states = set(options.state.values())
    free: dict[str, dict[int, Any]] = {
        name: {0: axis("batch")} if batch and name not in states else {} for name in feeds
    }
    for name, more in options.dynamic_axes.items():
        free[name] |= {index: axis(label) for index, label in more.items() if batch or label != "batch"}
    return free
