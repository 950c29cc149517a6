"""From a model's location to a recipe that runs: look, choose, write, and read back what was written."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.accuracy import METRICS
from edgeport.accuracy.metrics import Truth
from edgeport.atomic import atomic_write
from edgeport.contracts import (
    DTYPES,
    Accelerator,
    Capabilities,
    Limits,
    ModelSource,
    OnProgress,
    ProgressEvent,
    TensorSpec,
    silent,
    to_jsonable,
)
from edgeport.contracts.recipe import SamplesFunction
from edgeport.errors import DependencyError, EdgeportError, OutputError, UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.compilation.accelerators import accelerators_of
from edgeport.pipeline.compilation.probe import probed_with_accelerators
from edgeport.recipe import load_recipe
from edgeport.recipe.locations import SCHEMES
from edgeport.recipe_init.assign import LABELS, kind_of
from edgeport.recipe_init.choices import DROPS, ProvidedSamples, choose
from edgeport.recipe_init.draft import Draft, InitRequest, RecipePlan
from edgeport.recipe_init.input_spec import Guess
from edgeport.recipe_init.model_location import checked_source, written_location
from edgeport.recipe_init.recipe_text import recipe_text, shape_of
from edgeport.recipe_init.sample_checks import converted, nothing_takes, require_fitting
from edgeport.recipe_init.sample_formats import SampleFormat
from edgeport.recipe_init.samples import FoundSamples, find_samples
from edgeport.recipe_init.samples_text import random_samples
from edgeport.recipe_init.split_text import Split, cut_sounds, split_samples

__all__ = ["declared_input", "draft_recipe"]

_INPUT = re.compile(r"(?P<name>[^=]+)=(?P<shape>[\w,]*?)(?::(?P<dtype>\w+))?")
_NAMED_AXIS = 16
"""Size of an axis that the user only named."""


def draft_recipe(asked: InitRequest, *, on_progress: OnProgress = silent, limits: Limits | None = None) -> Draft:
    """Looks at a model and writes a recipe that `edgeport run` takes, and random samples where none were given.

    Args:
        asked: What the user said.
        on_progress: Told of every step.
        limits: Of each child process.

    Raises:
        OutputError: A file is there already.
        UsageError: What was asked does not go together, or names nothing.
        SourceError, ExportError: The model can't be loaded, run or exported.
        SamplesError: The samples can't be read, or do not fit.

    """
    within = limits if limits is not None else Limits()
    folder = asked.recipe.absolute().parent
    _require_free(asked)
    _require_sense(asked)
    written = written_location(asked.model, folder)
    source = checked_source(asked, written)
    with tempfile.TemporaryDirectory(prefix="edgeport-init-") as scratch, ThreadPoolExecutor(max_workers=1) as pool:
        probing = pool.submit(_usable, asked.backends, within)
        given = _given_samples(asked, folder, Path(scratch), within)
        found = _look(asked, source, given, on_progress, within)
        on_progress(ProgressEvent(stage="look", message="ask the backends", done=4, total=4))
        backends, accelerators = probing.result()
    plan = replace(choose(asked, written, source, given, found, backends), accelerators=accelerators)
    return _write(plan, given, found)


def _require_free(asked: InitRequest) -> None:
    wanted = [asked.recipe]
    if not asked.evaluation:
        wanted.append(asked.recipe.absolute().with_name(f"{asked.samples_module}.py"))
    taken = [path for path in wanted if path.exists()]
    if taken and not asked.force:
        raise OutputError(
            asked=f"write {', '.join(path.name for path in wanted)}",
            found=f"{taken[0]}, which is there already",
            fix="name another recipe with -o, such as -o second.toml, or say --force to replace it",
        )
    if asked.recipe.suffix != ".toml" or not asked.recipe.absolute().parent.is_dir():
        raise OutputError(
            asked=f"write {asked.recipe}",
            found="another ending than .toml" if asked.recipe.suffix != ".toml" else "no such folder",
            fix="name it like edgeport.toml, in a folder that exists",
        )


def _require_sense(asked: InitRequest) -> None:
    """What can be said before anything is looked at."""
    for text in asked.inputs:
        declared_input(text)
    if asked.samples and (asked.calibration or asked.evaluation):
        raise UsageError(
            asked="take --samples and --calibration or --evaluation",
            found="that --samples is to be split into the two others",
            fix="give --samples alone, or the two others",
        )
    if asked.calibration and not asked.evaluation:
        raise UsageError(
            asked="judge candidates",
            found="calibration samples alone",
            fix="give --evaluation too, other samples; or --samples, which is split",
        )


def _look(
    asked: InitRequest, source: ModelSource, given: ProvidedSamples, on_progress: OnProgress, limits: Limits
) -> dict[str, Any]:
    payload: dict[str, Any] = {"target": asked.target}
    if given.evaluation is not None:
        payload |= {"form": given.evaluation.form, "facts": dict(given.evaluation.facts)}
        if given.evaluation.first.is_file():
            payload["samples"] = str(given.evaluation.first)
    if source.location.endswith(".onnx") and not source.location.startswith(SCHEMES):
        from edgeport.onnx_files import open_onnx

        if asked.inputs:
            raise UsageError(
                asked=f"declare the inputs {', '.join(asked.inputs)}",
                found="an ONNX file, which says what it takes",
                fix="leave --input out; --samples may say more",
            )
        payload["model"] = to_jsonable(open_onnx(Path(source.location)))
        function, what = "edgeport.recipe_init.inspect_onnx:look_at_onnx", f"run {asked.model} on random inputs"
        return run_isolated(function, payload, limits=limits, on_progress=on_progress, asked=what)
    payload["source"] = to_jsonable(source)
    payload["given"] = [to_jsonable(declared_input(text)) for text in asked.inputs]
    function, what = "edgeport.recipe_init.inspect_module:look_at_module", f"run and export {asked.model}"
    return run_isolated(function, payload, limits=limits, on_progress=on_progress, asked=what)


def declared_input(text: str) -> Guess:
    """`NAME=batch,3,224,224` or `NAME=2,16:int64`; axis 0 is the batch, and other names are free axes."""
    match = _INPUT.fullmatch(text)
    sizes = match["shape"].split(",") if match is not None else []
    dtype = (match["dtype"] or "") if match is not None else ""
    if match is None or not sizes[0] or (dtype and dtype not in DTYPES) or not all(map(_is_axis, sizes)):
        raise UsageError(
            asked=f"take --input {text}",
            found="no NAME=SHAPE",
            fix="write it as --input image=batch,3,224,224 or --input tokens=batch,time:int64",
        )
    name = match["name"]
    integers = name.lower().rpartition("_")[2] in ("ids", "tokens", "indices") or name.lower() in ("tokens", "ids")
    dtype = dtype or ("int64" if integers else "float32")
    kind, high = kind_of(name, dtype)
    shape = tuple(int(size) if size.isdigit() else _NAMED_AXIS for size in sizes[1:])
    axes = {index: size for index, size in enumerate(sizes) if index and not size.isdigit()}
    return Guess(name=name, dtype=dtype, shape=shape, kind=kind, high=high, axes=axes, why="as --input says")


def _is_axis(text: str) -> bool:
    return text.isidentifier() or (text.isdigit() and int(text) > 0)


def _given_samples(asked: InitRequest, folder: Path, scratch: Path, limits: Limits) -> ProvidedSamples:
    def look(text: str) -> FoundSamples | None:
        return find_samples(text, folder, scratch, limits, target=asked.target) if text else None

    samples = look(asked.samples)
    if samples is not None:
        return ProvidedSamples(
            evaluation=samples, split=not isinstance(samples.location, SamplesFunction) and samples.count >= 2
        )
    return ProvidedSamples(calibration=look(asked.calibration), evaluation=look(asked.evaluation))


def _usable(names: Sequence[str], limits: Limits) -> tuple[tuple[Capabilities, ...], Mapping[str, tuple[str, ...]]]:
    """The backends, and the devices besides the CPU on which their models open."""
    probes = _usable_backends(names, limits)
    opened = {one.backend: accelerators_of(one, accelerators) for one, accelerators in probes if one.can_run}
    return tuple(one for one, _ in probes), opened


def _usable_backends(names: Sequence[str], limits: Limits) -> list[tuple[Capabilities, tuple[Accelerator, ...]]]:
    """Those that were named, or all that can run here, with the accelerators that each knows."""
    from edgeport.backends.registry import available_backends

    probes = [probed_with_accelerators(name, limits) for name in names or available_backends()]
    usable = probes if names else [probe for probe in probes if probe[0].can_run]
    if not any(one.installed for one, _ in usable):
        reasons = "; ".join(f"{one.backend}: {one.reason}" for one, _ in probes)
        raise DependencyError(
            asked="find a runtime for the recipe", found=f"none that is usable here ({reasons})", fix="edgeport doctor"
        )
    return usable


def _write(plan: RecipePlan, given: ProvidedSamples, found: Mapping[str, Any]) -> Draft:
    require_fitting(plan, given)
    recipe, guessed = plan.asked.recipe.absolute(), _guessed(plan, given, found)  # which may refuse: before any file
    files = {recipe: recipe_text(plan)}
    module = _samples_module(plan, given)
    if module:
        files[recipe.with_name(f"{plan.asked.samples_module}.py")] = module
    if module and plan.asked.evaluation:  # who gives both sets seldom needs one
        _require_free(replace(plan.asked, evaluation=""))
    new = [path for path in files if not path.exists()]
    for path, text in files.items():
        _write_whole(path, text)
    try:
        load_recipe(recipe)  # what was written is read back by the reader that `run` has
    except EdgeportError:
        for path in new:  # or the next try would find them there
            path.unlink(missing_ok=True)
        raise
    specs = tuple(TensorSpec(name=one.name, dtype=one.dtype, shape=shape_of(plan, one)) for one in plan.inputs)
    place = os.path.relpath(recipe)
    return Draft(
        recipe=recipe,
        files=tuple(files),
        inputs=specs,
        outputs=plan.outputs,
        found=_found(plan),
        guessed=guessed,
        notes=plan.notes,
        next=f"edgeport run {place if not place.startswith('..') else recipe}",
    )


def _samples_module(plan: RecipePlan, given: ProvidedSamples) -> str:
    if given.evaluation is None:
        calibration = max(32, min(128, plan.count // 4))
        return random_samples(plan.fed, calibration=calibration, evaluation=plan.count)
    if given.split:
        key = plan.sequence if isinstance(plan.sequence, str) else ""
        texts = given.evaluation.facts.get("texts", {}).get(plan.target)
        split = Split(
            path=given.evaluation.text,
            form=plan.form,
            inputs=plan.fed,
            beside=tuple(plan.lengths.values()),
            target=plan.target,
            count=given.evaluation.count,
            columns=plan.columns,
            converted=tuple(converted(plan, given)),
            facts={**given.evaluation.facts, **({"classes": texts} if texts else {})},
            cut=plan.cut,
            sequence=(key if plan.form in (SampleFormat.NAMED, SampleFormat.TABLE) else "") if plan.state else None,
        )
        return split_samples(split)
    return cut_sounds(plan.inputs[0]) if plan.cut else ""


def _write_whole(path: Path, text: str) -> None:
    """Under a temporary name first, so that a full disk leaves no half file; a link is replaced, not followed."""
    try:
        atomic_write(path, text)
    except OSError as error:
        raise OutputError(
            asked=f"write {path}", found=str(error.strerror), fix="name a place that can be written with -o"
        ) from error


def _found(plan: RecipePlan) -> tuple[str, ...]:
    inputs = ", ".join(f"{one.name} {one.dtype} {list(shape_of(plan, one))}" for one in plan.inputs)
    outputs = ", ".join(f"{name} {['batch', *shape]}" for name, shape in plan.outputs.items())
    free = sorted({axis for one in plan.inputs for axis in one.axes.values()})
    facts = [f"It takes {inputs}.", f"It gives {outputs}."]
    if plan.dynamic_batch:
        facts.append(f"It exports with a free batch{' and free ' + ', '.join(free) if free else ''}.")
    if plan.state:
        links = ", ".join(f"{out} goes into {into}" for out, into in plan.state.items())
        facts.append(f"It has a state: {links}.")
    usable = [one.backend for one in plan.backends]
    usable += [f"{backend} on {device}" for backend, devices in plan.accelerators.items() for device in devices]
    facts.append(f"Usable here: {', '.join(usable)}.")
    facts.append(f"Judged by {plan.metric}: {plan.why_metric}.")
    return tuple(facts)


def _guessed(plan: RecipePlan, given: ProvidedSamples, found: Mapping[str, Any]) -> tuple[str, ...]:
    doubts = [
        f"The shape of {one.name}, {list(shape_of(plan, one))}, is a guess: the model runs with it. Say --input "
        f"{one.name}=batch,... if it is another."
        for one in plan.inputs
        if one.why.startswith("guessed")
    ]
    if plan.stand_in:
        doubts.append(
            f"The samples are random ({plan.asked.samples_module}.py): accuracy means nothing on them; what is judged "
            "is agreement with the float model on random data. Give --samples FILE, or write your own functions there."
        )
    elif given.calibration is None and not given.split:
        doubts.append("There are no calibration samples, so int8 is left out. Give --calibration, other samples.")
    doubts += [*_doubts_of_lengths(plan, known=bool(found["lengths"])), *_doubts_of_files(plan)]
    doubts += _doubts_of_labels(plan, nothing_takes(plan, given))
    for name, (has, takes) in converted(plan, given).items():
        doubts.append(f"The samples' {name} is {has} and becomes {takes}, which the model takes.")
    if plan.state and isinstance(plan.sequence, int) and not plan.stand_in:
        doubts.append(
            "Nothing says where sequences begin, so each set is taken for one: add an array `sequence` to the samples, "
            "or set [data] sequence to the number of steps in each."
        )
    doubts += [f"{name} = {value} is written into the graph: check it." for name, value in plan.constants.items()]
    if plan.stateful:
        links = ", ".join(f"{out} goes into {into}" for out, into in plan.stateful.items())
        doubts.append(
            f"Perhaps state goes from call to call: {links}. If so, write it: [state] {_first(plan.stateful)}."
        )
    known = METRICS.get(plan.metric)
    if known is not None and known.proportion and plan.asked.accuracy_drop is None and plan.accuracy_drop > DROPS[0]:
        what = f"sequence{'s' * (plan.independent != 1)}" if plan.state else "evaluation samples"
        doubts.append(
            f"{plan.independent} {what} can prove no smaller drop than {plan.accuracy_drop:g}; with more, lower "
            "[budget] accuracy_drop."
        )
    if known is None or known.truth is not Truth.LABELS or not plan.stand_in:
        return tuple(doubts)
    raise UsageError(
        asked=f"judge by {plan.metric}",
        found="no samples, and random ones have no labels",
        fix="give --samples with labels, or leave --metric out",
    )


def _first(links: Mapping[str, str]) -> str:
    out, into = next(iter(links.items()))
    return f'{out} = "{into}"'


def _doubts_of_lengths(plan: RecipePlan, *, known: bool) -> list[str]:
    """What `lengths` among the samples' arrays was taken for, where more than one axis is free, or none."""
    free = list(dict.fromkeys(name for one in plan.inputs for name in one.axes.values()))
    if not known or len(free) == 1:
        return []
    if not free:
        fixed = "but the export fixes their length, so that their padding is fed as it is"
        return [f"The samples say how long each of them is (lengths), {fixed}."]
    axis, *others = free
    return [
        f"The samples' lengths are taken for those of the axis {axis}, not {', '.join(others)}: see [data] lengths."
    ]


