"""Free axes and their ranges, inputs that are not fed, state and sequences: from checked sections to the contract."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeport.contracts import AxisRange, TensorSpec
from edgeport.errors import ContractError
from edgeport.recipe.errors import KeyPath, RecipeText, nearest
from edgeport.recipe.preprocess import with_preprocessing

if TYPE_CHECKING:
    from edgeport.recipe.sections import RecipeFile

__all__ = ["axes_of", "axis_root", "check_samples_keys", "constants_of", "initial_of", "inputs_of", "state_of"]

_MOST_VALUES = 2**36
"""Of one sample: 256 GiB of float32."""

_AXIS = re.compile(r"([1-9]\d*\*)?[A-Za-z_]\w*")


def axis_root(label: str) -> str:
    """The name in an axis' label: "height" of "32*height"."""
    return label.rpartition("*")[2]


def inputs_of(recipe: RecipeText, sections: RecipeFile) -> tuple[TensorSpec, ...]:
    """The declared inputs that have a shape.

    Raises:
        RecipeError: No shape where one is needed, or what can't be an input.

    """
    from_onnx = sections.model.source.endswith(".onnx")
    specs = []
    for name, section in sections.inputs.items():
        key = ("inputs", name)
        if section.value is not None:
            continue
        if section.shape is None:
            if section.initial is not None and from_onnx:
                continue  # the file has its shape
            raise recipe.error(
                (*key, "shape"), "is missing", 'give it, such as shape = ["batch", 3, 224, 224], or give a value'
            )
        _refuse_odd_sizes(recipe, (*key, "shape"), section.shape, is_state=name in sections.state.values())
        for label in section.shape:
            if isinstance(label, str) and not from_onnx and not _AXIS.fullmatch(label):
                raise recipe.wrong_value(
                    (*key, "shape"), f"names an axis {label!r}", 'name axes like "length" or "32*height"'
                )
        try:
            spec = TensorSpec(
                name=name,
                dtype=section.dtype,
                shape=tuple(section.shape),
                value_range=None if section.range is None else (section.range[0], section.range[1]),
            )
        except ContractError as error:
            raise recipe.error(key, error.found, error.fix) from error
        specs.append(with_preprocessing(recipe, spec, section.preprocess))
    return tuple(specs)


def _refuse_odd_sizes(recipe: RecipeText, key: KeyPath, shape: list[int | str], *, is_state: bool) -> None:
    """What no sample can be; a number as axis 0 is the batch, which [export] looks at."""
    if not shape and not is_state:
        raise recipe.wrong_value(
            key, "has no axis 0, which counts samples", 'give shape = ["batch"] for one number per sample'
        )
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    if min(sizes, default=1) < 1:
        raise recipe.wrong_value(
            key, f"has an axis of size {min(sizes)}", 'give 1 or more, or name the axis: ["batch", "length"]'
        )
    if math.prod(sizes) > _MOST_VALUES:
        raise recipe.wrong_value(
            key, f"makes {math.prod(sizes):.2g} values of one sample", f"give at most {_MOST_VALUES} in all"
        )


def constants_of(recipe: RecipeText, sections: RecipeFile) -> dict[str, object]:
    """Values of the inputs that are not fed.

    Raises:
        RecipeError: A value beside what only an input that is fed has.

    """
    found: dict[str, object] = {}
    for name, section in sections.inputs.items():
        if section.value is None:
            continue
        for other in ("shape", "range", "initial", "preprocess"):
            if getattr(section, other) is not None:
                raise recipe.error(
                    ("inputs", name, other), "stands beside a value", "remove it: what has a value is not fed"
                )
        _refuse_odd_value(recipe, ("inputs", name, "value"), section.value)
        found[name] = section.value
    return found


def _refuse_odd_value(recipe: RecipeText, key: KeyPath, value: object) -> None:
    """A list must be a tensor of finite numbers."""
    rows = value if isinstance(value, list) else [value]
    if not rows:
        raise recipe.wrong_value(key, "holds no number", "give one or more, or remove this line")
    if any(isinstance(row, list) for row in rows):
        lengths = {len(row) if isinstance(row, list) else -1 for row in rows}
        if len(lengths) > 1:
            raise recipe.wrong_value(key, "is no tensor: its rows differ in length", "give rows of one length")
        for row in rows:
            _refuse_odd_value(recipe, key, row)
        return
    if isinstance(value, list) and not all(isinstance(one, int | float) for one in rows):
        raise recipe.wrong_value(key, "holds what is no number", "give numbers, true or false")
    if any(isinstance(one, float) and not math.isfinite(one) for one in rows):
        raise recipe.wrong_value(key, "is no finite number", "give the value that the model was trained with")


