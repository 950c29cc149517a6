"""From checked sections to the contract: paths, quantities, and what sections mean to each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgeport.accuracy.metrics import METRICS, Truth
from edgeport.calibration.ranges import method_named
from edgeport.calibration.recovery import recoveries_named
from edgeport.contracts import (
    DataParallel,
    ExecutionConfig,
    Mix,
    ModelParallel,
    NodeChoice,
    Precision,
    Preprocessing,
    SingleStream,
    TensorSpec,
)
from edgeport.contracts.recipe import (
    DataSpec,
    ExportSettings,
    Recipe,
    SamplesFolder,
    SamplesLocation,
    SamplesMade,
    SamplesTable,
    Search,
    Target,
)
from edgeport.errors import CalibrationError, ContractError
from edgeport.recipe.axes import axes_of, check_samples_keys, constants_of, initial_of, inputs_of, state_of
from edgeport.recipe.budgets import read_budget, read_target_budgets
from edgeport.recipe.compress import steps_of
from edgeport.recipe.devices import read_devices
from edgeport.recipe.evidence import LEAST_ROUNDS, least_p_value
from edgeport.recipe.locations import FILES, FUNCTION
from edgeport.recipe.mistakes import KeyPath, RecipeText, nearest
from edgeport.recipe.quantities import NotAQuantity, parse_bytes, parse_duration, parse_part
from edgeport.recipe.samples import are_labelled, samples_location
from edgeport.recipe.source import existing_file, read_source
from edgeport.recipe.statement import read_statement

if TYPE_CHECKING:
    from edgeport.recipe.sections import DataSection, RecipeFile, TargetSection

__all__ = ["build", "default_metric", "default_name"]

T = TypeVar("T")

_OTHER_NAMES = {
    "acc": "top1",
    "accuracy": "top1",
    "l1": "mae",
    "l2": "mse",
    "rmse": "mse",
    "map": "map50",
    "snr": "sqnr",
}
"""What others call a metric, which may look more like another one of ours."""

_LONGEST_NAME = 100
_LEAST_MEMORY_BYTES = 256 << 20


def build(recipe: RecipeText, sections: RecipeFile) -> Recipe:
    """The contract.

    Raises:
        RecipeError: Missing files, impossible budgets, sections that contradict each other.

    """
    source = read_source(recipe, sections)
    inputs = inputs_of(recipe, sections)
    state = state_of(recipe, sections, inputs)
    check_samples_keys(recipe, sections, inputs)
    data = _data(recipe, sections.data)
    _refuse_folded_floats(recipe, inputs, data)
    targets = _targets(recipe, sections)
    if data.calibration is None:
        _refuse_uncalibrated(recipe, targets)
    budget = read_budget(recipe, sections.budget, data, ("budget",))
    compress = steps_of(recipe, sections, source=source, data=data, targets=targets, inputs=inputs)
    return Recipe(
        path=recipe.path,
        name=_name(recipe, sections),
        source=source,
        inputs=inputs,
        axes=axes_of(recipe, sections, inputs),
        state=state,
        initial=initial_of(recipe, sections),
        constants=constants_of(recipe, sections),
        data=data,
        export=_export(recipe, sections, tuple(spec for spec in inputs if spec.name not in state.values())),
        statement=read_statement(recipe, sections),
        targets=targets,
        budget=budget,
        target_budgets=read_target_budgets(recipe, sections, data),
        search=_search(recipe, sections),
        compress=compress,
    )


def default_name(location: str) -> str:
    """The model's name where the recipe gives none: of the file, the function, or in its collection."""
    if location.endswith(FILES) or location.startswith("ultralytics:"):
        return Path(location.removeprefix("ultralytics:")).stem
    return re.split(r"[:/]", location)[-1]


def default_metric(*, labelled: bool) -> str:
    """The metric where the recipe gives none."""
    return "top1" if labelled else "agreement"


def _contract(recipe: RecipeText, key: KeyPath, make: Callable[[], T]) -> T:
    try:
        return make()
    except ContractError as error:
        raise recipe.error(key, error.found, error.fix) from error


