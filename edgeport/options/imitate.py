"""How samples are drawn that look like given ones."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.declare import option
from edgeport.options.training import device_option

__all__ = ["ImitateOptions"]


@dataclass(frozen=True, kw_only=True)
class ImitateOptions:
    """Of `edgeport.api.imitate`.

    Attributes:
        count: Of the samples to draw.
        inputs: Name of the array; the only one of float32 if empty.
        value_range: Of its values; None for the smallest and the largest in the samples.
        epochs: Walks over the samples.
        batch_size: Samples per step.
        latent: Numbers of a code.
        width: Channels of the networks.
        rate: Learning rate of Adam.
        seed: Of everything drawn.
        device: "cpu", "cuda" or "auto".

    """

    count: int = option(5000, "Samples to draw.", least=1)
    inputs: str = option("", "The array [default: the only one of float32].", flag="--input", metavar="NAME")
    value_range: tuple[float, float] | None = option(
        None,
        "Of its values [default: as in the samples].",
        flag="--range",
        parse="interval",
        default_text="",
        metavar="LOW:HIGH",
    )
    epochs: int = option(40, least=1)
    batch_size: int = option(64, least=1)
    latent: int = option(64, "Numbers of a code.", least=1)
    width: int = option(32, "Channels of the networks.", least=1)
    rate: float = option(1e-3, above=0)
    seed: int = option(0)
    device: str = device_option()