def axes_of(recipe: RecipeText, sections: RecipeFile, inputs: tuple[TensorSpec, ...]) -> dict[str, AxisRange]:
    """Ranges by axis.

    Raises:
        RecipeError: No range, or an axis that no input has.

    """
    batch = {spec.shape[0] for spec in inputs if spec.shape and spec.name not in sections.state.values()}
    named = sorted({axis_root(label) for spec in inputs for label in spec.dynamic_axes.values()} - batch)
    found: dict[str, AxisRange] = {}
    for name, section in sections.axes.items():
        key = ("axes", name)
        if name in batch:
            raise recipe.error(
                key, "is axis 0, the batch, which has no range", "a number as axis 0 fixes it; a name leaves it free"
            )
        if name not in named and (inputs or not sections.model.source.endswith(".onnx")):
            near = nearest(name, named)
            raise recipe.error(
                key, "no input has such an axis", near or f'name it in the shape of an input: ["batch", "{name}"]'
            )
        try:
            low, high = section.range
            found[name] = AxisRange(minimum=low, maximum=high, timed=section.timed)
        except ContractError as error:
            raise recipe.error(
                (*key, "range") if section.timed is None or "time" not in error.asked else (*key, "timed"),
                error.found,
                error.fix,
            ) from error
    return found


def state_of(recipe: RecipeText, sections: RecipeFile, inputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    """Output to the input that it feeds.

    Raises:
        RecipeError: An input that there is not, is linked twice or has no shape; or sequences begin nowhere.

    """
    links, from_onnx = dict(sections.state), sections.model.source.endswith(".onnx")
    declared = {spec.name: spec for spec in inputs}
    for out, into in links.items():
        key = ("state", out)
        if not out.strip():
            raise recipe.error(key, "names no output", 'write output = "input"')
        if list(links.values()).count(into) > 1:
            raise recipe.wrong_value(key, "is fed by another output too", "feed each input from one output")
        if into in sections.inputs and sections.inputs[into].value is not None:
            raise recipe.wrong_value(key, "has a value, so it is not fed", f"remove the value in [inputs.{into}]")
        if into in sections.inputs and sections.inputs[into].preprocess is not None:
            raise recipe.error(
                ("inputs", into, "preprocess"),
                f"is of a state, which output {out!r} feeds and samples do not",
                "remove it: a state holds what the model gave",
            )
        if not from_onnx and into not in declared:
            near = nearest(into, [name for name in declared if name not in links.values()])
            raise recipe.wrong_value(
                key,
                "is no declared input",
                near or f'declare it: [inputs.{into}] with shape = [2, "batch", 128], say, so that it can begin',
            )
    if links and sections.data.sequence in ("", None):
        raise recipe.error(
            ("data", "sequence"),
            "is missing, and the model has a state, which begins anew with each sequence",
            'give the key of an array that changes where a sequence begins (sequence = "clip"), or the number of '
            "samples in each (sequence = 32)",
        )
    if not links and sections.data.sequence not in ("", None):
        raise recipe.wrong_value(
            ("data", "sequence"), "is for models with a state", 'link it: a section [state] with output = "input"'
        )
    return links


def initial_of(recipe: RecipeText, sections: RecipeFile) -> dict[str, float]:
    """What each state begins with, where that is said.

    Raises:
        RecipeError: The input is no state.

    """
    found = {name: section.initial for name, section in sections.inputs.items() if section.initial is not None}
    for name, value in found.items():
        if math.isnan(value):
            raise recipe.wrong_value(("inputs", name, "initial"), "is no number", "give one, such as 0.0")
        if name not in sections.state.values():
            raise recipe.error(
                ("inputs", name, "initial"),
                "is for the state, which this input is not",
                "link it in [state], or remove this",
            )
    return found


def check_samples_keys(recipe: RecipeText, sections: RecipeFile, inputs: tuple[TensorSpec, ...]) -> None:
    """Looks at `sequence` and `lengths` of [data].

    Raises:
        RecipeError: No number of steps, or the length of an axis that no input has.

    """
    sequence = sections.data.sequence
    if isinstance(sequence, int) and sequence < 1:
        raise recipe.wrong_value(("data", "sequence"), "is no number of samples", "give 1 or more")
    free = {axis_root(label) for spec in inputs for index, label in spec.dynamic_axes.items() if index > 0}
    if not sections.data.preprocessed:
        _refuse_raw_lengths(recipe, sections.data.lengths, inputs)
    _check_lengths(
        recipe, sections.data.lengths, free, from_onnx=sections.model.source.endswith(".onnx") and not inputs
    )


def _refuse_raw_lengths(recipe: RecipeText, lengths: Mapping[str, str], inputs: tuple[TensorSpec, ...]) -> None:
    """Lengths cut what samples hold, and those of a raw sample are not the input's."""
    for spec in inputs:
        roots = {axis_root(label) for label in spec.dynamic_axes.values()} if spec.preprocessing is not None else set()
        for axis in sorted(roots & set(lengths)):
            raise recipe.error(
                ("data", "lengths", axis),
                f"is an axis of input {spec.name!r}, whose samples are raw, so that there is nothing to cut yet",
                "remove it, and let the preprocessing give each sample its size; or give samples that went through it "
                "([data] preprocessed = true)",
            )


def _check_lengths(recipe: RecipeText, lengths: Mapping[str, str], free: set[str], *, from_onnx: bool) -> None:
    for axis in lengths:
        if axis not in free and not from_onnx:
            raise recipe.error(
                ("data", "lengths", axis),
                "no input has such a free axis",
                nearest(axis, sorted(free)) or f'name it in the shape of an input: ["batch", "{axis}"]',
            )
