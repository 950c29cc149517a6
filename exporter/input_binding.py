"""Named arrays into `forward`, and whatever it returns into named arrays."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array, Arrays, TensorSpec
from edgeport.errors import ExportError, SamplesError
from edgeport.exporter.nested_inputs import Nested, argument_paths, nest, register_dataclasses
from edgeport.exporter.output_naming import name_outputs
from edgeport.ragged import RaggedBatch, run_rows

if TYPE_CHECKING:
    import torch

__all__ = [
    "Binding",
    "arrays_of",
    "bind_feeds",
    "call",
    "described",
    "name_outputs",
    "reference_outputs",
    "run_eagerly",
]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Which feed goes to which parameter of `forward`.

    Attributes:
        arguments: Feeds, or nested feeds, in the order in which `forward` takes them.
        keywords: Parameter of each argument where they are handed over by keyword; empty where by position.
        variadic: Index of the first argument that falls into `*args`; None where there is none.
        constants: Parameters that are handed a value of Python instead, by keyword.

    """

    arguments: tuple[str | Nested, ...]
    keywords: tuple[str, ...] = ()
    variadic: int | None = None
    constants: Mapping[str, object] = field(default_factory=dict)

    @property
    def feeds(self) -> tuple[str, ...]:
        """Names of the feeds, in the order in which the exported graph takes them."""
        found: list[str] = []
        for argument in self.arguments:
            found += argument.feeds() if isinstance(argument, Nested) else [argument]
        return tuple(found)

    def tensors(self, feeds: Arrays) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of `forward`."""
        import torch

        # A copy: arrays that come from a file may be read-only, which torch warns of.
        return self.filled(lambda name: torch.from_numpy(np.array(feeds[name], order="C")))

    def filled(self, value_of: Callable[[str], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As `tensors`, with what `value_of` gives for each feed."""
        values = self._built(value_of)
        for value in values:
            register_dataclasses(value)
        fixed = {name: _as_argument(value) for name, value in self.constants.items()}
        if self.keywords:
            return (), {**dict(zip(self.keywords, values, strict=True)), **fixed}
        return values, fixed

    def shapes(self, axes: Mapping[str, Mapping[int, Any]]) -> Any:
        """`dynamic_shapes` of torch.export, which mirrors the arguments."""
        each = self._built(lambda name: dict(axes.get(name, {})), mirrored=True)
        # A tensor of fixed shape has no free axes; what is no tensor has no shape.
        fixed: dict[str, Any] = {
            name: {} if isinstance(value, list) else None for name, value in self.constants.items()
        }
        if self.keywords:
            return {**dict(zip(self.keywords, each, strict=True)), **fixed}
        if self.variadic is None:
            return (*each, *fixed.values())
        return (*each[: self.variadic], each[self.variadic :], *fixed.values())

    def _built(self, value_of: Callable[[str], Any], *, mirrored: bool = False) -> tuple[Any, ...]:
        return tuple(
            one.build(value_of, mirrored=mirrored) if isinstance(one, Nested) else value_of(one)
            for one in self.arguments
        )


def _as_argument(value: object) -> object:
    """Numbers in brackets are a tensor; all else is what it is in Python."""
    import torch

    return torch.tensor(value) if isinstance(value, list) else value


def bind_feeds(
    module: torch.nn.Module,
    feeds: Arrays,
    parameters: Mapping[str, str],
    constants: Mapping[str, object] | None = None,
) -> Binding:
    """Finds the parameter of each feed: as told, by equal names, or else in order.

    Args:
        module: Its `forward` is looked at.
        feeds: Arrays by input name.
        parameters: Feed to parameter; empty where names or order say it. A feed "batch.tokens" goes into the dict or
            dataclass `batch` under `tokens`, and "states_0" into the tuple `states` at 0.
        constants: Parameter to the value that it is always handed.

    Raises:
        SamplesError: Too many or too few, or a parameter that is not there.

    """
    constants = constants or {}
    signature = _signature(module)
    known = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    _check_constants(constants, list(known), f"{type(module).__name__}.forward{signature}")
    paths = {} if parameters else argument_paths(list(feeds), list(known))
    inside = {feed for each in paths.values() for feed in each.values()}
    plain = [name for name in feeds if name not in inside]
    binding = _bind(module, (*plain, *paths), parameters, constants, known)
    nested = {name: nest(each, known[name].annotation) for name, each in paths.items()}
    return replace(binding, arguments=tuple(nested.get(str(one), one) for one in binding.arguments))


def _check_constants(constants: Mapping[str, object], known: Sequence[str], forward: str) -> None:
    for name in constants:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise SamplesError(
                asked=f"hand {name!r} a value",
                found=f"{forward}, which has no such parameter",
                fix=f"did you mean {near[0]!r}?" if near else f"name one of {', '.join(known)}",
                details={"problem": "name", "input": name},
            )


