"""A recipe with every default written out, as TOML that loads to the same recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    AxisRange,
    Budget,
    CompressStep,
    DataParallel,
    ExecutionConfig,
    ModelParallel,
    TensorSpec,
)
from edgeport.contracts.recipe import (
    DataSpec,
    ExportSettings,
    Recipe,
    SamplesFolder,
    SamplesFunction,
    SamplesLocation,
    SamplesMade,
    SamplesTable,
    Search,
    Target,
)
from edgeport.recipe.compress import LEARNING, as_keys
from edgeport.recipe.locations import relative_text, spelled_location
from edgeport.recipe.preprocess import preprocessing_rows
from edgeport.recipe.sections import COMPRESS
from edgeport.recipe.statistical_power import evaluation_count, thin_by_target

__all__ = ["explain"]

_DEFAULT = "default"


def explain(recipe: Recipe) -> str:
    """Every setting of the recipe; those at their default say so. What the samples can't prove is said at the end."""
    folder = recipe.path.parent if recipe.path is not None else Path.cwd()
    blocks = [_model(recipe, folder)]
    blocks += [_input(spec, recipe.initial) for spec in recipe.inputs]
    blocks += [_block(f"[inputs.{_text(name)}]", [("value", value, False)]) for name, value in recipe.constants.items()]
    declared = {spec.name for spec in recipe.inputs}
    blocks += [
        _block(f"[inputs.{_text(name)}]", [("initial", value, False)])
        for name, value in recipe.initial.items()
        if name not in declared
    ]
    blocks += [_axis(name, span) for name, span in recipe.axes.items()]
    if recipe.state:
        blocks.append(_block("[state]", [(_text(out), into, False) for out, into in recipe.state.items()]))
    blocks += [_data(recipe.data, folder), _export(recipe.export)]
    blocks += [_compress(step, folder) for step in recipe.compress]
    blocks += _targets(recipe)
    blocks += [_budget(recipe.budget, recipe.data.metric), _search(recipe.search)]
    thin = thin_by_target(recipe, evaluation_count(recipe.data))
    blocks += [f"# note: {one}" for one in thin.values() if one]
    return "\n\n".join(blocks) + "\n"


def toml_value(value: Any) -> str:
    """A JSON value as TOML, on one line."""
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_text(str(key))} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else _text(str(value))


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _block(header: str, rows: list[tuple[str, Any, bool]], comments: tuple[str, ...] = ()) -> str:
    lines = [f"{key} = {toml_value(value)}" for key, value, _ in rows]
    width = max((len(line) for line in lines if len(line) < 60), default=0)
    marked = [
        f"{line:<{width}}  # {_DEFAULT}" if is_default else line
        for line, (_, _, is_default) in zip(lines, rows, strict=True)
    ]
    return "\n".join([header, *marked, *(f"# {comment}" for comment in comments)])


def _model(recipe: Recipe, folder: Path) -> str:
    from edgeport.recipe.build import default_name

    source = recipe.source
    location = spelled_location(source.location, folder)
    rows: list[tuple[str, Any, bool]] = [
        ("source", location, False),
        ("name", recipe.name, recipe.name == default_name(location)),
        ("arguments", dict(source.arguments), not source.arguments),
    ]
    stated = recipe.statement
    rows += [(name, value, False) for name, value in vars(stated).items() if value]
    if source.weights is not None:
        rows.append(("weights", relative_text(source.weights, folder), False))
    if source.allow_pickle_sha256 is not None:
        rows.append(("allow_pickle_sha256", source.allow_pickle_sha256, False))
    return _block("[model]", rows, () if source.weights is not None else ("weights: none",))


def _axis(name: str, span: AxisRange) -> str:
    rows: list[tuple[str, Any, bool]] = [("range", (span.minimum, span.maximum), False)]
    if span.timed is not None:
        rows.append(("timed", span.timed, False))
    comments = () if span.timed is not None else ("timed: the sample of median size",)
    return _block(f"[axes.{_text(name)}]", rows, comments)


