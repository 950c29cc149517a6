"""A recipe for a model of the user's: what was asked, what was found, what was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeport.contracts import Capabilities, ModelSource, TensorSpec
from edgeport.recipe_init.columns import Columns
from edgeport.recipe_init.image_preprocessing import Pixels
from edgeport.recipe_init.input_spec import Guess
from edgeport.recipe_init.sample_formats import SampleFormat

__all__ = ["Draft", "InitRequest", "RecipePlan"]


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """What the user said.

    Attributes:
        model: As a recipe's [model] source; "net.py:create" and a folder of transformers are understood too.
        recipe: The file to write.
        arguments: Of the factory.
        weights: Of the model.
        allow_pickle_sha256: As in a recipe.
        inputs: "NAME=batch,3,224,224", "NAME=batch,16:int64"; empty to find them.
        samples: A set to be split into calibration and evaluation.
        calibration, evaluation: A set each, instead.
        target: Key of the labels; empty to find it.
        metric: Empty to choose one.
        backends: Empty for those that are usable here.
        accuracy_drop: None to choose it.
        latency: Of the budget, as "p50 <= 5 ms"; empty for none.
        quick: Few and short measurements, for a first look.
        force: Files that are there may be replaced.

    """

    model: str
    recipe: Path = Path("edgeport.toml")
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None
    allow_pickle_sha256: str | None = None
    inputs: tuple[str, ...] = ()
    samples: str = ""
    calibration: str = ""
    evaluation: str = ""
    target: str = ""
    metric: str = ""
    backends: tuple[str, ...] = ()
    accuracy_drop: float | None = None
    latency: str = ""
    quick: bool = False
    force: bool = False

    @property
    def samples_module(self) -> str:
        """Name of the module that may be written beside the recipe: of its own, so that several recipes share a folder.

        `edgeport.toml` gets `edgeport_samples`, `small-net.toml` gets `small_net_samples`.
        """
        name = re.sub(r"\W", "_", f"{self.recipe.stem}_samples")
        return name if name.isidentifier() else f"edgeport_{name}"


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """All that the recipe's text is made from.

    Attributes:
        asked: What the user said.
        written: The model's location, as the recipe has it.
        source: The model.
        inputs: In the model's order.
        outputs: Name to shape of one sample.
        dynamic_batch, legacy: How it can be exported.
        fixed_batch: Samples in each call, where the batch is not free.
        ranges: Smallest and largest size of a free axis, where not all sizes do.
        calibration, evaluation: As the recipe writes them; the first empty where there is none.
        stand_in: The samples are random.
        count: Of evaluation samples.
        independent: How many of these are independent of each other: the sequences, where samples are their steps.
        target: Key of the labels; empty where each sample comes with its own, or there are none.
        labels_fit: The output can be judged by the labels, or there are none.
        lengths: Free axis to the key of the array with its size in each sample.
        form: How samples come.
        columns: Of a table, which feed which input.
        pixels: From images to the input.
        cut: Sounds are brought to one length by a function beside the recipe.
        sample_rate: In Hz, of a folder of sounds that the recipe names.
        classes: Names of class folders.
        metric, output, accuracy_drop: How outputs are judged; the output empty for the first.
        why_metric: A few words.
        backends: That are used, as they were probed.
        state: Output to the input that it feeds.
        sequence: What says where sequences begin, where there is a state: a key, or the number of steps in each.
        constants: Values of inputs that are not fed.
        stateful: Output to input, where that may be a state.
        notes: Of the export.
        accelerators: Backend to the devices besides the CPU on which a model opens; each gets a target.

    """

    asked: InitRequest
    written: str
    source: ModelSource
    inputs: tuple[Guess, ...]
    outputs: Mapping[str, tuple[int, ...]]
    dynamic_batch: bool
    fixed_batch: int
    legacy: bool
    ranges: Mapping[str, tuple[int, int]]
    calibration: str
    evaluation: str
    stand_in: bool
    count: int
    independent: int
    target: str
    labels_fit: bool
    lengths: Mapping[str, str]
    form: SampleFormat
    columns: Columns | None
    pixels: Pixels | None
    cut: bool
    sample_rate: int | None
    classes: tuple[str, ...]
    metric: str
    output: str
    accuracy_drop: float
    why_metric: str
    backends: tuple[Capabilities, ...]
    state: Mapping[str, str]
    sequence: str | int
    constants: Mapping[str, Any]
    stateful: Mapping[str, str]
    notes: tuple[str, ...]
    accelerators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def from_module(self) -> bool:
        """The evaluation samples come from the module that is written beside the recipe."""
        return self.evaluation == f"{self.asked.samples_module}:evaluation"

    @property
    def fed(self) -> tuple[Guess, ...]:
        """The inputs that samples feed: all but the state."""
        return tuple(one for one in self.inputs if one.name not in self.state.values())


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What `edgeport init` did.

    Attributes:
        recipe: The file that was written.
        files: All that were written.
        inputs: As the recipe declares them.
        outputs: Name to shape of one sample.
        found: What was read from the model and the data, a sentence each.
        guessed: What may be wrong, a sentence each, with what to do.
        notes: Of the export, a sentence each.
        next: The command to go on with.

    """

    recipe: Path
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: Mapping[str, tuple[int, ...]]
    found: tuple[str, ...]
    guessed: tuple[str, ...]
    notes: tuple[str, ...]
    next: str
    schema_version: int = 1
