"""How a PyTorch model is made, beside where its code is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeport.options.declare import option

__all__ = ["SourceOptions"]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Of a model's source.

    Attributes:
        weights: A `.safetensors` file or a safe checkpoint.
        arguments: Of the factory.
        allow_pickle_sha256: Digest of the ultralytics checkpoint that may run code.

    """

    weights: Path | None = option(None, ".safetensors, or a checkpoint that loads without running code.")
    arguments: Mapping[str, object] = option(
        factory=dict, text="Argument of the factory.", flag="--argument", parse="arguments", metavar="NAME=JSON"
    )
    allow_pickle_sha256: str | None = option(None, "Digest of the ultralytics .pt that may run code.")
