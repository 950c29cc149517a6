"""What a generator has made so far, for the student to come back to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Memory"]

_LEVELS = 255


class Memory(nn.Module):
    """The newest samples, as buffers, so that they are in a training's checkpoints.

    A student that sees the newest samples alone forgets the older ones: Binici et al., "Preventing Catastrophic
    Forgetting and Distribution Mismatch in Knowledge Distillation via Synthetic Data" (WACV 2022).

    Args:
        capacity: Samples that are kept.
        shape: Of one.
        value_range: Where it is known, 256 levels between its ends are kept, a byte each; else float32.

    """

    def __init__(self, capacity: int, shape: tuple[int, ...], value_range: tuple[float, float] | None = None) -> None:
        super().__init__()
        self._range = value_range
        self._written: int | None = 0
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call] # torch leaves it untyped
        dtype = torch.float32 if value_range is None else torch.uint8
        self.samples: Tensor
        self.written: Tensor
        self.register_buffer("samples", torch.zeros((capacity, *shape), dtype=dtype))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        if self._written is None:
            self._written = int(self.written)
        return min(self._written, len(self.samples))

    def add(self, samples: Tensor) -> None:
        """Keeps samples [N, ...]; the oldest make place."""
        capacity = len(self.samples)
        samples = samples.detach()[-capacity:]
        before = int(self.written)
        start = before % capacity
        rows = (torch.arange(len(samples), device=self.samples.device) + start) % capacity
        self.samples[rows] = self._stored(samples)
        self.written += len(samples)
        self._written = before + len(samples)

    def draw(self, count: int) -> Tensor:
        """Samples at random, with repetition, float32 [count, ...]; of PyTorch's global generator.

        Raises:
            IndexError: There are none yet.

        """
        if not len(self):
            raise IndexError("an empty memory")
        rows = torch.randint(len(self), (count,))
        return self._read(self.samples[rows.to(self.samples.device)])

    def first(self, count: int) -> Tensor:
        """As they lie, the oldest of them somewhere in between; float32 [count or fewer, ...]."""
        return self._read(self.samples[: min(count, len(self))])

    def newest(self, count: int) -> Tensor:
        """The last ones that were added, in the order in which they were; float32 [count or fewer, ...]."""
        count = min(count, len(self))
        device = self.samples.device
        rows = torch.arange(-count, 0, device=device) + self.written
        return self._read(self.samples[rows % len(self.samples)])

    def _stored(self, samples: Tensor) -> Tensor:
        if self._range is None:
            return samples.float()
        low, high = self._range
        return ((samples.float() - low) / (high - low) * _LEVELS).round().clamp(0, _LEVELS).to(torch.uint8)

    def _read(self, stored: Tensor) -> Tensor:
        if self._range is None:
            return stored
        low, high = self._range
        return stored.float() / _LEVELS * (high - low) + low


def _forget(module: nn.Module, keys: object) -> None:
    """The number on this side was that of other samples; reading it from a GPU in each step would make that wait."""
    del keys
    if isinstance(module, Memory):
        module._written = None  # noqa: SLF001 (its own)