def _name(recipe: RecipeText, sections: RecipeFile) -> str:
    if sections.model.name is None:
        return default_name(sections.model.source)
    name = sections.model.name
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME or set(name) & set("/\\"):
        raise recipe.wrong_value(
            ("model", "name"), "can't name a file", f"give 1 to {_LONGEST_NAME} printable characters without slashes"
        )
    return name


def _export(recipe: RecipeText, sections: RecipeFile, inputs: tuple[TensorSpec, ...]) -> ExportSettings:
    """A number as axis 0 of an input fixes the batch."""
    settings = ExportSettings(**sections.export.model_dump())
    fixed = {spec.name: spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], int)}
    if not fixed:
        return settings
    first = next(iter(fixed))
    if len(set(fixed.values())) > 1 or fixed[first] < 1:
        raise recipe.error(
            ("inputs", first, "shape"),
            f"axis 0, the batch, is {' and '.join(map(str, fixed.values()))}",
            'give every input the same batch of 1 or more, or leave it free: shape = ["batch", ...]',
        )
    if "dynamic_batch" in sections.export.model_fields_set and settings.dynamic_batch:
        raise recipe.error(
            ("inputs", first, "shape"),
            f"the batch is fixed to {fixed[first]}, and [export] dynamic_batch = true leaves it free",
            'write shape = ["batch", ...], or leave dynamic_batch out',
        )
    return replace(settings, dynamic_batch=False)


def _data(recipe: RecipeText, section: DataSection) -> DataSpec:
    labels = _labels(recipe, section)
    evaluation = samples_location(recipe, section, "evaluation", section.evaluation, labels)
    calibration = None
    if section.calibration is not None:
        calibration = _calibration(recipe, section, labels)
    training = None
    if section.training is not None:
        training = samples_location(recipe, section, "training", section.training, labels)
    _refuse_unused(recipe, section, (evaluation, calibration, training))
    if calibration == evaluation:
        raise recipe.wrong_value(
            ("data", "evaluation"),
            "is the calibration set too",
            "judge with samples that were not calibrated with: split the file in two",
        )
    if training == evaluation:
        raise recipe.wrong_value(
            ("data", "evaluation"),
            "is the training set too",
            "judge with samples that nothing was learned from: split the file in two",
        )
    metric = _metric(recipe, section, evaluation)
    return DataSpec(
        calibration=calibration,
        evaluation=evaluation,
        training=training,
        preprocessed=section.preprocessed,
        target=section.target,
        metric=metric,
        output=section.output,
        decode=_decode(recipe, section),
        labels=labels,
        sequence=section.sequence,
        lengths=dict(section.lengths),
    )


def _refuse_folded_floats(recipe: RecipeText, inputs: tuple[TensorSpec, ...], data: DataSpec) -> None:
    folded = [spec.name for spec in inputs if isinstance(spec.preprocessing, Preprocessing) and spec.preprocessing.fold]
    if folded and data.preprocessed:
        raise recipe.error(
            ("data", "preprocessed"),
            f"with fold the graph of {folded[0]!r} takes uint8, and these samples have left that behind",
            "give raw images of uint8, which may have the right size already, and remove preprocessed",
        )


def _refuse_unused(
    recipe: RecipeText, section: DataSection, locations: tuple[SamplesLocation | SamplesMade | None, ...]
) -> None:
    """Keys that say nothing of these samples, which would be thought to be heeded."""
    if section.columns and not any(isinstance(one, SamplesTable) for one in locations):
        raise recipe.error(("data", "columns"), "is given, and no .csv is read", "remove it")
    if section.sample_rate is not None and not any(isinstance(one, SamplesFolder) for one in locations):
        raise recipe.error(("data", "sample_rate"), "is given, and no folder of .wav files is read", "remove it")


def _calibration(recipe: RecipeText, section: DataSection, labels: tuple[str, ...]) -> SamplesLocation | SamplesMade:
    if section.calibration == "range":
        return SamplesMade(made="range")
    if section.calibration == "synthetic":
        return SamplesMade(made="synthetic")
    return samples_location(recipe, section, "calibration", str(section.calibration), labels)