def _input(spec: TensorSpec, initial: Mapping[str, float]) -> str:
    rows: list[tuple[str, Any, bool]] = [
        ("shape", spec.shape, False),
        ("dtype", spec.dtype, spec.dtype == "float32"),
    ]
    if spec.value_range is not None:
        rows.append(("range", spec.value_range, False))
    if spec.name in initial:
        rows.append(("initial", initial[spec.name], False))
    block = _block(f"[inputs.{_text(spec.name)}]", rows)
    if spec.preprocessing is None:
        return block
    header = f"[inputs.{_text(spec.name)}.preprocess]"
    return f"{block}\n\n{_block(header, preprocessing_rows(spec.preprocessing))}"


def _location(samples: SamplesLocation | SamplesMade, folder: Path) -> str:
    if isinstance(samples, SamplesFunction | SamplesMade):
        return samples.location
    return relative_text(samples.path, folder)


def _data(data: DataSpec, folder: Path) -> str:
    from edgeport.recipe.build import default_metric
    from edgeport.recipe.samples import are_labelled

    rows: list[tuple[str, Any, bool]] = []
    if data.calibration is not None:
        rows.append(("calibration", _location(data.calibration, folder), False))
    rows += [
        ("evaluation", _location(data.evaluation, folder), False),
        *([("training", _location(data.training, folder), False)] if data.training is not None else []),
        ("preprocessed", data.preprocessed, not data.preprocessed),
        *_reading(data),
        ("target", data.target, not data.target),
        (
            "metric",
            data.metric,
            data.metric == default_metric(labelled=bool(are_labelled(data.evaluation, data.target))),
        ),
        ("output", data.output, not data.output),
        ("decode", data.decode, not data.decode),
        ("labels", data.labels, not data.labels),
        ("sequence", data.sequence, data.sequence == ""),
        ("lengths", data.lengths, not data.lengths),
    ]
    return _block("[data]", rows, () if data.calibration is not None else ("calibration: none",))


def _reading(data: DataSpec) -> list[tuple[str, Any, bool]]:
    """How files are read, where these have settings."""
    rows: list[tuple[str, Any, bool]] = []
    for location in (data.evaluation, data.calibration, data.training):
        if isinstance(location, SamplesTable):
            rows.append(("columns", location.columns, False))
        elif isinstance(location, SamplesFolder) and location.sample_rate is not None:
            rows.append(("sample_rate", location.sample_rate, False))
    return list({key: row for row in rows for key in row[:1]}.values())


def _export(export: ExportSettings) -> str:
    return _block("[export]", _compared(export, ExportSettings()))


def _search(search: Search) -> str:
    compared = _compared(search, Search())
    rows = [
        ("memory_limit", _bytes(value), is_default) if name == "memory_limit_bytes" else (name, value, is_default)
        for name, value, is_default in compared
    ]
    return _block("[search]", rows)


def _compared(given: ExportSettings | Search, default: ExportSettings | Search) -> list[tuple[str, Any, bool]]:
    return [(name, value, value == getattr(default, name)) for name, value in vars(given).items()]


def _compress(step: CompressStep, folder: Path) -> str:
    """One block, each key with the default of its section."""
    given = as_keys(step, folder)
    defaults = {name: field.default for name, field in COMPRESS[step.method].model_fields.items()}
    learning = [name for name in defaults if name in LEARNING]
    defaults = {
        name: defaults[name] for name in ("method", *(one for one in defaults if one not in learning), *learning)
    }
    rows = [
        (name, given[name], name != "method" and given[name] == defaults[name])
        for name in defaults
        if given.get(name) is not None
    ]
    missing = [name for name in defaults if name in given and given[name] is None]
    return _block("[[compress]]", rows, (f"not given: {', '.join(missing)}",) if missing else ())