def _bind(
    module: torch.nn.Module,
    feeds: Sequence[str],
    parameters: Mapping[str, str],
    constants: Mapping[str, object],
    known: Mapping[str, inspect.Parameter],
) -> Binding:
    signature = _signature(module)
    every = list(known)
    known = {name: parameter for name, parameter in known.items() if name not in constants}
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
            lacking = ", ".join(sorted(missing))
            raise SamplesError(
                asked=asked,
                found=f"nothing for {lacking}",
                fix=f"give {lacking} too, in the samples or as a declared input",
            )
        names, keywords = zip(*sorted(chosen.items(), key=lambda item: every.index(item[1])), strict=True)
        # By position where there is no gap: a module out of a .pt2 file insists on how it was called.
        in_order = list(keywords) == every[: len(keywords)] and len(keywords) <= len(positional)
        return Binding(
            arguments=names, keywords=() if in_order and not constants else tuple(keywords), constants=constants
        )
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
    keywords = tuple(parameter.name for parameter in positional[: len(feeds)]) if constants and not variadic else ()
    return Binding(
        arguments=tuple(feeds), keywords=keywords, variadic=len(positional) if variadic else None, constants=constants
    )


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


def described(arrays: Arrays) -> tuple[TensorSpec, ...]:
    """Arrays as specs."""
    return tuple(TensorSpec(name=name, dtype=str(array.dtype), shape=array.shape) for name, array in arrays.items())


def call(module: torch.nn.Module, binding: Binding, feeds: Arrays) -> object:
    """One forward pass in PyTorch; whatever it returns."""
    import torch

    args, kwargs = binding.tensors(feeds)
    with torch.no_grad():
        result: object = module(*args, **kwargs)
    register_dataclasses(result)
    return result


def arrays_of(result: object, feeds: Arrays) -> dict[str, Array]:
    """Outputs by name, with `_out` behind those that are called as a feed is: in ONNX they can't be."""
    return {
        f"{name}_out" if name in feeds else name: value.detach().cpu().numpy()
        for name, value in name_outputs(result).items()
    }


def run_eagerly(module: torch.nn.Module, binding: Binding, feeds: Arrays) -> dict[str, Array]:
    """One forward pass in PyTorch, as arrays by output name."""
    return arrays_of(call(module, binding, feeds), feeds)


def reference_outputs(  # noqa: PLR0913 (what is fed, and how)
    module: torch.nn.Module,
    feeds: Arrays,
    batch: int,
    parameters: Mapping[str, str] | None = None,
    *,
    constants: Mapping[str, object] | None = None,
    state: Mapping[str, str] | None = None,
    starts: Sequence[int] = (0,),
) -> dict[str, Array]:
    """What PyTorch computes for every sample, a batch at a time.

    Args:
        module: In evaluation mode.
        feeds: Arrays by input name; axis 0 counts samples. See `edgeport.ragged` for samples of several shapes, and for
            what a state begins with.
        batch: Samples in one forward pass; one, where there is a state or an output is a single number.
        parameters: As in `ExportOptions`.
        constants: As in `ExportOptions`.
        state: As in `ExportOptions`.
        starts: Samples at which a sequence begins.

    Returns:
        Arrays by output name, without the state's; axis 0 counts samples.

    Raises:
        ExportError: An output whose axis 0 is not the batch, so that samples can't be told apart.

    """
    state = state or {}
    rows = RaggedBatch.of(feeds, tuple(state.values()))
    binding = bind_feeds(module, {**rows.cut(0, 1), **rows.state}, parameters or {}, constants or {})
    if state or rows.shapes:
        run = functools.partial(run_eagerly, module, binding)
        try:
            return run_rows(run, rows, batch=batch, state=state, starts=starts)
        except SamplesError as error:
            raise ExportError(asked=error.asked, found=error.found, fix=error.fix) from error
    count = len(rows)
    size = min(batch, count)
    if size > 1:
        first = run_eagerly(module, binding, rows.cut(0, size))
        size = 1 if any(value.ndim == 0 for value in first.values()) else size
    gathered: dict[str, Array] = {}
    # The last batch is as full as the others, and overlaps: models with a fixed batch take no smaller one.
    for start in (*range(0, count - size, size), count - size):
        for name, value in run_eagerly(module, binding, rows.cut(start, start + size)).items():
            each = value.reshape(1) if value.ndim == 0 and size == 1 else value
            whole = gathered.setdefault(name, np.empty((count, *each.shape[1:]), each.dtype))
            if each.ndim == 0 or len(each) != size or each.shape[1:] != whole.shape[1:]:
                raise ExportError(
                    asked=f"keep output {name!r} per sample",
                    found=f"shape {value.shape} for {size} samples",
                    fix="let axis 0 of every output be the batch, and the other axes the same for all samples",
                )
            whole[start : start + size] = each
    return gathered
