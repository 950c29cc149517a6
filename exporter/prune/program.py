"""A pruned network as a `.pt2` file, which needs no code of the user's any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.atomic import atomic_file
from edgeport.errors import PruningError
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.silence import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["save_program"]


def save_program(module: torch.nn.Module, samples: Samples, path: Path, options: ExportOptions) -> None:
    """Writes the module as a `.pt2` file, which needs no code of the user's any more.

    Args:
        module: In evaluation mode.
        samples: Two or more; the example that is traced.
        path: The file.
        options: Which axes stay free, and how the module is walked.

    Raises:
        PruningError: torch.export can't take it.

    """
    import torch

    from edgeport.exporter.capture import CaptureFailed, capture, free_axes
    from edgeport.exporter.input_binding import bind_feeds

    binding = bind_feeds(module, samples.feeds, samples.parameters, samples.constants)
    axes = free_axes(samples.feeds, options, batch=options.dynamic_batch)
    try:
        with quiet():
            program = capture(module, binding, samples.feeds, axes, options.capture).program
    except CaptureFailed as error:
        raise PruningError(
            asked=f"write {path.name}",
            found=f"that torch.export fails: {str(error.failures[-1]).strip()[:200]}",
            fix="write a .safetensors file, which the model's own code loads",
        ) from error
    with atomic_file(path) as draft:
        torch.export.save(program, draft)
