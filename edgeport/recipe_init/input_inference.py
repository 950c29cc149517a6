"""The inputs of a module: from the user, the samples, the collection, the file; else by trying.

Runs in the child that looks at the model.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeport.contracts import Array, ModelSource
from edgeport.errors import SamplesError, SourceError
from edgeport.npz import load_npz
from edgeport.recipe_init.assign import feeds_for, kind_of
from edgeport.recipe_init.candidates import candidates, required_parameters
from edgeport.recipe_init.collection_inputs import known_inputs
from edgeport.recipe_init.columns import Columns, ways_of_columns
from edgeport.recipe_init.image_preprocessing import Pixels, image_layout, known_pixels, pixels_for
from edgeport.recipe_init.input_spec import Guess, Kind, guess_from_json
from edgeport.recipe_init.sample_formats import SampleFormat
from edgeport.recipe_init.state_detection import is_state_name, state_candidates
from edgeport.recipe_init.trial_run import Runs, RunsWith

if TYPE_CHECKING:
    import torch

__all__ = ["MOST_SIDE", "InferredInputs", "find_inputs", "read_first"]

_MOST_TRIES = 600
_MOST_SECONDS = 45.0
MOST_SIDE = 640
"""Pixels up to which images of one size are thought to be what the model was trained with."""


@dataclass(frozen=True, kw_only=True)
class InferredInputs:
    """Inputs, and what the samples are beside them.

    Attributes:
        inputs: In the order of `forward`.
        others: Names of arrays that are no input.
        columns: Of a table.
        pixels: From images to the input.
        cut: Sounds are brought to one length.

    """

    inputs: tuple[Guess, ...]
    others: list[str] = field(default_factory=list)
    columns: Columns | None = None
    pixels: Pixels | None = None
    cut: bool = False


def find_inputs(source: ModelSource, module: torch.nn.Module, payload: Mapping[str, Any]) -> InferredInputs:
    """What the module takes.

    Args:
        source: Where it is from.
        module: It runs on what is drawn.
        payload: As of `look_at_module`.

    Raises:
        SourceError: Nothing likely runs.
        SamplesError: The samples do not fit.

    """
    said = [one["name"] for one in payload.get("given") or ()]
    named = [name for name in required_parameters(module) if is_state_name(name) and name not in said]
    if payload.get("samples"):
        named = [name for name in named if name not in read_first(payload["samples"], [])]
    states = list(state_candidates(module, named)) if named else []
    left_out = named if states else []
    runs = RunsWith(module, states)
    found = _without_states(source, module, payload, _InferenceTask(module=module, left_out=left_out, runs=runs))
    if states and runs(found.inputs):
        raise SourceError(
            asked=f"run {type(module).__name__} with states for {', '.join(named)}",
            found=f"that it does not: {runs(found.inputs)[:300]}",
            fix="say their shapes, and all others: --input NAME=batch,... once per input",
        )
    return replace(found, inputs=(*found.inputs, *runs.states))


@dataclass(frozen=True, kw_only=True)
class _InferenceTask:
    """What is to be found: all parameters but the states, and how a try is made."""

    module: torch.nn.Module
    left_out: list[str]
    runs: RunsWith

    @property
    def required(self) -> tuple[str, ...]:
        """Parameters that must be given."""
        return tuple(name for name in required_parameters(self.module) if name not in self.left_out)

    @property
    def parameters(self) -> list[str]:
        """All of them."""
        return [name for name in inspect.signature(self.module.forward).parameters if name not in self.left_out]


def _without_states(
    source: ModelSource, module: torch.nn.Module, payload: Mapping[str, Any], wanted: _InferenceTask
) -> InferredInputs:
    form, facts = SampleFormat(payload.get("form") or SampleFormat.NAMED), payload.get("facts") or {}
    required, runs = wanted.required, wanted.runs
    if payload.get("samples") and form in (SampleFormat.NAMED, SampleFormat.ARRAY):
        arrays = read_first(payload["samples"], required)
        inputs, others = feeds_for(arrays, wanted.parameters, required, payload.get("target", ""))
        return InferredInputs(inputs=_in_dtypes_that_run(inputs, runs), others=others)
    if form is SampleFormat.TABLE:
        return _of_table(facts, wanted, payload.get("target", ""))
    given = tuple(_within_table(module, guess_from_json(one)) for one in payload.get("given") or ())
    stated = given or known_inputs(source, module) or _of_program(module) or _of_attributes(module)
    if form is SampleFormat.IMAGES:
        known = None if given else known_pixels(source, module)
        return _of_images(stated or _own_size(_tried(wanted), facts, runs), known, facts)
    if form is SampleFormat.SOUNDS:
        return _of_sounds(wanted, stated, facts)
    return InferredInputs(inputs=stated or _tried(wanted))


def read_first(path: str, required: Sequence[str]) -> dict[str, Array]:
    """The first samples; an array without a name gets that of the only input."""
    arrays = load_npz(path)
    if list(arrays) == ["samples"] and len(required) == 1:
        return {required[0]: arrays["samples"]}
    return arrays


def _in_dtypes_that_run(inputs: tuple[Guess, ...], runs: Runs) -> tuple[Guess, ...]:
    """As the samples have them, or in PyTorch's usual dtypes of the same kind (numpy's own float is float64).

    Raises:
        SamplesError: It runs with whole numbers in the place of others, or the other way round.

    """
    if not runs(inputs):
        return inputs
    usual = {"float": "float32", "int": "int64", "uint": "int64"}
    kinds = [one.dtype.rstrip("0123456789") for one in inputs]
    same = tuple(replace(one, dtype=usual.get(kind, one.dtype)) for one, kind in zip(inputs, kinds, strict=True))
    if same != inputs and not runs(same):
        return same
    for dtype in ("int64", "float32"):
        other = tuple(replace(one, dtype=dtype) for one in inputs)
        changed = {one.name: one.dtype for one in inputs if one.dtype != dtype}
        if not runs(other):
            raise SamplesError(
                asked=f"run the model on {', '.join(f'{name} of dtype {was}' for name, was in changed.items())}",
                found=f"that it runs with {dtype}",
                fix=f'convert it as in training: array.astype("{dtype}"), and scale it where that did',
                details={"problem": "dtype", "input": next(iter(changed))},
            )
    return inputs


def _of_table(facts: Mapping[str, Any], wanted: _InferenceTask, target: str) -> InferredInputs:
    """The first way in which the model runs on columns."""
    failed, names, runs = "", wanted.required, wanted.runs
    for columns in ways_of_columns(facts["columns"], names, target, steps=bool(wanted.left_out)):
        for inputs in _table_guesses(columns, facts):
            problem = runs(inputs)
            if not problem:
                return InferredInputs(inputs=inputs, others=[columns.target] if columns.target else [], columns=columns)
            failed = failed or problem
    raise SamplesError(
        asked=f"feed {', '.join(names)} from the columns {', '.join(map(repr, facts['columns']))}",
        found=f"that the model does not run with them ({failed[:200]})",
        fix="leave out columns that are no input, name that of the labels (--target), and call those of each input as "
        "it: age, or facts_0, facts_1 for a vector",
    )


def _table_guesses(columns: Columns, facts: Mapping[str, Any]) -> Iterator[tuple[Guess, ...]]:
    """Inputs fed by columns: as floats, then those of whole numbers as such."""
    kinds: Mapping[str, str] = facts["columns"]
    for integers in (False, True):
        found = []
        for name, of in columns.inputs.items():
            each = (of,) if isinstance(of, str) else of
            whole = all(kinds[one] == "whole" for one in each)
            cells = [float(cell) for one in each for cell in facts["first"][one]]
            dtype = "int64" if whole and (integers or kind_of(name, "float32")[0] is Kind.MASK) else "float32"
            kind, _ = kind_of(name, dtype)
            found.append(
                Guess(
                    name=name,
                    dtype=dtype,
                    shape=() if isinstance(of, str) else (len(of),),
                    kind=kind,
                    low=min(cells),
                    high=max(cells),
                    axes={} if isinstance(of, str) or dtype == "float32" else {1: "time"},
                    why="from the table's columns",
                )
            )
        yield tuple(found)


def _own_size(guesses: tuple[Guess, ...], facts: Mapping[str, Any], runs: Runs) -> tuple[Guess, ...]:
    """A guessed image input in the size that all of the images have, where the model runs with that."""
    high, wide = facts["size"]
    if len(guesses) != 1 or image_layout(guesses[0]) != "NCHW" or not facts["alike"] or max(high, wide) > MOST_SIDE:
        return guesses
    own = replace(guesses[0], shape=(guesses[0].shape[0], high, wide), why="the size of the images")
    return (own,) if not runs((own,)) else guesses


def _of_images(inputs: tuple[Guess, ...], known: Pixels | None, facts: Mapping[str, Any]) -> InferredInputs:
    _require_one(inputs, "images")
    high, wide = facts["size"]
    return InferredInputs(inputs=inputs, pixels=pixels_for(inputs[0], known, (high, wide)))


def _of_sounds(wanted: _InferenceTask, stated: tuple[Guess, ...], facts: Mapping[str, Any]) -> InferredInputs:
    """A lone input of samples of sound, with an axis of one channel or without."""
    length, alike = int(facts["length"]), bool(facts["alike"])
    names = [one.name for one in stated] or list(wanted.required)
    if len(names) == 1:
        why = "the length of the sounds" if alike else "the median length of the sounds"
        for shape in _sound_shapes(stated, length):
            axes = {len(shape): "time"} if not stated or stated[0].axes else {}
            own = Guess(name=names[0], shape=shape, low=-1.0, high=1.0, axes=axes, why=why)
            if not wanted.runs((own,)):
                return InferredInputs(inputs=(own,), cut=not alike)
    inputs = stated or _tried(wanted)
    _require_one(inputs, "sounds")
    (sound,) = inputs
    if not sound.shape or sound.shape[:-1] not in ((), (1,)) or sound.kind is not Kind.VALUES:
        raise SamplesError(
            asked=f"feed {inputs[0].name} with sounds",
            found=f"that it takes {inputs[0].dtype} {list(inputs[0].declared)}, no samples of sound",
            fix="write a function that gives what it takes (a spectrogram), and say --samples pkg.mod:function; or let "
            "the model's own forward begin with the sound",
        )
    return InferredInputs(inputs=inputs, cut=not alike or inputs[0].shape[-1] != length)


def _sound_shapes(stated: Sequence[Guess], length: int) -> list[tuple[int, ...]]:
    """Of one sound: as stated where that leaves the length free; else without and with an axis of one channel."""
    if not stated:
        return [(length,), (1, length)]
    return [(*stated[0].shape[:-1], length)] if len(stated[0].shape) in stated[0].axes else []


def _require_one(inputs: Sequence[Guess], what: str) -> None:
    if len(inputs) != 1:
        raise SamplesError(
            asked=f"feed {', '.join(one.name for one in inputs)} with {what}",
            found=f"{len(inputs)} inputs, and a folder has {what} for one",
            fix="give arrays by name: a .npz, or a function (pkg.mod:function)",
        )


def _within_table(module: torch.nn.Module, guess: Guess) -> Guess:
    """Whole numbers that were only declared: rows of the module's smallest table, so that each is there."""
    import torch

    rows = [each.num_embeddings for each in module.modules() if isinstance(each, torch.nn.Embedding)]
    return replace(guess, high=float(min(rows) - 1)) if guess.kind is Kind.INTEGERS and rows else guess


