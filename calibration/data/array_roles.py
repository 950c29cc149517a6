"""What the arrays of a sample set are for: which input they feed, or which preprocessing takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import SamplesError

__all__ = ["ArrayRole", "sole", "wanted"]


@dataclass(frozen=True, kw_only=True)
class ArrayRole:
    """One array of a sample set.

    Attributes:
        name: As samples have it.
        spec: The input that it feeds.
        preprocessing: What is done to it afterwards; None where it is fed as it is.

    """

    name: str
    spec: TensorSpec
    preprocessing: Preprocessing | PreprocessingFunction | None = None

    @property
    def channels(self) -> int | None:
        """Colours of images for this input; None where they are not declared."""
        layout = self.preprocessing.layout if isinstance(self.preprocessing, Preprocessing) else "NHWC"
        if isinstance(self.preprocessing, PreprocessingFunction) or len(self.spec.shape) != len(layout):
            return None
        size = self.spec.shape[layout.index("C")]
        return size if isinstance(size, int) else None


def wanted(inputs: Sequence[TensorSpec], *, raw: bool) -> dict[str, ArrayRole]:
    """What a set should have, by name.

    Args:
        inputs: The model's, as far as they are known.
        raw: Samples go through the preprocessing that inputs declare; else they went through it already.

    """
    found: dict[str, ArrayRole] = {}
    for spec in inputs:
        declared = spec.preprocessing if raw else None
        name = (declared.raw or spec.name) if declared is not None else spec.name
        found.setdefault(name, ArrayRole(name=name, spec=spec, preprocessing=declared))
    return found


def sole(wants: dict[str, ArrayRole], source: str) -> ArrayRole:
    """The one array that a source of unnamed items is: of the only input, or of the only one that is preprocessed.

    Raises:
        SamplesError: No input is known, or there are several.

    """
    raw = [want for want in wants.values() if want.preprocessing is not None]
    candidates = raw if len(raw) == 1 else list(wants.values())
    if len(candidates) == 1:
        return candidates[0]
    raise SamplesError(
        asked=f"feed {source}, whose items have no names",
        found=f"a model with inputs {', '.join(map(repr, wants))}" if wants else "no name of the model's input",
        fix="give arrays by name: an .npz, a .csv with columns, or a function"
        if wants
        else 'declare the input: [inputs.NAME] with shape = ["batch", ...], NAME as forward calls it',
        details={"problem": "name"},
    )