def _metric(recipe: RecipeText, section: DataSection, evaluation: SamplesLocation) -> str:
    labelled = are_labelled(evaluation, section.target)
    name = section.metric if section.metric is not None else default_metric(labelled=bool(labelled))
    if name not in METRICS and not FUNCTION.fullmatch(name):
        known = _OTHER_NAMES.get(name.lower())
        near = f'did you mean "{known}"?' if known else nearest(name, METRICS)
        fix = near or "use one of them, or pkg.mod:fn"
        raise recipe.wrong_value(("data", "metric"), f"is none of {', '.join(METRICS)}", fix)
    if name in METRICS and METRICS[name].truth is Truth.LABELS and labelled is False:
        fix = {
            SamplesFolder: "put the files into a folder for each class",
            SamplesTable: 'give target = "the labels\' column"',
        }.get(type(evaluation), 'give target = "the labels\' key in the .npz"')
        raise recipe.wrong_value(("data", "metric"), "needs labels", f'{fix}, or take "agreement"')
    return name


def _decode(recipe: RecipeText, section: DataSection) -> str:
    if section.decode and not FUNCTION.fullmatch(section.decode):
        raise recipe.wrong_value(("data", "decode"), "is no function", 'write "module:function", beside the recipe')
    if section.decode and section.output:
        raise recipe.error(
            ("data", "output"), "names one output, and [data] decode is given all of them", "remove one of the two"
        )
    return section.decode


def _labels(recipe: RecipeText, section: DataSection) -> tuple[str, ...]:
    if isinstance(section.labels, list):
        if not all(label.strip() for label in section.labels):
            raise recipe.wrong_value(("data", "labels"), "has a class without a name", "name each, or leave labels out")
        return tuple(section.labels)
    try:
        text = existing_file(recipe, ("data", "labels"), section.labels).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise recipe.wrong_value(("data", "labels"), "is not UTF-8 text", "give one class name per line") from error
    return tuple(line.strip() for line in text.splitlines())


def _targets(recipe: RecipeText, sections: RecipeFile) -> tuple[Target, ...]:
    from edgeport.backends.registry import available_backends

    targets: list[Target] = []
    known = available_backends()
    places = read_devices(recipe, sections)
    for index, section in enumerate(sections.target):
        key = ("target", index)
        if section.backend not in known and not FUNCTION.fullmatch(section.backend):
            near = nearest(section.backend, known) or "use one of them, or module:factory"
            raise recipe.wrong_value((*key, "backend"), f"is none of {', '.join(known)}", near)
        if section.stages is not None and section.streams is not None:
            raise recipe.error((*key, "stages"), "stands beside streams", "keep one of them: a stage works on one call")
        if section.name == "":
            raise recipe.wrong_value((*key, "name"), "is empty", "give a name, or remove this line")
        for name, device in places[index]:
            _check_name(recipe, targets, index, name)
            target = _contract(
                recipe,
                (*key, "precisions"),
                lambda section=section, name=name, device=device: Target(  # type: ignore[misc]
                    name=name,
                    backend=section.backend,
                    precisions=tuple(Precision(name) for name in section.precisions),
                    execution=_execution(section),
                    device=device,
                    mix=_mix(section),
                ),
            )
            target = replace(
                target, tune_s=_tune(recipe, sections, index), least_placement=_least_placement(recipe, sections, index)
            )
            elsewhere = [other.device for other in targets if other.name == target.name and other.device != device]
            if elsewhere:
                raise recipe.error(
                    key,
                    f"runs on {device}, and {name} stands above for {elsewhere[0]}",
                    "name them apart: only what runs on one device competes",
                )
            this = (target.name, target.backend, target.execution, target.mix)
            if any(this == (other.name, other.backend, other.execution, other.mix) for other in targets):
                raise recipe.error(
                    key, f"{target.backend} with the same settings stands above", "remove one of the two"
                )
            targets.append(target)
    return tuple(targets)


def _tune(recipe: RecipeText, sections: RecipeFile, index: int) -> float | None:
    section, key = sections.target[index], ("target", index, "tune")
    if section.tune is None:
        return None
    if "int8" not in section.precisions:
        raise recipe.error(key, "is given, and no int8 is built", 'add "int8" to its precisions, or remove tune')
    try:
        return parse_duration(section.tune)
    except NotAQuantity as error:
        raise recipe.wrong_value(key, "can't be read", f"give {error}") from error