def _doubts_of_labels(plan: RecipePlan, left: Sequence[str]) -> list[str]:
    """Which of the samples' arrays is taken for the labels, where another may be meant; of tables it is said anyway."""
    doubts = []
    if plan.metric == "agreement" and not plan.stand_in:
        why, fix = "No labels were found", "Give --target KEY for top1"
        if not plan.labels_fit:
            whose = f"The array {plan.target} holds" if plan.target else "The labels are"
            why, fix = f"{whose} no class index and no one-hot row per sample", f"{fix}, if another does"
        doubts.append(f"{why}, so agreement with the float model is judged. {fix}.")
    if plan.columns is not None:
        return doubts
    instead = f", and {', '.join(left)} for nothing" if left else ""
    if plan.target and not plan.asked.target and (left or plan.target.lower() not in LABELS):
        doubts.append(f"The array {plan.target} is taken for the labels{instead}. Say --target if it is another.")
    elif left:
        doubts.append(f"Nothing takes {', '.join(left)}: left out of the samples. Say --target if it is the labels.")
    return doubts


def _doubts_of_files(plan: RecipePlan) -> list[str]:
    """What was read out of images, sounds and tables, where it may be wrong."""
    doubts = []
    name = plan.inputs[0].name
    if plan.pixels is not None and not plan.pixels.known:
        doubts.append(
            f"How images become {name} is plain: their size, and numbers of 0..1. Check [inputs.{name}.preprocess] "
            "against the training: mean, std, crop, color."
        )
    if plan.pixels is not None and plan.pixels.doubt:
        doubts.append(f"[inputs.{name}.preprocess] is not all that the training did: {plan.pixels.doubt}.")
    if plan.cut:
        doubts.append(f"Sounds are cut to {plan.inputs[0].shape[-1]} samples, or get zeros at their end. Check `cut`.")
    scores = next(iter(plan.outputs.values()), ())
    if plan.classes and plan.metric == "top1" and scores and len(plan.classes) != scores[0]:
        doubts.append(
            f"There are {len(plan.classes)} class folders and {scores[0]} scores: folders are counted in the order of "
            "their names, which must be that of the first scores."
        )
    if plan.columns is not None and plan.columns.left:
        doubts.append(f"Columns that feed nothing: {', '.join(plan.columns.left)}.")
    if plan.columns is not None and plan.columns.target and not plan.asked.target:
        doubts.append(f"The column {plan.columns.target} is taken for the labels. Say --target if it is another.")
    return doubts
