"""The recipe as short, commented TOML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgeport.contracts import Capabilities, Precision
from edgeport.recipe.explain import toml_value
from edgeport.recipe.locations import FILES, FUNCTION, SCHEMES
from edgeport.recipe_init.draft import RecipePlan
from edgeport.recipe_init.input_spec import Guess

__all__ = ["recipe_text", "shape_of"]

_WANTED = (Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8, Precision.INT8_DYNAMIC)
_COLUMN = 46
_QUICK = (("rounds", 6), ("screening_rounds", 2), ("duration_s", 0.05), ("warmup_s", 0.02))


def recipe_text(plan: RecipePlan) -> str:
    """Text that loads as a recipe; what was guessed says so."""
    blocks = [
        _head(plan),
        _model(plan),
        *(_input(plan, one) for one in plan.inputs),
        *(_constant(name, value) for name, value in plan.constants.items()),
        *_axes(plan),
        _state(plan),
        _data(plan),
        _export(plan),
        _compress(plan),
    ]
    for one in plan.backends:
        blocks += [
            _target(plan, one),
            *(_accelerated(one, device) for device in plan.accelerators.get(one.backend, ())),
        ]
    blocks += [_budget(plan), _search(plan)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def shape_of(plan: RecipePlan, guess: Guess) -> tuple[int | str, ...]:
    """As the recipe declares it, with the batch that the model fixes where it is not free."""
    return guess.declared if plan.dynamic_batch else guess.batched(plan.fixed_batch)


def _head(plan: RecipePlan) -> str:
    name = plan.asked.recipe.name
    lines = [f"Written by `edgeport init`. Run it: edgeport run {name}"]
    lines += [f"Every other key and its default: edgeport run {name} --explain"]
    if plan.stateful:
        links = ", ".join(f"{out} -> {into}" for out, into in plan.stateful.items())
        lines.append(f"Perhaps state that goes from one call to the next, for a [state] section: {links}.")
    lines += [f"Note: {note}" for note in plan.notes]
    return "\n".join(f"# {' '.join(line.split())}" for line in lines)


def _line(key: str, value: object, comment: str = "") -> str:
    text = f"{key} = {toml_value(value)}"
    return f"{text:<{_COLUMN}}  # {' '.join(comment.split())}" if comment else text


def _model(plan: RecipePlan) -> str:
    asked = plan.asked
    rows = ["[model]", _line("source", plan.written, _source_comment(plan.written))]
    if asked.arguments:
        rows.append(_line("arguments", dict(asked.arguments)))
    if asked.weights is not None:
        rows.append(_line("weights", _beside(asked.weights, asked.recipe.absolute().parent)))
    elif FUNCTION.fullmatch(plan.written) and not plan.written.startswith(SCHEMES):
        rows.append('# weights = "weights.safetensors"  # if the factory does not load them itself')
    if asked.allow_pickle_sha256 is not None:
        rows.append(_line("allow_pickle_sha256", asked.allow_pickle_sha256))
    return "\n".join(rows)


def _source_comment(written: str) -> str:
    scheme = written.partition(":")[0]
    if scheme in ("torchvision", "timm"):
        return 'an architecture: random weights, unless you give weights = "FILE.safetensors"'
    return "" if written.startswith(SCHEMES) or written.endswith(FILES) else "a class or function beside this file"


def _beside(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else os.fspath(absolute)


def _input(plan: RecipePlan, guess: Guess) -> str:
    name = _key(guess.name)
    rows = [f"[inputs.{name}]", _line("shape", shape_of(plan, guess), guess.why)]
    if guess.dtype != "float32":
        rows.append(_line("dtype", guess.dtype))
    if guess.name in plan.state.values():
        return "\n".join(rows)
    if plan.pixels is not None:
        why = [plan.pixels.why]
        rows += ["", f"[inputs.{name}.preprocess]"]
        rows += [_line(key, value, why.pop() if why else "") for key, value in plan.pixels.settings.items()]
        rows += [f"# {plan.pixels.doubt}"] if plan.pixels.doubt else []
        if not plan.pixels.known:
            rows.append("# mean = [0.485, 0.456, 0.406]  # subtracted then, and std divided by, if the training did so")
    if plan.cut:
        why = ["check: shorter sounds get zeros at their end, longer ones lose it"]
        rows += ["", f"[inputs.{name}.preprocess]", _line("function", f"{plan.asked.samples_module}:cut", why[0])]
    return "\n".join(rows)


def _constant(name: str, value: object) -> str:
    return f"[inputs.{_key(name)}]\n{_line('value', value, 'check: it is the same in every call')}"


def _state(plan: RecipePlan) -> str:
    why = ["what goes out goes in at the next step"]
    rows = [_line(_key(out), into, why.pop() if why else "") for out, into in plan.state.items()]
    return "\n".join(["[state]", *rows]) if rows else ""


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _axes(plan: RecipePlan) -> list[str]:
    why = "the sizes that the model takes"
    return [f"[axes.{name}]\n{_line('range', list(both), why)}" for name, both in plan.ranges.items()]


def _data(plan: RecipePlan) -> str:
    stand_in = "random: replace by samples of yours" if plan.stand_in else ""
    rows = ["[data]"]
    if plan.calibration:
        rows.append(_line("calibration", plan.calibration, stand_in or "where int8 ranges come from"))
    else:
        rows.append('# calibration = "calibration.npz"  # samples that int8 ranges come from; then add "int8" below')
    rows.append(_line("evaluation", plan.evaluation, stand_in or f"{plan.count} samples that candidates are judged on"))
    if plan.columns is not None and not plan.from_module:
        columns = {name: of if isinstance(of, str) else list(of) for name, of in plan.columns.inputs.items()}
        beside = [*plan.lengths.values(), *([plan.columns.sequence] if plan.columns.sequence else [])]
        rows.append(_line("columns", columns | {name: name for name in beside}, "what feeds what"))
    if plan.sample_rate is not None:
        rows.append(_line("sample_rate", plan.sample_rate, "Hz, of the sounds given"))
    if plan.target and not plan.from_module:
        rows.append(_line("target", plan.target, "the labels"))
    if plan.lengths:
        rows.append(_line("lengths", dict(plan.lengths), "how much of each sample is no padding"))
    if plan.state:
        why_sequence = (
            "steps in each"
            if isinstance(plan.sequence, int)
            else "by its name: where it changes, the state begins anew"
        )
        rows.append(_line("sequence", plan.sequence, why_sequence))
    rows.append(_line("metric", plan.metric, plan.why_metric))
    if plan.output:
        rows.append(_line("output", plan.output, f"of {', '.join(plan.outputs)}"))
    return "\n".join(rows)


def _export(plan: RecipePlan) -> str:
    if plan.written.endswith(".onnx"):
        return ""
    rows = []
    if not plan.dynamic_batch:
        rows.append(_line("dynamic_batch", value=False, comment="the export with a free batch failed"))
    if plan.legacy:
        rows.append(_line("allow_legacy_exporter", value=True, comment="torch.export failed"))
    return "\n".join(["[export]", *rows]) if rows else ""


def _compress(plan: RecipePlan) -> str:
    """What a PyTorch model can be made smaller by, as a comment: it costs a training."""
    if plan.written.endswith(FILES) or plan.state:
        return ""
    return '# [[compress]]  # with training samples: method = "prune", "distill" or "qat", in a block each'


def _target(plan: RecipePlan, backend: Capabilities) -> str:
    rows = [
        "[[target]]",
        _line("backend", backend.backend, f"{backend.version} is installed" if backend.version else ""),
    ]
    precisions = precisions_of(backend, calibrated=bool(plan.calibration))
    rows.append(_line("precisions", [str(one) for one in precisions]))
    return "\n".join(rows)


def _accelerated(backend: Capabilities, runtime_device: str) -> str:
    """In float32 alone: what a backend says of precisions is of the CPU."""
    rows = [
        "[[target]]",
        _line("backend", backend.backend),
        _line("runtime_device", runtime_device, "a small model opened there; the CPU's candidates stand beside it"),
        _line("precisions", [str(Precision.FP32)]),
    ]
    return "\n".join(rows)


def precisions_of(backend: Capabilities, *, calibrated: bool) -> Sequence[Precision]:
    """What the backend compiles here; fp32 always, for something to compare with."""
    here = [one for one in _WANTED if (support := backend.precisions.get(one)) is not None and support.available]
    if not calibrated and Precision.INT8 in here:
        here.remove(Precision.INT8)
    return here or [Precision.FP32]


def _budget(plan: RecipePlan) -> str:
    unit = f"largest loss against the float model, in {plan.metric}"
    rows = ["[budget]", _line("accuracy_drop", plan.accuracy_drop, unit)]
    if plan.asked.latency:
        rows.append(_line("latency", plan.asked.latency))
    else:
        rows.append('# latency = "p50 <= 5 ms"  # also: size = "10 MB", peak_memory = "500 MB"')
    return "\n".join(rows)


def _search(plan: RecipePlan) -> str:
    if not plan.asked.quick:
        return ""
    comments = ["a first look: remove this section for narrower intervals"]
    rows = [_line(key, value, comments.pop() if comments else "") for key, value in _QUICK]
    return "\n".join(["[search]", *rows])