def _of_program(module: torch.nn.Module) -> tuple[Guess, ...]:
    """Of a `.pt2` file: what it was exported with stands at its placeholders."""
    graph = getattr(module, "graph", None)
    if graph is None:
        return ()
    names = required_parameters(module)
    values = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"]
    if len(values) != len(names) or any(value is None for value in values):
        return ()
    found = []
    for name, value in zip(names, values, strict=True):
        shape = [size if isinstance(size, int) else 16 for size in value.shape[1:]]
        axes = {index: f"axis{index}" for index, size in enumerate(value.shape) if index and not isinstance(size, int)}
        dtype = str(value.dtype).removeprefix("torch.")
        found.append(_plain(name, dtype, tuple(shape), axes, "from the .pt2 file"))
    return tuple(found)


def _of_attributes(module: torch.nn.Module) -> tuple[Guess, ...]:
    """An example that the module carries, as Lightning's do."""
    import torch

    example = getattr(module, "example_input_array", None)
    example = (example,) if isinstance(example, torch.Tensor) else example
    if isinstance(example, Mapping):
        named = list(example.items())
    elif isinstance(example, tuple | list):
        named = list(zip(inspect.signature(module.forward).parameters, example, strict=False))
    else:
        return ()
    if not named or not all(isinstance(value, torch.Tensor) and value.ndim for _, value in named):
        return ()
    return tuple(
        _plain(name, str(value.dtype).removeprefix("torch."), tuple(value.shape[1:]), {}, "its example_input_array")
        for name, value in named
    )


def _plain(name: str, dtype: str, shape: tuple[int, ...], axes: Mapping[int, str], why: str) -> Guess:
    kind, high = kind_of(name, dtype)
    return Guess(name=name, dtype=dtype, shape=shape, kind=kind, high=high, axes=axes, why=why)


def _tried(wanted: _InferenceTask) -> tuple[Guess, ...]:
    """The first combination of likely inputs that the model runs with."""
    start, failed, module = time.monotonic(), "", wanted.module
    for tries, guesses in enumerate(candidates(module, wanted.required)):
        if tries >= _MOST_TRIES or time.monotonic() - start > _MOST_SECONDS:
            break
        problem = wanted.runs(guesses)
        if not problem:
            return guesses
        failed = failed or problem
    names = ", ".join(required_parameters(module)) or "none that must be given"
    raise SourceError(
        asked=f"find what {type(module).__name__} takes",
        found=f"parameters {names}, and no likely shape that it runs with"
        + (f" (the first said: {failed[:200]})" if failed else ""),
        fix="say it: --input NAME=batch,3,224,224 (NAME=batch,16:int64 for tokens), once per input, for what lies in a "
        "dict or dataclass NAME.KEY=...; or give --samples",
    )
