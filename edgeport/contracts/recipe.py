"""A recipe, read and checked: what a run is asked to do, with every default filled in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeport.contracts.candidate import Budget
from edgeport.contracts.compress import CompressStep
from edgeport.contracts.execution import ExecutionConfig, Limits
from edgeport.contracts.model import ModelSource
from edgeport.contracts.node_precision import Mix
from edgeport.contracts.tensors import AxisRange, TensorSpec
from edgeport.errors import ContractError
from edgeport.options.declare import option
from edgeport.options.export import ExportSettings
from edgeport.options.precision import Precision
from edgeport.options.training import SEEDS

__all__ = [
    "LEAST_ROUNDS",
    "LOCAL",
    "DataSpec",
    "ExportSettings",
    "Recipe",
    "SamplesFile",
    "SamplesFolder",
    "SamplesFunction",
    "SamplesLocation",
    "SamplesMade",
    "SamplesTable",
    "Search",
    "Statement",
    "Target",
    "TargetGroup",
]

LOCAL = "local"
"""Name of the machine that Edgeport runs on, among devices."""

LEAST_ROUNDS = 6
"""Pairs of processes below which not even the clearest gain is certain at 95 %: all signs alike are 2 of 2^pairs
outcomes of Wilcoxon's signed-rank test."""

_MOST_ROUNDS = 10_000
"""Each starts two processes or more, so that this is a night at least; what is more is a slip."""
_LEAST_DURATION_S = 1e-3
_LONGEST_S = 30 * 24 * 3600.0

