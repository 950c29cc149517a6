"""BatchNorm's statistics, taken anew over samples: those that were kept are of a network with all its units.

Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning" (2020), section 3.3 (adaptive batch
normalization). It is no training: no weight changes, and no label is looked at.
"""

from __future__ import annotations

from typing import Any

import torch

from edgeport.exporter.prune.graph.layers import is_batchnorm
from edgeport.exporter.prune.samples import Samples

__all__ = ["recalibrate"]


def recalibrate(module: torch.nn.Module, samples: Samples) -> int:
    """Takes means and variances of every BatchNorm over the samples, in place; all else stays in evaluation mode.

    Args:
        module: In evaluation mode.
        samples: Hundreds, of real data: of random values the statistics would be those of noise.

    Returns:
        How many norms have new statistics.

    """
    norms: list[Any] = [layer for layer in module.modules() if is_batchnorm(layer)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        with torch.no_grad():
            for rows in samples.batches() if norms else ():
                if rows.stop - rows.start > 1:  # one sample may have no variance
                    samples.outputs(module, rows)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return len(norms)
