"""Where a model comes from, and what it is once it is ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts.tensors import TensorSpec
from edgeport.errors import ContractError

__all__ = ["ModelSource", "OnnxModel"]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a trained model comes from.

    Attributes:
        location: `pkg.mod:factory`, a path to `.pt2` or `.onnx`, `torchvision:` or `timm:` and a name, `hf:` and a
            folder or a name in the local cache, or `ultralytics:` and a file.
        arguments: Keyword arguments of the factory; JSON values.
        weights: A `.safetensors` file or a checkpoint that loads with `weights_only=True`.
        search_path: Folder that is put on the import path while the factory is imported.
        allow_pickle_sha256: Digest of the one checkpoint that may run code when it is read; `ultralytics:` only.

    """

    location: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None
    search_path: Path | None = None
    allow_pickle_sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.location.strip():
            raise ContractError(
                asked="load a model", found="an empty location", fix="give pkg.mod:factory, a .pt2 or a .onnx file"
            )


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """An ONNX file that was read, checked and named canonically.

    Attributes:
        path: The `.onnx` file; its external data, if any, lies beside it.
        inputs: In the graph's order, without initializers.
        outputs: In the graph's order.
        opset: Version of the default domain.
        digest: SHA-256 over the file and its external data.
        state: Output name to the input name that it feeds on the next call, for stateful models.

    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    digest: str
    state: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = 1

    def __post_init__(self) -> None:
        inputs = {spec.name for spec in self.inputs}
        outputs = {spec.name for spec in self.outputs}
        for out, into in self.state.items():
            if out not in outputs or into not in inputs:
                raise ContractError(
                    asked=f"link state {out!r} to {into!r}",
                    found=f"outputs {sorted(outputs)} and inputs {sorted(inputs)}",
                    fix="name an output first and an input second",
                )

    @property
    def fixed_batch(self) -> int | None:
        """Samples that every call takes, where axis 0 of an input is a constant; None where the batch is free."""
        return next((spec.shape[0] for spec in self.inputs if spec.shape and isinstance(spec.shape[0], int)), None)
