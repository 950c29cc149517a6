"""Named arrays into `forward`, and whatever it returns into named arrays."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array, Arrays
from edgeport.errors import ExportError, SamplesError

if TYPE_CHECKING:
    import torch

__all__ = ["Binding", "bind_feeds", "name_outputs", "reference_outputs", "run_eagerly"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Which feed goes to which parameter of `forward`.

    Attributes:
        feeds: Names of the feeds, in the order in which `forward` takes them.
        keywords: Parameter of each feed where they are handed over by keyword; empty where by position.
        variadic: Index of the first feed that falls into `*args`; None where there is none.

    """

    feeds: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    variadic: int | None = None

    def tensors(self, feeds: Arrays) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and keyword arguments of `forward`."""
        import torch

        # A copy: arrays that come from a file may be read-only, which torch warns of.
        values = tuple(torch.from_numpy(np.array(feeds[name], order="C")) for name in self.feeds)
        if self.keywords:
            return (), dict(zip(self.keywords, values, strict=True))
        return values, {}

    def shapes(self, axes: Mapping[str, Mapping[int, Any]]) -> Any:
        """`dynamic_shapes` of torch.export, which mirrors the arguments."""
        each = tuple(dict(axes.get(name, {})) for name in self.feeds)
        if self.keywords:
            return dict(zip(self.keywords, each, strict=True))
        return each if self.variadic is None else (*each[: self.variadic], each[self.variadic :])


def bind_feeds(module: torch.nn.Module, feeds: Arrays, parameters: Mapping[str, str]) -> Binding:
    """Finds the parameter of each feed: as told, by equal names, or else in order.

    Args:
        module: Its `forward` is looked at.
        feeds: Arrays by input name.
        parameters: Feed to parameter; empty where names or order say it.

    Raises:
        SamplesError: Too many or too few, or a parameter that is not there.

    """
    signature = _signature(module)
    known = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in signature.parameters.values())
    asked = f"feed {', '.join(feeds)} to {type(module).__name__}.forward{signature}"
    if parameters and (set(parameters) != set(feeds) or not set(parameters.values()) <= set(known)):
        raise SamplesError(
            asked=asked,
            found=f"the map {dict(parameters)}",
            fix=f"name each feed once, with one of the parameters {', '.join(known)}",
        )
    positional = [parameter for parameter in known.values() if parameter.kind in _POSITIONAL]
    chosen = dict(parameters) or {name: name for name in feeds}
    required = {name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty}
    if set(chosen.values()) <= set(known):
        missing = required - set(chosen.values())
        if missing:
            raise SamplesError(
                asked=asked, found=f"nothing for {', '.join(sorted(missing))}", fix="add it to the samples"
            )
        order = list(known)
        names, keywords = zip(*sorted(chosen.items(), key=lambda item: order.index(item[1])), strict=True)
        # By position where there is no gap: a module out of a .pt2 file insists on how it was called.
        in_order = list(keywords) == [parameter.name for parameter in positional[: len(keywords)]]
        return Binding(feeds=tuple(names), keywords=() if in_order else tuple(keywords))
    _refuse_strangers(asked, list(feeds), list(known), variadic=variadic)
    fits = len(feeds) >= len(required) and (variadic or len(feeds) <= len(positional))
    if not fits or required - {parameter.name for parameter in positional}:
        raise SamplesError(
            asked=asked,
            found=f"{len(feeds)} {'array' if len(feeds) == 1 else 'arrays'} for "
            f"{_counted(len(required), len(positional), variadic=variadic)}, and no name that is one of its parameters",
            fix=f"name the arrays as the parameters of forward ({', '.join(known)}); name labels, which are no input, "
            "with --target",
        )
    return Binding(feeds=tuple(feeds), variadic=len(positional) if variadic else None)


def _signature(module: torch.nn.Module) -> inspect.Signature:
    """Of `forward`; of TorchScript, which hides it from Python, its schema without `self`."""
    import torch

    if not isinstance(module, torch.jit.ScriptModule):
        return inspect.signature(module.forward)
    forward: Any = module.forward
    arguments = forward.schema.arguments[1:]
    return inspect.Signature(
        [
            inspect.Parameter(
                each.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=each.default_value if each.has_default_value() else inspect.Parameter.empty,
            )
            for each in arguments
        ]
    )


def _refuse_strangers(asked: str, feeds: list[str], known: list[str], *, variadic: bool) -> None:
    """Where some arrays are named as parameters, the others are no inputs: in order, labels would become a mask."""
    fitting = [name for name in feeds if name in known]
    strangers = [name for name in feeds if name not in known]
    if not fitting or (variadic and all(feeds.index(name) == known.index(name) for name in fitting)):
        return
    raise SamplesError(
        asked=asked,
        found=f"that {', '.join(strangers)} {'fits' if len(strangers) == 1 else 'fit'} no input; "
        f"{', '.join(fitting)} {'does' if len(fitting) == 1 else 'do'}",
        fix=f"if {strangers[0]} holds labels, say --target {strangers[0]} (target in a recipe); else name it as one "
        f"of {', '.join(known)}, or leave it out",
        details={"strangers": strangers},
    )


def _counted(least: int, most: int, *, variadic: bool) -> str:
    if variadic:
        return f"{least} or more inputs"
    return f"{least} to {most} inputs" if least < most else "1 input" if most == 1 else f"{most} inputs"


def run_eagerly(module: torch.nn.Module, binding: Binding, feeds: Arrays) -> dict[str, Array]:
    """One forward pass in PyTorch; outputs by name, with `_out` behind those that are called as a feed is."""
    import torch

    args, kwargs = binding.tensors(feeds)
    with torch.no_grad():
        result = module(*args, **kwargs)
    # In ONNX an output can't be called as an input is.
    return {
        f"{name}_out" if name in feeds else name: value.detach().cpu().numpy()
        for name, value in name_outputs(result).items()
    }


def name_outputs(result: object) -> dict[str, torch.Tensor]:
    """The tensors in whatever a forward pass returned, named by where they stand; None is left out.

    A lone tensor is `output`, parts of a tuple are `output_0`, ..., of a dict or dataclass their keys; a list
    under a key is `key_0`, a dict under a key `key.inner`.

    Raises:
        ExportError: Something that is not a tensor.

    """
    import torch
    from torch.utils import _pytree as pytree

    leaves, _ = pytree.tree_flatten_with_path(result)
    named: dict[str, torch.Tensor] = {}
    for path, leaf in leaves:
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise ExportError(
                asked="export what the model returns",
                found=f"{leaf!r:.60} ({type(leaf).__name__}) as {_name(path)}, which is no tensor",
                fix="return tensors only: a tensor, or tuples, lists and dicts of tensors",
            )
        name = _name(path)
        while name in named:
            name += "_"
        named[name] = leaf
    if not named:
        raise ExportError(asked="export what the model returns", found="no tensor", fix="return at least one tensor")
    return named


def _name(path: tuple[Any, ...]) -> str:
    name = ""
    for key in path:
        if hasattr(key, "idx"):
            name = f"{name or 'output'}_{key.idx}"
        else:
            part = str(getattr(key, "key", getattr(key, "name", key)))
            name = f"{name}.{part}" if name else part
    return name or "output"


def reference_outputs(
    module: torch.nn.Module, feeds: Arrays, batch: int, parameters: Mapping[str, str] | None = None
) -> dict[str, Array]:
    """What PyTorch computes for every sample, a batch at a time.

    Args:
        module: In evaluation mode.
        feeds: Arrays by input name; axis 0 counts samples.
        batch: Samples in one forward pass.
        parameters: As in `ExportOptions`.

    Returns:
        Arrays by output name; axis 0 counts samples.

    Raises:
        ExportError: An output whose axis 0 is not the batch, so that samples can't be told apart.

    """
    binding = bind_feeds(module, feeds, parameters or {})
    count = len(next(iter(feeds.values())))
    size = min(batch, count)
    gathered: dict[str, Array] = {}
    # The last batch is as full as the others, and overlaps: models with a fixed batch take no smaller one.
    for start in (*range(0, count - size, size), count - size):
        outputs = run_eagerly(module, binding, {name: array[start : start + size] for name, array in feeds.items()})
        for name, value in outputs.items():
            whole = gathered.setdefault(name, np.empty((count, *value.shape[1:]), value.dtype))
            if value.ndim == 0 or len(value) != size or value.shape[1:] != whole.shape[1:]:
                raise ExportError(
                    asked=f"keep output {name!r} per sample",
                    found=f"shape {value.shape} for {size} samples",
                    fix="let axis 0 of every output be the batch, and the other axes the same for all samples",
                )
            whole[start : start + size] = value
    return gathered