def _execution(section: TargetSection) -> ExecutionConfig:
    layout: DataParallel | ModelParallel | SingleStream = SingleStream()
    if section.stages is not None:
        layout = ModelParallel(stages=section.stages)
    elif section.streams is not None and section.streams > 1:
        layout = DataParallel(streams=section.streams)
    return ExecutionConfig(
        threads=section.threads,
        affinity=tuple(section.affinity or ()),
        spinning=section.spinning,
        huge_pages=section.huge_pages,
        layout=layout,
        runtime_device=section.runtime_device or "",
    )


def _least_placement(recipe: RecipeText, sections: RecipeFile, index: int) -> float | None:
    text = sections.target[index].require_placement
    if text is None:
        return None
    try:
        return parse_part(text)
    except NotAQuantity as error:
        raise recipe.wrong_value(("target", index, "require_placement"), "can't be read", f"give {error}") from error


def _mix(section: TargetSection) -> Mix:
    choices = tuple(NodeChoice(what=what, precision=Precision(name)) for what, name in section.nodes.items())
    return Mix(rest=Precision(section.rest), nodes=choices)


def _check_name(recipe: RecipeText, before: list[Target], index: int, name: str) -> None:
    """All targets have a name or none has; a name is a folder's, on every system."""
    key = ("target", index, "name")
    if name:
        _contract(recipe, key, lambda: Target(name=name, backend="onnxruntime"))
    first = before[0].name if before else name
    if bool(first) != bool(name):
        raise recipe.error(
            ("target", index),
            "has no name, and the first one has" if first else "has a name, and the first one has none",
            "name all of them or none: each name ships a bundle of its own",
        )
    near = next((other.name for other in before if other.name.casefold() == name.casefold()), name)
    if near != name:
        raise recipe.wrong_value(key, f"and {near} are one folder on some systems", f'did you mean "{near}"?')


def _refuse_uncalibrated(recipe: RecipeText, targets: tuple[Target, ...]) -> None:
    for index, target in enumerate(targets):
        if target.needs_ranges:
            given = "target" in recipe.values
            raise recipe.error(
                ("data", "calibration"),
                f"is missing, and {target.backend} is to be built in int8",
                'give calibration = "calibration.npz", or leave "int8" out of '
                + (f"[[target]] number {index + 1}, precisions" if given else "the precisions of a [[target]]"),
            )


def _search(recipe: RecipeText, sections: RecipeFile) -> Search:
    method = sections.search.calibration_method
    try:
        method_named(method)
    except CalibrationError as error:
        raise recipe.wrong_value(
            ("search", "calibration_method"), f"is no range method: {error.found}", error.fix
        ) from error
    try:
        recoveries_named(sections.search.recovery)
    except CalibrationError as error:
        raise recipe.wrong_value(("search", "recovery"), f"can't be done: {error.found}", error.fix) from error
    rounds = sections.search.rounds
    if rounds < LEAST_ROUNDS:
        raise recipe.wrong_value(
            ("search", "rounds"),
            f"can prove no gain: the least p-value from {max(rounds, 0)} pairs is {least_p_value(max(rounds, 0)):.2g}, "
            "and 95 % needs 0.05",
            f"give {LEAST_ROUNDS} or more, such as {Search().rounds}; for a quicker look lower screening_rounds or "
            "duration_s",
        )
    settings = {**sections.search.model_dump(), "recovery": tuple(sections.search.recovery)}
    memory_bytes = _memory_limit(recipe, settings.pop("memory_limit"))
    return _contract(recipe, ("search", "time_limit_s"), lambda: Search(**settings, memory_limit_bytes=memory_bytes))


def _memory_limit(recipe: RecipeText, text: str) -> int:
    key = ("search", "memory_limit")
    try:
        memory_bytes = parse_bytes(text)
    except NotAQuantity as error:
        raise recipe.wrong_value(key, "can't be read", f"give {error}") from error
    if memory_bytes < _LEAST_MEMORY_BYTES:
        raise recipe.wrong_value(key, "is too little to start any runtime", 'give more, such as "8 GB"')
    return memory_bytes
