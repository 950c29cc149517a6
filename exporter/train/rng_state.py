"""The state of every generator that a training step may draw from, as tensors."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch

__all__ = ["random_state", "restore_random_state", "seed_everything"]

_NUMPY_WORDS = 624


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seeds PyTorch's (CPU and CUDA), numpy's and Python's generators; each process draws other numbers."""
    own = int(np.random.SeedSequence((seed, rank)).generate_state(1, np.uint32)[0])
    torch.manual_seed(own)
    random.seed(own)
    np.random.seed(own)  # noqa: NPY002 (what users' functions may draw from)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The generators by name; a spare normal number that one of them holds is NaN where there is none."""
    _, keys, position, spare, normal = np.random.get_state()  # noqa: NPY002 (as in seed_everything)
    version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*np.asarray(keys).tolist(), int(position)], dtype=torch.int64),
        "numpy_normal": torch.tensor([float(normal) if spare else np.nan], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_normal": torch.tensor([np.nan if gauss is None else gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Puts all of them back."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    *keys, position = state["numpy"].tolist()
    normal = float(state["numpy_normal"])
    held = not np.isnan(normal)
    words = np.asarray(keys[:_NUMPY_WORDS], dtype=np.uint32)
    np.random.set_state(("MT19937", words, position, int(held), normal if held else 0.0))  # noqa: NPY002 (the same)
    version, *python = state["python"].tolist()
    gauss = float(state["python_normal"])
    random.setstate((version, tuple(python), None if np.isnan(gauss) else gauss))
