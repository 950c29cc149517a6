"""Samples that tell what a network can do without: outputs with gradients, and a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Array, Arrays
from edgeport.errors import EdgeportError, PruningError, SamplesError
from edgeport.exporter.input_binding import bind_feeds
from edgeport.exporter.output_naming import name_outputs

if TYPE_CHECKING:
    import torch

__all__ = ["JUDGED", "Loss", "Samples", "output_energy"]

Loss = Callable[[Mapping[str, "torch.Tensor"], "torch.Tensor | None"], "torch.Tensor"]
"""Outputs by name and the target, of which axis 0 counts samples, to a single number."""

JUDGED = 2
"""Times as many samples as scores come from, what is proposed is judged by."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a network is looked at with.

    Attributes:
        feeds: Arrays by input name; axis 0 counts samples.
        target: Labels [N] or what the loss takes; None where there are none.
        batch: Samples in one forward pass.
        parameters: Feed to parameter of `forward`, as in `ExportOptions`.
        constants: Parameter to the value that it is always handed, as in `ExportOptions`.
        loss: Of a batch, for criteria that need gradients. By default cross entropy where the target is integers [N]
            and the first output is [N, classes], and `output_energy` where there is no target.

    """

    feeds: Arrays
    target: Array | None = None
    batch: int = 32
    parameters: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    loss: Loss | None = None

    def __post_init__(self) -> None:
        counts = {name: len(array) for name, array in self.feeds.items()}
        if self.target is not None:
            counts["target"] = len(self.target)
        if not self.feeds or len(set(counts.values())) > 1 or not all(counts.values()):
            raise SamplesError(
                asked="look at a network with samples",
                found=", ".join(f"{name}: {count}" for name, count in counts.items()) or "none",
                fix="give each input, and the target, equally many samples, one or more",
            )

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.feeds.values())))

    def first(self, count: int) -> Samples:
        """The first samples of these."""
        return self._part(slice(count))

    def unseen(self, seen: int) -> Samples:
        """Those after the first `seen`, at most `JUDGED` times as many; where there are none, the first ones."""
        return self._part(slice(seen, (1 + JUDGED) * seen)) if self.count > seen else self

    def _part(self, rows: slice) -> Samples:
        return replace(
            self,
            feeds={name: array[rows] for name, array in self.feeds.items()},
            target=self.target[rows] if self.target is not None else None,
        )

    def outputs(self, module: torch.nn.Module, rows: slice = slice(None)) -> dict[str, torch.Tensor]:
        """Of one forward pass over these rows, by name; gradients are kept where torch keeps them."""
        feeds = {name: array[rows] for name, array in self.feeds.items()}
        args, kwargs = bind_feeds(module, feeds, self.parameters, self.constants).tensors(feeds)
        device = next((one.device for one in module.parameters()), None)
        if device is not None and device.type != "cpu":
            args = tuple(one.to(device) if hasattr(one, "to") else one for one in args)
            kwargs = {name: one.to(device) if hasattr(one, "to") else one for name, one in kwargs.items()}
        return name_outputs(module(*args, **kwargs))

    def require_fit(self, module: torch.nn.Module) -> None:
        """Runs the first two samples.

        Raises:
            SamplesError: The module does not take them, or they have values that are no finite numbers.

        """
        import torch

        broken = [name for name, one in self.feeds.items() if one.dtype.kind == "f" and not np.isfinite(one).all()]
        if broken:
            raise SamplesError(
                asked=f"look at {type(module).__name__} with {self.count} samples",
                found=f"NaN or Inf in {', '.join(broken)}",
                fix="find where the preprocessing divides by zero or overflows, or drop these samples",
            )
        try:
            with torch.no_grad():
                self.first(2).outputs(module)
        except EdgeportError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in self.feeds.items())
            raise SamplesError(
                asked=f"run {type(module).__name__} on the samples ({shapes})",
                found=f"{type(error).__name__}: {str(error).strip()[:200]}",
                fix="give arrays of the shapes and dtypes that the model takes, each with the samples along axis 0",
            ) from error

    def batches(self, size: int | None = None) -> Iterator[slice]:
        """Rows of each batch; the last one may be smaller."""
        step = size or self.batch
        for start in range(0, self.count, step):
            yield slice(start, min(start + step, self.count))

    def losses(self, module: torch.nn.Module, size: int | None = None) -> Iterator[torch.Tensor]:
        """The loss of each batch.

        Raises:
            PruningError: There is a target, and no loss that would suit it.
            SamplesError: The target is of classes that the first output does not have.

        """
        import torch

        for rows in self.batches(size):
            outputs = self.outputs(module, rows)
            first = next(iter(outputs.values()))
            target = torch.from_numpy(np.array(self.target[rows])).to(first.device) if self.target is not None else None
            yield self._loss_for(outputs, target)(outputs, target)

    def _loss_for(self, outputs: Mapping[str, torch.Tensor], target: torch.Tensor | None) -> Loss:
        if self.loss is not None:
            return self.loss
        if target is None or self.target is None:
            return output_energy
        first = next(iter(outputs.values()))
        if first.ndim == 2 and target.shape == first.shape[:1] and not target.is_floating_point():
            lowest, highest = int(np.min(self.target)), int(np.max(self.target))
            if not 0 <= lowest <= highest < first.shape[1]:
                raise SamplesError(
                    asked="find what classes lose without some units",
                    found=f"labels of {lowest} to {highest} for {first.shape[1]} classes",
                    fix=f"count classes from 0 to {first.shape[1] - 1}",
                )
            return _cross_entropy
        raise PruningError(
            asked="find the gradient of a loss",
            found=f"a target {target.dtype} {list(target.shape)} and an output {list(first.shape)}, which no built-in "
            "loss takes",
            fix="give the loss yourself (Samples(loss=...)), or leave the target out",
        )


def output_energy(outputs: Mapping[str, torch.Tensor], target: torch.Tensor | None) -> torch.Tensor:
    """Half the mean squared length of the outputs, which needs no labels.

    Its gradient tells what the outputs are sensitive to: Aljundi et al., "Memory Aware Synapses" (2018), section 4.1.
    """
    del target
    floats = [value for value in outputs.values() if value.is_floating_point() and value.ndim]
    if not floats:
        given = ", ".join(f"{name}: {one.dtype} {list(one.shape)}" for name, one in outputs.items())
        raise PruningError(
            asked="find what the outputs are sensitive to",
            found=f"no floats for each sample among {given}",
            fix="let the network give its scores or values too, or give the loss yourself (Samples(loss=...))",
        )
    rows = len(floats[0])
    total: torch.Tensor = sum((value.float().square().sum() for value in floats[1:]), floats[0].float().square().sum())
    return total / (2 * rows)


def _cross_entropy(outputs: Mapping[str, torch.Tensor], target: torch.Tensor | None) -> torch.Tensor:
    import torch

    if target is None:
        raise PruningError(asked="compute cross entropy", found="no target", fix="give one")
    return torch.nn.functional.cross_entropy(next(iter(outputs.values())).float(), target.long())
