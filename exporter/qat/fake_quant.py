"""Rounding in the forward pass, and gradients as if there were none (Bengio et al., 2013): what integers will do.

Rounds as the ONNX operators do (edgeport.backends.qdq): to nearest even, saturating, zero exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from edgeport.contracts import ActivationQuantization, WeightQuantization
from edgeport.options.precision import integer_limits

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FakeActivation", "FakeBias", "FakeWeight"]

_REDUCED_LIMIT = 64
"""Largest weight of a reduced range: 255 * 64 * 2 fits 16 bits."""

_NARROW = 7
"""Largest integer up to which a smaller range may round better: of 8 bits the whole range is always best here."""

_CLIPS = 0.02
"""Step of the search for the range that a narrow weight begins with."""


class FakeActivation(torch.nn.Module):
    """One range for a whole tensor; its width may be learned, its zero point stays.

    The width is learned as the logarithm of a factor, so that a step changes any range in proportion (Jain et al.,
    "Trained Quantization Thresholds", 2020); its gradient is that of Esser et al., "Learned Step Size Quantization"
    (2020).

    Args:
        spec: Of the plan.
        learn: Whether the width is learned.

    """

    def __init__(self, spec: ActivationQuantization, *, learn: bool) -> None:
        super().__init__()
        self._spec = spec
        self._low, self._high = integer_limits(spec.dtype)
        minimum, maximum = min(spec.minimum, 0.0), max(spec.maximum, 0.0)
        middle = 0 if self._low < 0 else (self._high + 1) // 2
        if spec.symmetric:
            step, zero = max(-minimum, maximum) / (self._high - middle), middle
        else:
            step = (maximum - minimum) / (self._high - self._low)
            zero = round(self._low - minimum / step) if step else self._low
        self.step: Tensor
        self.zero: Tensor
        self.register_buffer("step", torch.tensor([step or 1.0], dtype=torch.float32))
        self.register_buffer("zero", torch.tensor([float(min(max(zero, self._low), self._high))]))
        self.width = torch.nn.Parameter(torch.zeros(1), requires_grad=learn)

    def forward(self, value: Tensor) -> Tensor:
        """The value on the grid, of any shape; float32."""
        step = self.step_now()
        factor = 1.0 / (max(value.numel(), 1) * (self._high - self._low)) ** 0.5
        rounded: Tensor = torch._fake_quantize_learnable_per_tensor_affine(  # noqa: SLF001 (PyTorch's own kernel)
            value.float(), step, self.zero, self._low, self._high, factor
        )
        return rounded

    def step_now(self) -> Tensor:
        """The step [1] as it is now."""
        return self.step * torch.exp(self.width)

    def spec(self) -> ActivationQuantization:
        """The range as it is now, for a plan."""
        if not self.width.requires_grad:
            return self._spec
        step = float(self.step_now().item())
        zero = int(self.zero.item())
        high = (self._high - zero) * step
        low = -high if self._spec.symmetric else (self._low - zero) * step
        return replace(self._spec, minimum=low, maximum=high)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """How the numbers of a weight share scales: as rows [groups, numbers]."""

    shape: tuple[int, ...]
    axis: int | None
    block: int | None

    def split(self, weight: Tensor) -> Tensor:
        if self.axis is None:
            return weight.reshape(1, -1)
        if self.block is None:
            return weight.movedim(self.axis, 0).reshape(weight.shape[self.axis], -1)
        rows = weight.movedim(self.axis, -1)
        padded = torch.nn.functional.pad(rows, (0, -rows.shape[-1] % self.block))
        return padded.reshape(-1, self.block)

    def join(self, rows: Tensor) -> Tensor:
        if self.axis is None:
            return rows.reshape(self.shape)
        others = [size for index, size in enumerate(self.shape) if index != self.axis]
        if self.block is None:
            return rows.reshape(self.shape[self.axis], *others).movedim(0, self.axis)
        length = self.shape[self.axis]
        return rows.reshape(*others, -1)[..., :length].movedim(-1, self.axis)


class FakeWeight(torch.nn.Module):
    """A weight on the grid that is made from the weight itself, as the writer of the plan makes it.

    What narrow weights (4 bits) gain from a range below their largest number is learned too, as a factor of that range;
    the largest number stands at the end of the range always, so that the grid can be read from the weight.

    Args:
        weight: To begin with.
        spec: Of the plan; `axis` counts as `weight` does.

    """

    def __init__(self, weight: Tensor, spec: WeightQuantization) -> None:
        super().__init__()
        self._spec = spec
        low, high = integer_limits(spec.dtype)
        axis = None if spec.axis is None else spec.axis % weight.dim()
        self._groups = _Groups(shape=tuple(weight.shape), axis=axis, block=spec.block_size)
        self._low, self._high = (-high, high) if spec.symmetric else (low, high)
        if spec.reduce_range:
            self._low, self._high = (-_REDUCED_LIMIT, _REDUCED_LIMIT) if spec.symmetric else (low // 2, high // 2)
        clipped = spec.symmetric and self._high <= _NARROW and not spec.power_of_two
        rows = self._groups.split(weight.detach().float())
        begin = self._best_clip(rows).log() if clipped else torch.zeros(len(rows), 1)
        self.is_clipped = clipped
        self.clip = torch.nn.Parameter(begin, requires_grad=clipped)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid, of its shape; float32."""
        rows = self._groups.split(weight.float())
        return self._groups.join(self._rounded(rows, self.clip.clamp(max=0.0).exp()))

    def steps(self, weight: Tensor) -> Tensor:
        """The step of each group [groups], of a symmetric scheme, as it is now."""
        rows = self._groups.split(weight.detach().float())
        return (self._symmetric_step(rows) * self.clip.detach().clamp(max=0.0).exp())[:, 0]

    def _symmetric_step(self, rows: Tensor) -> Tensor:
        return self._step(rows.detach().abs().amax(dim=1, keepdim=True) / self._high)

    def _rounded(self, rows: Tensor, clip: Tensor) -> Tensor:
        if self._spec.symmetric:
            step = self._symmetric_step(rows) * clip
            return self._nearest(rows / step) * step
        fixed = rows.detach()
        least = fixed.amin(dim=1, keepdim=True).clamp(max=0.0)
        most = fixed.amax(dim=1, keepdim=True).clamp(min=0.0)
        step = self._step((most - least) / (self._high - self._low))
        zero = (self._low - least / step).round().clamp(self._low, self._high)
        return (self._nearest(rows / step + zero) - zero) * step

    def _step(self, step: Tensor) -> Tensor:
        step = torch.where(step > 0, step, torch.ones_like(step))
        return torch.exp2(torch.log2(step).ceil()) if self._spec.power_of_two else step

    def _nearest(self, steps: Tensor) -> Tensor:
        inside = steps.clamp(self._low, self._high)
        return inside + (inside.round() - inside).detach()

    def _best_clip(self, rows: Tensor) -> Tensor:
        """Per group, the factor of the range that rounds it with the least squared error."""
        best = torch.ones(len(rows), 1)
        least = torch.full((len(rows), 1), torch.inf)
        for part in torch.arange(1.0, 0.3, -_CLIPS):
            error = (self._rounded(rows, part.expand(len(rows), 1)) - rows).square().sum(dim=1, keepdim=True)
            better = error < least
            best, least = torch.where(better, part, best), torch.where(better, error, least)
        return best


class FakeBias(torch.nn.Module):
    """A bias in the steps of the sums that it is added to: those of the input times those of the weight.

    Args:
        source: Of the layer's input.
        weight: Of its weight.

    """

    def __init__(self, source: FakeActivation, weight: FakeWeight) -> None:
        super().__init__()
        self._of = (source, weight)  # a tuple, so that they are not its own parts, and saved once

    def forward(self, bias: Tensor, weight: Tensor) -> Tensor:
        """The bias [C] on its grid; its gradient is the bias'."""
        source, rounded = self._of
        step = source.step_now().detach() * rounded.steps(weight)
        steps = bias.float() / step
        return bias.float() + ((steps.round() - steps) * step).detach()
