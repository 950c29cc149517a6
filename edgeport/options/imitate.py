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

    count: int = option(5000, least=1, help="Samples to draw.")
    inputs: str = option("", flag="--input", metavar="NAME", help="The array [default: the only one of float32].")
    value_range: tuple[float, float] | None = option(
        None,
        flag="--range",
        parse="interval",
        default_text="",
        metavar="LOW:HIGH",
        help="Of its values [default: as in the samples].",
    )
    epochs: int = option(40, least=1)
    batch_size: int = option(64, least=1)
    latent: int = option(64, least=1, help="Numbers of a code.")
    width: int = option(32, least=1, help="Channels of the networks.")
    rate: float = option(1e-3, above=0)
    seed: int = option(0)
    device: str = device_option()