_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAKEN_NAMES = frozenset({"bundle", "courses", "report.html", "result.json"})
"""What a run writes into its output folder itself, beside the targets' folders."""
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that Windows keeps for devices."""


@dataclass(frozen=True, kw_only=True)
class SamplesFile:
    """Samples in a `.npz`, one array per input by its name, or in a `.npy` for the only input; axis 0 counts samples.

    Attributes:
        path: Absolute.
        made: How the samples were made up where they are no real data ("range", "synthetic", "generator"); else empty.

    """

    path: Path
    made: str = ""

    @property
    def location(self) -> str:
        """As one string, for messages and payloads."""
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class SamplesFolder:
    """Images or WAV files in a folder, for the only input; or in a folder for each class, which are the labels.

    Attributes:
        path: Absolute.
        classes: Class names by index; empty where class folders are counted in the order of their names.
        sample_rate: In Hz, that sounds must have; None for any, the same in all.
        labelled: It has class folders.

    """

    path: Path
    classes: tuple[str, ...] = ()
    sample_rate: int | None = None
    labelled: bool = False

    @property
    def location(self) -> str:
        """As one string, for messages and payloads."""
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class SamplesTable:
    """Samples in the rows of a `.csv` or `.tsv`, whose first line names the columns.

    Attributes:
        path: Absolute.
        columns: Array name to its column, or to the columns that make a vector.
        classes: Class names by index, for labels in text; empty where they are counted in their order.

    """

    path: Path
    columns: Mapping[str, str | tuple[str, ...]]
    classes: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """As one string, for messages and payloads."""
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class SamplesFunction:
    """Samples from the user's own code: called without arguments, it gives an iterable of `Sample` or a mapping
    of arrays, or a torch Dataset.

    Attributes:
        function: `pkg.mod:fn`.
        search_path: Folder that is put on the import path while it is imported.

    """

    function: str
    search_path: Path | None = None

    @property
    def location(self) -> str:
        """As one string, for messages and payloads."""
        return self.function


@dataclass(frozen=True, kw_only=True)
class SamplesMade:
    """Samples that are made up, because there are no data; only to calibrate with.

    Attributes:
        made: "range" (drawn from the declared range of each input) or "synthetic" (made to fit the statistics that the
            PyTorch model's BatchNorm layers keep).
        count: Number of samples.
        seed: Of what is drawn.

    """

    made: Literal["range", "synthetic"]
    count: int = 128
    seed: int = 0

    @property
    def location(self) -> str:
        """As one string, for messages and payloads."""
        return self.made


# Those with fields that must be there come first: a reader of JSON tries them in this order.
SamplesLocation = SamplesTable | SamplesFile | SamplesFolder | SamplesFunction


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the samples are, and how outputs are judged.

    Attributes:
        calibration: None where no candidate needs ranges.
        evaluation: Shares no sample with `calibration`, nor with `training`.
        training: What is learned from, with labels where `target` names them; None for the calibration samples.
        preprocessed: The samples are what the model takes; else those of inputs that declare preprocessing are raw.
        target: Key of the labels in the `.npz`, or their column; empty where there are none, or where class folders
            are the labels.
        metric: A name in `edgeport.accuracy.METRICS`, or `pkg.mod:fn`.
        output: The output that is judged; empty for the first one.
        decode: `pkg.mod:fn`, which makes what is judged of all outputs; empty where an output is judged as it is.
        labels: Class names by index.
        sequence: What says where sequences begin: the key of an array that changes there, or the number of samples in
            each; empty where samples are not the steps of sequences.
        lengths: Name of a free axis to the key of an array with its size in each sample; what is beyond is padding.

    """

    calibration: SamplesLocation | SamplesMade | None
    evaluation: SamplesLocation
    training: SamplesLocation | None = None
    preprocessed: bool = False
    target: str = ""
    metric: str = "agreement"
    output: str = ""
    decode: str = ""
    labels: tuple[str, ...] = ()
    sequence: str | int = ""
    lengths: Mapping[str, str] = field(default_factory=dict)

    @property
    def learned_from(self) -> SamplesLocation | SamplesMade | None:
        """The training samples, or those that stand in for them; None where there are neither."""
        return self.training if self.training is not None else self.calibration


@dataclass(frozen=True, kw_only=True)
class Target:
    """One runtime on one device.

    Attributes:
        name: Of what ships: targets of one name compete with each other, and each name has its own bundle; empty where
            the recipe ships one bundle.
        backend: "onnxruntime", "openvino", "tensorrt", or `module:factory`.
        precisions: To build; one that the backend has not here becomes a refused row.
        execution: Threads and so on.
        device: Name in the user's inventory; LOCAL, this machine, is also what a run may replace (`--device`).
        mix: What its integer candidates mix; floats stay as they are, for the others must beat them.
        least_placement: Part of the planned nodes that must run as planned, 0..1; None where it does not matter.
        tune_s: Seconds for a search of the groups of nodes that int8 had better leave in float; None for no search.

    """

    name: str = ""
    backend: str
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT8_DYNAMIC)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    device: str = LOCAL
    mix: Mix = field(default_factory=Mix)
    tune_s: float | None = None
    least_placement: float | None = None

    @property
    def needs_ranges(self) -> bool:
        """One of its candidates needs calibration samples."""
        integers = [precision for precision in self.precisions if not precision.is_float]
        return any(precision.needs_ranges for precision in integers) or (bool(integers) and self.mix.needs_ranges)

    def __post_init__(self) -> None:
        # Python code may name them as recipes do.
        object.__setattr__(self, "precisions", tuple(map(Precision, self.precisions)))
        if not self.precisions or len(set(self.precisions)) != len(self.precisions):
            raise ContractError(
                asked=f"build for {self.backend}",
                found=f"precisions {list(map(str, self.precisions))}",
                fix="name at least one, each once",
            )
        if self.tune_s is not None and not 0 < self.tune_s < math.inf:
            raise ContractError(
                asked=f"search a plan for {self.backend}", found=f"{self.tune_s} seconds", fix="give some time"
            )
        if self.least_placement is not None and not 0 < self.least_placement <= 1:
            raise ContractError(
                asked=f"build for {self.backend}",
                found=f"that {self.least_placement:g} of the nodes are to run as planned",
                fix="give a share above 0, of 1 at most",
            )
        if self.name and (wrong := _wrong_name(self.name)):
            raise ContractError(
                asked=f"ship a target named {self.name!r}",
                found=f"that {wrong}",
                fix="give 1 to 64 letters, digits, points, dashes or underscores, such as pi5",
            )


