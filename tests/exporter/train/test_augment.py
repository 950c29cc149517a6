"""Images, shifted and mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeport.errors import ContractError, SamplesError
from edgeport.exporter.train.augment import CropAndFlip


def test_each_image_is_a_shifted_or_mirrored_one() -> None:
    images = torch.arange(1, 1 + 8 * 2 * 3 * 4, dtype=torch.float32).reshape(8, 2, 3, 4)
    torch.manual_seed(0)

    changed = CropAndFlip(padding=1)({"image": images, "length": torch.ones(8)})

    assert torch.equal(changed["length"], torch.ones(8))
    seen = set()
    for before, after in zip(images.numpy(), changed["image"].numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (1, 1), (1, 1)))
        found = [
            (top, left, flip)
            for top in range(3)
            for left in range(3)
            for flip in (False, True)
            if np.array_equal(padded[:, top : top + 3, left : left + 4][:, :, :: -1 if flip else 1], after)
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 3
    torch.manual_seed(0)
    assert torch.equal(CropAndFlip(padding=1)({"image": images})["image"], changed["image"])


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(SamplesError, match=r"tokens \[4, 6\]"):
        CropAndFlip()({"tokens": torch.zeros(4, 6)})
    with pytest.raises(ContractError):
        CropAndFlip(padding=-1)
    assert torch.equal(CropAndFlip(padding=0, flip=False)({"x": torch.ones(1, 1, 2, 2)})["x"], torch.ones(1, 1, 2, 2))
