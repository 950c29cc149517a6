"""Which tensors of a layer lie along the axis that it gives, and which along the axis that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Side",
    "channel_groups",
    "is_batchnorm",
    "is_convolution",
    "is_depthwise",
    "is_the_same_for_all",
    "refresh",
    "sides_of",
]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One tensor of a layer.

    Attributes:
        tensor: Its name in the layer.
        axis: Of the units.
        repeats: How often the units stand one after the other along it, as the four gates of an LSTM.
        reads: The layer reads the units there.

    """

    tensor: str
    axis: int
    repeats: int = 1
    reads: bool = False


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What is known of a kind of layer.

    Attributes:
        fits: Whether a layer is one.
        gives: The tensors along the axis of its outputs.
        reads: Those along the axis of its inputs; the same where None, for it passes units on.
        refresh: Makes what it says of its sizes what its tensors are.

    """

    fits: Callable[[Any], bool]
    gives: Callable[[Any], tuple[Side, ...]]
    reads: Callable[[Any], tuple[Side, ...]] | None = None
    refresh: Callable[[Any], None]


def sides_of(layer: object, *, incoming: bool) -> tuple[Side, ...]:
    """The tensors that lose an entry with each unit; empty where the layer is none that is known.

    Args:
        layer: Of torch, or derived from a layer of torch.
        incoming: Of the units that it reads; else of those that it gives (for layers that pass units on, both).

    """
    for row in _ROWS:
        if row.fits(layer):
            sides = row.reads(layer) if incoming and row.reads is not None else row.gives(layer)
            return tuple(side for side in sides if getattr(layer, side.tensor, None) is not None)
    return ()


def refresh(layer: object) -> None:
    """Makes what a layer says of its sizes what its tensors are."""
    for row in _ROWS:
        if row.fits(layer):
            row.refresh(layer)
            return


def is_convolution(layer: object) -> bool:
    """Of any number of dimensions, transposed ones too."""
    from torch import nn

    plain = nn.Conv1d | nn.Conv2d | nn.Conv3d
    return isinstance(layer, plain | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)


def is_batchnorm(layer: object) -> bool:
    """Of any number of dimensions."""
    from torch import nn

    return isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm)


def is_depthwise(layer: Any) -> bool:
    """A convolution with a filter for each channel, and one output of each."""
    return is_convolution(layer) and bool(1 < layer.groups == layer.in_channels == layer.out_channels)


def is_the_same_for_all(layer: object) -> bool:
    """It has parameters, none of which belongs to a single channel."""
    from torch import nn

    return isinstance(layer, nn.PReLU) and layer.num_parameters == 1


def channel_groups(layer: Any) -> int:
    """Parts of equal size that a layer divides its channels into, of which each must lose as many; 1 for none."""
    from torch import nn

    if is_convolution(layer) and not is_depthwise(layer):
        return int(layer.groups)
    return int(layer.num_groups) if isinstance(layer, nn.GroupNorm) else 1


def _is_norm_of_channels(layer: object) -> bool:
    from torch import nn

    return is_batchnorm(layer) or isinstance(layer, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d)


def _is(name: str) -> Callable[[Any], bool]:
    def fits(layer: object) -> bool:
        from torch import nn

        return isinstance(layer, getattr(nn, name))

    return fits


def _each(*names: str) -> Callable[[Any], tuple[Side, ...]]:
    """A value for each channel in each of these tensors."""
    return lambda _: tuple(Side(tensor=name, axis=0) for name in names)


def _convolution_gives(layer: Any) -> tuple[Side, ...]:
    return Side(tensor="weight", axis=1 if layer.transposed else 0), Side(tensor="bias", axis=0)


def _convolution_reads(layer: Any) -> tuple[Side, ...]:
    return (Side(tensor="weight", axis=0 if layer.transposed else 1, reads=True),)


def _refresh_depthwise(layer: Any) -> None:
    layer.groups = layer.in_channels = layer.out_channels = len(layer.weight)


def _refresh_convolution(layer: Any) -> None:
    rows, columns = layer.weight.shape[:2]
    if layer.transposed:
        layer.in_channels, layer.out_channels = rows, columns * layer.groups
    else:
        layer.out_channels, layer.in_channels = rows, columns * layer.groups


def _refresh_linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _refresh_norm(layer: Any) -> None:
    held = layer.weight if layer.weight is not None else layer.running_mean
    layer.num_features = layer.num_features if held is None else len(held)


def _refresh_groupnorm(layer: Any) -> None:
    layer.num_channels = layer.num_channels if layer.weight is None else len(layer.weight)


def _refresh_layernorm(layer: Any) -> None:
    layer.normalized_shape = layer.normalized_shape if layer.weight is None else tuple(layer.weight.shape)


def _refresh_prelu(layer: Any) -> None:
    layer.num_parameters = layer.weight.numel()


def _refresh_embedding(layer: Any) -> None:
    layer.embedding_dim = layer.weight.shape[1]


def _lstm_gives(layer: Any) -> tuple[Side, ...]:
    """Of one layer in one direction: else several hidden states are one axis, or none reads the other."""
    if layer.num_layers > 1 or layer.bidirectional or layer.proj_size:
        return ()
    gates = [Side(tensor=name, axis=0, repeats=4) for name, _ in layer.named_parameters()]
    return (*gates, Side(tensor="weight_hh_l0", axis=1, reads=True))


def _lstm_reads(_: Any) -> tuple[Side, ...]:
    return tuple(Side(tensor=name, axis=1, reads=True) for name in ("weight_ih_l0", "weight_ih_l0_reverse"))


def _refresh_lstm(layer: Any) -> None:
    layer.input_size = layer.weight_ih_l0.shape[1]
    if not layer.proj_size:
        layer.hidden_size = layer.weight_hh_l0.shape[1]


_ROWS = (
    _Row(fits=is_depthwise, gives=_each("weight", "bias"), refresh=_refresh_depthwise),
    _Row(fits=is_convolution, gives=_convolution_gives, reads=_convolution_reads, refresh=_refresh_convolution),
    _Row(
        fits=_is("Linear"),
        gives=_each("weight", "bias"),
        reads=lambda _: (Side(tensor="weight", axis=1, reads=True),),
        refresh=_refresh_linear,
    ),
    _Row(
        fits=_is_norm_of_channels,
        gives=_each("weight", "bias", "running_mean", "running_var"),
        refresh=_refresh_norm,
    ),
    _Row(fits=_is("GroupNorm"), gives=_each("weight", "bias"), refresh=_refresh_groupnorm),
    _Row(
        fits=lambda layer: _is("LayerNorm")(layer) and len(layer.normalized_shape) == 1,
        gives=_each("weight", "bias"),
        refresh=_refresh_layernorm,
    ),
    _Row(
        fits=_is("PReLU"),
        gives=lambda layer: () if is_the_same_for_all(layer) else _each("weight")(layer),
        refresh=_refresh_prelu,
    ),
    _Row(fits=_is("Embedding"), gives=lambda _: (Side(tensor="weight", axis=1),), refresh=_refresh_embedding),
    _Row(fits=_is("LSTM"), gives=_lstm_gives, reads=_lstm_reads, refresh=_refresh_lstm),
)
"""The first that fits counts."""
