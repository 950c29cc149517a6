"""What goes into a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts import Array, Arrays, Artifact, AxisRange, Budget, Candidate, DeviceFacts, OnnxModel, Provenance
from edgeport.errors import OutputError

__all__ = ["BundleContents"]


@dataclass(frozen=True, kw_only=True)
class BundleContents:
    """The pieces of a bundle, as a run found them.

    Attributes:
        name: Of the model.
        candidate: The one that ships; its artifact is copied.
        model: That the artifact was made from.
        budget: As asked.
        device: On which it was measured.
        versions: Of Edgeport, Python and the runtimes.
        sample: One batch of inputs; arrays by input name, axis 0 counts samples.
        expected: What the artifact answered to `sample` on the device; arrays by output name.
        begins: What each state begins with, by input; a stateful model's sample is one sequence.
        axes: Range of a free axis, by its name, where it was declared.
        labels: Class names by index, where there are any.
        class_output: Name of the output that holds scores of classes; empty where none is known to.
        target: Name of the targets that it is for; empty where they have none.
        provenance: Where the model comes from.
        data_free: Calibration used synthesised samples.
        report: `report.html` of the run, copied if given.
        modules: Files of the modules whose functions preprocess raw samples in `run.py`, by the module's name.

    """

    name: str
    candidate: Candidate
    model: OnnxModel
    budget: Budget
    device: DeviceFacts
    versions: Mapping[str, str]
    sample: Arrays
    expected: Mapping[str, Array]
    begins: Arrays = field(default_factory=dict)
    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    class_output: str = ""
    target: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    data_free: bool = False
    report: Path | None = field(default=None)
    modules: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.candidate.artifact is None:
            raise OutputError(
                asked=f"bundle {self.candidate.name}", found="no artifact: it was never built", fix="choose another"
            )
        if not self.sample or not self.expected:
            raise OutputError(
                asked=f"bundle {self.candidate.name}",
                found="no sample, or no outputs for it",
                fix="record one batch of inputs and what the artifact answered",
            )

    @property
    def artifact(self) -> Artifact:
        """The candidate's."""
        if self.candidate.artifact is None:  # __post_init__ saw to it
            raise TypeError
        return self.candidate.artifact
