"""Where a model comes from, and what it is once it is ONNX."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from edgeport.contracts.request import Scratch
from edgeport.contracts.tensors import TensorSpec
from edgeport.errors import ContractError, RecipeError

__all__ = ["ModelSource", "OnnxModel", "link_state"]


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

    path: Annotated[Path, Scratch]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    digest: str
    state: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = 1

    def __post_init__(self) -> None:
        link_state(self.state, self.inputs, self.outputs)

    @property
    def fed(self) -> tuple[TensorSpec, ...]:
        """The inputs that samples feed: all but the state, which the model feeds itself."""
        return tuple(spec for spec in self.inputs if spec.name not in self.state.values())

    @property
    def fixed_batch(self) -> int | None:
        """Samples that every call takes, where axis 0 of an input is a constant; None where the batch is free.

        The state does not count: its axis 0 may be anything, such as the layers of an LSTM.
        """
        return next((spec.shape[0] for spec in self.fed if spec.shape and isinstance(spec.shape[0], int)), None)


def link_state(state: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Makes sure that each output can feed the input that it is linked to.

    Raises:
        RecipeError: No such output or input, or they differ in dtype or shape.

    """
    takes, gives = {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs}
    for out, into in state.items():
        asked, details = f"feed output {out!r} back to input {into!r} ([state])", {"state": out}
        for name, known, what in ((out, gives, "output"), (into, takes, "input")):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                raise RecipeError(
                    asked=asked,
                    found=f"no {what} {name!r} among {', '.join(map(repr, known))}",
                    fix=f"did you mean {near[0]!r}?" if near else f"name one of the {what}s: OUTPUT = INPUT",
                    details=details,
                )
        source, sink = gives[out], takes[into]
        if source.dtype != sink.dtype or not _same_shape(source.shape, sink.shape):
            raise RecipeError(
                asked=asked,
                found=f"{source.dtype} {list(source.shape)} as output and {sink.dtype} {list(sink.shape)} as input",
                fix="link outputs and inputs of the same dtype and shape",
                details=details,
            )


def _same_shape(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    """Equal, as far as sizes are known."""
    return len(one) == len(other) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(one, other, strict=True)
    )
