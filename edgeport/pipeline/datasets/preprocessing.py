"""What a recipe's inputs declare of preprocessing, as the steps of a run need it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    Array,
    Arrays,
    OnnxModel,
    Preprocessing,
    PreprocessingFunction,
    SampleSet,
    TensorSpec,
    load_json,
    to_jsonable,
)
from edgeport.contracts.recipe import Recipe

__all__ = ["Preparation"]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How raw samples become what devices are fed with, and that what the float model takes.

    The two differ where preprocessing is folded: devices feed uint8, and the model before the folding takes floats.

    Attributes:
        inputs: As declared for the float model; empty where nothing is.
        search_path: Folder that is on the import path while functions are imported.
        raw: The samples of inputs that declare preprocessing are raw.

    """

    inputs: tuple[TensorSpec, ...] = ()
    search_path: Path | None = None
    raw: bool = True

    @classmethod
    def of(cls, recipe: Recipe) -> Preparation:
        """That of a recipe."""
        folder = recipe.path.parent if recipe.path is not None else recipe.source.search_path
        return cls(inputs=recipe.inputs, search_path=folder, raw=not recipe.data.preprocessed)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Preparation:
        """What `to_jsonable` wrote as `preparation`; where a payload has none, nothing is done."""
        return load_json(cls, json.dumps(payload["preparation"])) if payload.get("preparation") else cls()

    def as_payload(self) -> dict[str, Any]:
        """For a child's payload and a step's key."""
        return {"preparation": to_jsonable(self)}

    @property
    def does_something(self) -> bool:
        """Samples are not what devices feed."""
        return self.raw and any(spec.preprocessing is not None for spec in self.inputs)

    @property
    def runs_functions(self) -> bool:
        """The user's code takes part, so that only doing it tells what comes out."""
        return self.raw and any(isinstance(spec.preprocessing, PreprocessingFunction) for spec in self.inputs)

    @property
    def folded(self) -> dict[str, Preprocessing]:
        """What becomes part of the graph, by input."""
        declared = {spec.name: spec.preprocessing for spec in self.inputs}
        return {name: one for name, one in declared.items() if isinstance(one, Preprocessing) and one.fold}

    def fed(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The float model's inputs as devices feed them, with what is done before."""
        from edgeport.preprocessing import outside_of

        declared = {spec.name: spec.preprocessing for spec in self.inputs}
        return tuple(outside_of(replace(spec, preprocessing=declared.get(spec.name))) for spec in inputs)

    def described(self, model: OnnxModel) -> OnnxModel:
        """The model that devices run, each input with what is done before it."""
        from edgeport.preprocessing import outside_of

        outside = {spec.name: outside_of(spec).preprocessing for spec in self.inputs}
        return replace(
            model, inputs=tuple(replace(spec, preprocessing=outside.get(spec.name)) for spec in model.inputs)
        )

    def prepared(self, samples: SampleSet) -> SampleSet:
        """The samples as devices feed them; applied batch by batch, whenever the set is walked."""
        from edgeport.calibration.data import Preprocessed

        if not self.does_something:
            return samples
        from edgeport.preprocessing import Preprocessor

        return Preprocessed(samples, Preprocessor(self.fed(self.inputs), self.search_path))

    def unfolded(self, feeds: Arrays) -> dict[str, Array]:
        """What devices feed as the float model takes it."""
        dtypes = {spec.name: spec.dtype for spec in self.inputs}
        parts = {name: self._last_part(one, feeds[name], dtypes[name]) for name, one in self.folded.items()}
        return {**feeds, **parts}

    @staticmethod
    def _last_part(declared: Preprocessing, images: Array, dtype: str) -> Array:
        from edgeport.preprocessing import apply, inside_of

        images = images if declared.fold == "NHWC" else images.transpose(0, 2, 3, 1)
        return apply(inside_of(declared), images, dtype=dtype)