def _targets(recipe: Recipe) -> list[str]:
    """Each target, and below the first of its name the budget that is its own."""
    blocks, told = [], set()
    for target in recipe.targets:
        blocks.append(_target(target))
        own = recipe.target_budgets.get(target.name)
        if own is not None and target.name not in told:
            blocks.append(_budget(own, recipe.data.metric, "[target.budget]"))
        told.add(target.name)
    return blocks


def _target(target: Target) -> str:
    default = Target(backend=target.backend)
    rows: list[tuple[str, Any, bool]] = [
        *([("name", target.name, False)] if target.name else []),
        ("backend", target.backend, False),
        ("precisions", [str(precision) for precision in target.precisions], target.precisions == default.precisions),
    ]
    rows.append(("rest", str(target.mix.rest), target.mix.rest is default.mix.rest))
    if target.mix.nodes:
        rows.append(("nodes", {choice.what: str(choice.precision) for choice in target.mix.nodes}, False))
    if target.tune_s is not None:
        rows.append(("tune", f"{target.tune_s:.15g} s", False))
    if target.least_placement is not None:
        rows.append(("require_placement", f"{100 * target.least_placement:.15g}%", False))
    rows += _execution(target.execution)
    rows.append(("device", target.device, target.device == default.device))
    comments = () if target.execution.threads is not None else ("threads: the runtime's own default",)
    return _block("[[target]]", rows, comments)


def _execution(execution: ExecutionConfig) -> list[tuple[str, Any, bool]]:
    """What differs from the runtime's own."""
    rows: list[tuple[str, Any, bool]] = []
    if execution.threads is not None:
        rows.append(("threads", execution.threads, False))
    if isinstance(execution.layout, DataParallel):
        rows.append(("streams", execution.layout.streams, False))
    if isinstance(execution.layout, ModelParallel):
        rows.append(("stages", execution.layout.stages, False))
    if execution.spinning is not None:
        rows.append(("spinning", execution.spinning, False))
    if execution.affinity:
        rows.append(("affinity", list(execution.affinity), False))
    if execution.huge_pages:
        rows.append(("huge_pages", True, False))
    if execution.runtime_device:
        rows.append(("runtime_device", execution.runtime_device, False))
    return rows


def _budget(budget: Budget, metric: str, header: str = "[budget]") -> str:
    drop_is_default = budget.accuracy_drop == Budget().accuracy_drop
    rows: list[tuple[str, Any, bool]] = [("accuracy_drop", budget.accuracy_drop, drop_is_default)]
    limits: dict[str, str | None] = {
        "latency": None
        if budget.latency_ns is None
        else f"p{_percent(budget.latency_quantile)} <= {_time(budget.latency_ns)}",
        "throughput": None if budget.throughput_per_s is None else f"{budget.throughput_per_s:.15g}/s",
        "peak_memory": _bytes(budget.peak_memory_bytes),
        "size": _bytes(budget.size_bytes),
        "first_inference": None if budget.first_inference_ns is None else _time(budget.first_inference_ns),
    }
    rows += [(name, limit, False) for name, limit in limits.items() if limit is not None]
    free = [name for name, limit in limits.items() if limit is None]
    comments = (f"accuracy_drop is in the unit of {metric}", *([f"no limit: {', '.join(free)}"] if free else []))
    return _block(header, rows, comments)


def _percent(quantile: float) -> str:
    return f"{round(100 * quantile, 9):g}"


def _time(time_ns: int) -> str:
    return f"{time_ns / 1e6:g} ms" if round(float(f"{time_ns / 1e6:g}") * 1e6) == time_ns else f"{time_ns} ns"


def _bytes(count: int | None) -> str | None:
    if count is None:
        return None
    if count and count % 2**30 == 0:
        return f"{count >> 30} GiB"
    return f"{count // 10**6} MB" if count % 10**6 == 0 else f"{count} B"
