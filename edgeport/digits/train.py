"""Trains the digits network; runs in a child process, so that its caller never loads PyTorch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Array, OnProgress, ProgressEvent, silent
from edgeport.errors import DependencyError

if TYPE_CHECKING:
    import torch

    from edgeport.digits.network import DigitsCnn

__all__ = ["Digits", "load_digits", "train"]

SEED = 0
TRAINING = 896  # 28 whole batches: batch norm learns nothing good from a batch of one
CALIBRATION = 128
EPOCHS = 8
BATCH = 32
_LARGEST_SHIFT = 3


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The images, split; no image of one part is in the other.

    Attributes:
        training: float32 [896, 1, 32, 32], 0..1. Calibration takes the first of these.
        training_target: int64 [896], 0..9.
        evaluation: float32 [901, 1, 32, 32], 0..1; seen by neither training nor calibration.
        evaluation_target: int64 [901], 0..9.

    """

    training: Array
    training_target: Array
    evaluation: Array
    evaluation_target: Array


def load_digits() -> Digits:
    """Scikit-learn's 1,797 digits (E. Alpaydin and C. Kaynak, UCI, 1998), enlarged bilinearly from 8x8 to 32x32.

    Raises:
        DependencyError: Scikit-learn or PyTorch is missing.

    """
    try:
        import torch
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise missing(error) from error
    data = load()
    small = torch.from_numpy(data.images.astype(np.float32) / 16.0)[:, None]
    images = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False).numpy()
    target = data.target.astype(np.int64)
    training, evaluation = train_test_split(
        np.arange(len(target)), train_size=TRAINING, stratify=target, random_state=SEED
    )
    return Digits(
        training=images[training],
        training_target=target[training],
        evaluation=images[evaluation],
        evaluation_target=target[evaluation],
    )


def missing(error: ImportError) -> DependencyError:
    """The error that names the extra."""
    return DependencyError(
        asked="prepare the quickstart",
        found=f"no {error.name or 'package'} ({error})",
        fix='install it: pip install "edgeport[quickstart]"',
        details={"extra": "quickstart", "module": error.name},
    )


def train(payload: Mapping[str, object], on_progress: OnProgress = silent) -> dict[str, object]:
    """Trains the network and writes it and its samples.

    Args:
        payload: "folder", where the files go; "epochs", optional.
        on_progress: Told after each epoch.

    Returns:
        "accuracy": top-1 on the evaluation images, 0..1.

    Raises:
        DependencyError: Scikit-learn or PyTorch is missing.

    """
    # Idle OpenMP threads spin by default: on a machine with other work, training took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded
    folder = Path(str(payload["folder"]))
    epochs = int(str(payload.get("epochs", EPOCHS)))
    on_progress(ProgressEvent(stage="train", message="loading 1,797 handwritten digits", done=0, total=epochs))
    digits = load_digits()
    np.savez(
        folder / "calibration.npz",
        images=digits.training[:CALIBRATION],
        target=digits.training_target[:CALIBRATION],
    )
    np.savez(folder / "evaluation.npz", images=digits.evaluation, target=digits.evaluation_target)
    model = fit(digits, epochs, on_progress)

    from edgeport.digits import network
    from edgeport.exporter.checkpoint import write_weights

    write_weights(model, folder / "weights.safetensors")
    shutil.copyfile(network.__file__, folder / "digits_cnn.py")
    return {"accuracy": top1(model, digits.evaluation, digits.evaluation_target)}


def fit(digits: Digits, epochs: int, on_progress: OnProgress) -> DigitsCnn:
    """Cross-entropy with AdamW and a one-cycle schedule (Smith and Topin, 2018), on randomly shifted images."""
    import torch
    from torch.nn.functional import cross_entropy

    from edgeport.digits.network import DigitsCnn

    torch.set_num_threads(min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    images, target = torch.from_numpy(digits.training), torch.from_numpy(digits.training_target)
    model = DigitsCnn()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, epochs=epochs, steps_per_epoch=steps)
    model.train()
    for epoch in range(epochs):
        for chosen in torch.randperm(len(images)).view(-1, BATCH):
            loss = cross_entropy(model(shifted(images[chosen])), target[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
            schedule.step()
        message = f"epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}"
        on_progress(ProgressEvent(stage="train", message=message, done=epoch + 1, total=epochs))
    return model.eval()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The batch, moved by up to three pixels (less than one of the 8x8 original)."""
    import torch

    down, right = torch.randint(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1, (2,)).tolist()
    return images.roll((down, right), dims=(2, 3))


def top1(model: DigitsCnn, images: Array, target: Array) -> float:
    """Part of the images whose highest score is the target's, 0..1."""
    import torch

    with torch.inference_mode():
        found = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    return float((found == target).mean())
