"""What the calibration and the evaluation samples must have in common, and what their labels must be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import SampleSet
from edgeport.errors import SamplesError

if TYPE_CHECKING:
    from edgeport.calibration.data import Profile

__all__ = ["Looks", "label_warnings", "require_alike"]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """How the samples of both sets look, by input; seen on the walks that check them."""

    calibration: dict[str, Profile]
    evaluation: dict[str, Profile]

    @classmethod
    def unseen(cls) -> Looks:
        """Before the walks."""
        from edgeport.calibration.data import Profile

        return cls(calibration=defaultdict(Profile), evaluation=defaultdict(Profile))

    def differences(self) -> list[str]:
        """A sentence for each input whose samples are unlike in the two sets."""
        from edgeport.calibration.data import lint_unlike

        return [f"Calibration: {lint.message}" for lint in lint_unlike(self.calibration, self.evaluation)]


def label_warnings(target: Path, classes: Sequence[str], metric: str) -> list[str]:
    """What is odd about the evaluation's labels (`.npy`; none where the file is not there), a sentence each."""
    from edgeport.calibration.data import lint_labels

    if not target.exists():
        return []
    labels = np.load(target, mmap_mode="r", allow_pickle=False)
    return [f"Evaluation: {lint.message}" for lint in lint_labels(labels, classes, metric)]


def require_alike(calibration: SampleSet, evaluation: SampleSet) -> None:
    """Makes sure that two folders count their classes alike, and that sounds are of one rate.

    Raises:
        SamplesError: They do not.

    """
    from edgeport.calibration.data import FolderSamples

    if not isinstance(calibration, FolderSamples) or not isinstance(evaluation, FolderSamples):
        return
    ours, theirs = calibration.class_folders, evaluation.class_folders
    extra = sorted(set(ours) - set(theirs))
    if extra and theirs and not evaluation.classes:
        raise SamplesError(
            asked="count the classes of the evaluation samples in the order of their folders",
            found=f"{len(theirs)} folders, and {extra[0]!r} among the calibration samples' only",
            fix="name all classes in [data] labels, in the order of the model's outputs",
            details={"problem": "labels"},
        )
    if calibration.sample_rate != evaluation.sample_rate:
        raise SamplesError(
            asked="calibrate and evaluate with sounds of one rate",
            found=f"{calibration.sample_rate} Hz and {evaluation.sample_rate} Hz",
            fix="resample one of them to the rate that the model was trained with",
            details={"problem": "sample-rate"},
        )