def _wrong_name(name: str) -> str:
    """Why no folder of an output may be called so; empty where it may."""
    if not _TARGET_NAME.fullmatch(name) or name.endswith("."):
        return "it can't name a folder everywhere"
    if name.casefold() in _TAKEN_NAMES:
        return "a run writes something of that name itself"
    return "Windows keeps that name for a device" if _DEVICE_NAMES.fullmatch(name.casefold()) else ""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a model's owner states of it; a bundle carries it, and nothing here checks whether it is true.

    Attributes:
        licence: SPDX expression ("Apache-2.0"); empty where it is not stated.
        author, url, version: As they are; empty where not stated.

    """

    licence: str = ""
    author: str = ""
    url: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """Targets that compete for one bundle.

    Attributes:
        name: Empty where the recipe names none.
        targets: At least one, all on one device.
        budget: What their bundle must keep to.

    """

    name: str
    targets: tuple[Target, ...]
    budget: Budget

    @property
    def device(self) -> str:
        """Where they run."""
        return self.targets[0].device


@dataclass(frozen=True, kw_only=True)
class Search:
    """How much is measured, and from which seed.

    Attributes:
        rounds: Fresh process pairs that confirm the winner against the best float; the second and third challenger
            get at least 8 and 10, since fewer can't prove anything after one has failed.
        screening_rounds: Fresh processes per candidate before that.
        duration_s, warmup_s: Seconds of timed calls, and of calls before them, per process.
        cool_down_s: Rest before each process but the first, at most, until the device is as cool as before that one.
        seed: Of the random order.
        calibration_method: How ranges are found: "minmax", "percentile:99.99", "mse", ...; see calibration/ranges.
            "measured" takes for each backend the one of several that comes nearest the float model's outputs.
        recovery: What brings accuracy back to static int8: "bias-correction", ...; see calibration/recovery.
        time_limit_s, memory_limit_bytes: Of each child process; see `limits`.

    """

    # Its least value is checked by the recipe's reader, which can say why.
    rounds: int = option(
        10,
        recipe=f"fresh process pairs that confirm the winner; with fewer than {LEAST_ROUNDS} no gain is certain. "
        "Where the first challenger fails, a second gets at least 8, a third at least 10",
        within={"le": _MOST_ROUNDS, "json_schema_extra": {"minimum": LEAST_ROUNDS}},
    )
    screening_rounds: int = option(
        6,
        recipe="fresh processes per candidate before that: they say who is confirmed, and nothing ships on them "
        f"alone; with fewer than {LEAST_ROUNDS} no candidate is certainly slower, so more floats are confirmed too",
        within={"ge": 1, "le": _MOST_ROUNDS},
    )
    duration_s: float = option(
        0.3, recipe="seconds of timed calls a process", within={"ge": _LEAST_DURATION_S, "le": 600}
    )
    warmup_s: float = option(0.1, recipe="seconds of calls before them", within={"ge": 0, "le": 600})
    cool_down_s: float = option(
        0.0,
        recipe="seconds of rest before each process, at most: until the device is as cool as before the first one",
        within={"ge": 0, "le": 3600},
    )
    seed: int = option(0, recipe="of the random order", within={"ge": 0, "lt": SEEDS})
    calibration_method: str = option(
        "measured",
        recipe="ranges: auto, average, entropy, global, global:-6:6, measured, minmax, mse, percentile:99.99 or pow2",
    )
    recovery: tuple[str, ...] = option(
        (),
        recipe="brings accuracy back to static int8, each off by default: "
        "equalization, smoothing, rounding, bias-correction",
    )
    time_limit_s: float = option(
        Limits().time_s,
        recipe="seconds that one step in a child process may take: an export, the compilation of one candidate",
        within={"ge": 0.1, "le": _LONGEST_S, "allow_inf_nan": False},
    )
    memory_limit_bytes: int = Limits().memory_bytes

    @property
    def limits(self) -> Limits:
        """What each child process may take."""
        return Limits(time_s=self.time_limit_s, memory_bytes=self.memory_limit_bytes)

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what can't be one
        if self.rounds < 1 or self.screening_rounds < 1 or self.duration_s <= 0 or self.warmup_s < 0:
            raise ContractError(
                asked="measure candidates",
                found=f"{self.screening_rounds} + {self.rounds} rounds of {self.warmup_s} + {self.duration_s} s",
                fix="give at least one round each and a positive duration",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What `edgeport run` is asked to do.

    Attributes:
        path: The file it was read from, absolute; None where it was made in Python.
        name: Of the model, as bundles and tables show it.
        source: The model.
        inputs: Declared inputs; empty where they are read from the model or the samples.
        axes: Range of a free axis, by its name.
        state: Output to the input that it feeds on the next call.
        initial: What a state is filled with where a sequence begins, by input; 0 where it is not here.
        constants: Inputs that are not fed: their values, JSON values by name, are written into the graph.
        statement: What its owner states of it.
        targets: All of them have a name, or none has.
        budget: What each bundle must keep to.
        target_budgets: Instead of it, by name of the targets.
        compress: What is done to the PyTorch model, in this order; what comes of it competes with the model as it is.

    """

    path: Path | None = None
    name: str
    source: ModelSource
    inputs: tuple[TensorSpec, ...] = ()
    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    initial: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    data: DataSpec
    export: ExportSettings = field(default_factory=ExportSettings)
    statement: Statement = field(default_factory=Statement)
    targets: tuple[Target, ...]
    budget: Budget = field(default_factory=Budget)
    target_budgets: Mapping[str, Budget] = field(default_factory=dict)
    search: Search = field(default_factory=Search)
    compress: tuple[CompressStep, ...] = ()
    schema_version: int = 1

    @property
    def fed(self) -> tuple[TensorSpec, ...]:
        """The declared inputs that samples feed: all but the state."""
        return tuple(spec for spec in self.inputs if spec.name not in self.state.values())

    @property
    def search_path(self) -> Path | None:
        """Folder that the user's metric and decoder are imported from, beside what is installed."""
        return self.source.search_path or (self.path.parent if self.path is not None else None)

    def __post_init__(self) -> None:
        if not self.targets:
            raise ContractError(asked=f"run the recipe {self.name!r}", found="no target", fix="name at least one")
        self._check_names()
        if any(target.needs_ranges for target in self.targets) and self.data.calibration is None:
            raise ContractError(
                asked="build static int8",
                found="no calibration samples",
                fix='give [data] calibration, or leave "int8" out of the precisions',
            )

    @property
    def groups(self) -> tuple[TargetGroup, ...]:
        """The targets by name, in the recipe's order; one group without a name where there are no names."""
        return tuple(
            TargetGroup(
                name=name,
                targets=tuple(target for target in self.targets if target.name == name),
                budget=self.target_budgets.get(name, self.budget),
            )
            for name in dict.fromkeys(target.name for target in self.targets)
        )

    def _check_names(self) -> None:
        asked = f"run the recipe {self.name!r}"
        names = list(dict.fromkeys(target.name for target in self.targets))
        if "" in names and len(names) > 1:
            raise ContractError(
                asked=asked, found=f"targets without a name beside {names[names[0] == '']}", fix="name all or none"
            )
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                raise ContractError(
                    asked=asked,
                    found=f"the targets {other} and {name}, whose folders are one on some systems",
                    fix="give them the same name, or different ones",
                )
        for group in self.groups:
            devices = list(dict.fromkeys(target.device for target in group.targets))
            if len(devices) > 1:
                raise ContractError(
                    asked=asked,
                    found=f"targets{f' named {group.name}' * bool(group.name)} on {' and '.join(devices)}",
                    fix="give those of each device a name of their own: only what runs on one device competes",
                )
        unknown = sorted(set(self.target_budgets) - set(names))
        if unknown:
            raise ContractError(
                asked=asked, found=f"a budget for {unknown[0]}, which is no target", fix="name a target"
            )
