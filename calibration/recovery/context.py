"""What methods that fit a model to a plan work with: samples, a runtime and the dialect's writer, all handed over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeport.calibration.data.rebatch import rebatch
from edgeport.calibration.recovery.layers import find_layers
from edgeport.calibration.recovery.layerwise_runner import Stepper
from edgeport.contracts import Arrays, OnnxModel, OpenModel, QuantizationPlan, SampleSet
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir

__all__ = ["MOST_SAMPLES", "RecoveryContext", "WriteQuantized", "batches_of"]

WriteQuantized = Callable[[OnnxModel, QuantizationPlan, Path], OnnxModel]
"""Writes a model as a plan says, in the plan's dialect, to a file."""

MOST_SAMPLES = 128
"""More change the mean of a channel by less than rounding does."""

HELD_BYTES = 1 << 30
"""What may be held between two pieces of the model; where it would be more, fewer samples are taken."""


@dataclass(frozen=True, kw_only=True)
class RecoveryContext:
    """Runs a float model and what a plan makes of another one side by side.

    Attributes:
        reference: The float model that the quantized one is to come near to.
        batches: Feeds of some samples, arrays by input name.
        open_model: Opens an ONNX file with some runtime.
        write: The dialect's writer.

    """

    reference: OnnxModel
    batches: tuple[Arrays, ...]
    open_model: OpenModel
    write: WriteQuantized

    @property
    def samples(self) -> int:
        """How many there are, repeats that fill up a fixed batch among them."""
        return sum(len(next(iter(feeds.values()))) for feeds in self.batches)

    @contextmanager
    def side_by_side(self, model: OnnxModel, plan: QuantizationPlan) -> Iterator[tuple[Stepper, Stepper]]:
        """The reference and the quantized model, both before their first node."""
        with tempfile.TemporaryDirectory(prefix="edgeport-recovery-") as folder:
            written = self.write(model, plan, Path(folder) / model.path.name)
            yield (
                Stepper(self.reference, self.batches, self.open_model),
                Stepper(written, self.batches, self.open_model),
            )


def batches_of(model: OnnxModel, samples: SampleSet, open_model: OpenModel) -> tuple[Arrays, ...]:
    """The first samples of a set, at most MOST_SAMPLES and fewer where the model's tensors are large.

    Args:
        model: Float. One with a fixed batch gets whole batches, the last one filled up with its own samples again.
        samples: At least one.
        open_model: Runs the model on the first batch, to see how large its tensors are.

    Raises:
        CalibrationError: No samples, or a model with a state, whose samples are no samples of their own.

    """
    if model.state or not len(samples):
        raise CalibrationError(
            asked=f"fit {model.path.name} to samples",
            found="a model with a state" if model.state else "an empty sample set",
            fix="leave the recovery methods that need samples out" if model.state else "give at least one sample",
        )
    size = model.fixed_batch or min(32, MOST_SAMPLES)
    walk = iter(rebatch(samples, size, fill_up=model.fixed_batch is not None))
    taken = [dict(next(walk).feeds)]
    count = len(next(iter(taken[0].values())))
    stepper = Stepper(model, taken, open_model)
    for layer in find_layers(read_ir(model).graph):
        stepper.until(layer.name)
    most = max(1, min(MOST_SAMPLES // count, HELD_BYTES // max(stepper.most_bytes, 1)))
    for sample in walk:
        if len(taken) >= most:
            break
        taken.append(dict(sample.feeds))
    return tuple(taken)
