"""From the pixels of a file to an image input: as the model's collection says, or a plain way that is to be checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import ModelSource
from edgeport.errors import SamplesError
from edgeport.recipe_init.input_spec import Guess

if TYPE_CHECKING:
    import torch

__all__ = ["Pixels", "image_layout", "known_pixels", "pixels_for"]

_CHANNELS = (1, 3)
_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
_PILLOW = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Numbers of Pillow's `Resampling`, which preprocessor_config.json has as `resample`."""

_CHECK = "check: no one says what the training did"


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """[inputs.NAME.preprocess] of an image input.

    Attributes:
        settings: Its keys and values.
        why: Where they are from, for a comment.
        doubt: What of the training's own can't be said so; empty for nothing.
        known: The collection says it.

    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    why: str = _CHECK
    doubt: str = ""
    known: bool = False


def image_layout(guess: Guess) -> str:
    """NCHW or NHWC, by the axis of 1 or 3 channels; empty where an input is no image."""
    if len(guess.shape) != 3:
        return ""
    return "NCHW" if guess.shape[0] in _CHANNELS else "NHWC" if guess.shape[2] in _CHANNELS else ""


def pixels_for(guess: Guess, known: Pixels | None, size: tuple[int, int], *, fixed: bool = False) -> Pixels:
    """The whole section for one input.

    Args:
        guess: The input.
        known: What the collection says; None for a model of the user's.
        size: Height and width of the user's images.
        fixed: The model's file says what it takes, so that nobody can say another shape.

    Raises:
        SamplesError: The input is no image.

    """
    layout = image_layout(guess)
    if not layout:
        raise SamplesError(
            asked=f"feed {guess.name} with images",
            found=f"that it takes {list(guess.declared)}, which is no batch of images of 1 or 3 channels",
            fix=("" if fixed else f"say its shape (--input {guess.name}=batch,3,224,224), or ")
            + "give samples as the model takes them, by a function (pkg.mod:function) or in a .npz",
        )
    sides = guess.shape[1:] if layout == "NCHW" else guess.shape[:2]
    settings: dict[str, Any] = {"layout": layout} if layout != "NCHW" else {}
    if known is not None:
        crop = {"crop": list(sides)} if isinstance(known.settings.get("resize"), int) else {}
        sizes = {key: value for key, value in known.settings.items() if key == "resize"}
        return Pixels(
            settings={**sizes, **crop, **known.settings, **settings}, why=known.why, doubt=known.doubt, known=True
        )
    resize = {} if tuple(size) == sides else {"resize": list(sides)}
    scale = {"scale": "1/255"} if guess.dtype.startswith("float") else {}
    return Pixels(settings=({**resize, **scale} or {"resize": list(sides)}) | settings)


def known_pixels(source: ModelSource, module: torch.nn.Module) -> Pixels | None:
    """What a collection says of images; None for a model of the user's, and where it says nothing."""
    scheme, _, name = source.location.partition(":")
    if scheme == "torchvision":
        return _torchvision(name)
    if scheme == "timm":
        return _timm(module, source.arguments)
    if scheme == "hf":
        from edgeport.exporter.loaders.hugging_face import find_checkpoint

        return _hugging_face(find_checkpoint(name, str(source.arguments.get("revision", "main"))).folder)
    if scheme == "ultralytics":
        doubt = "Ultralytics keeps the proportions and fills up with grey; here images are stretched"
        return Pixels(settings={"resize": [640, 640], "scale": "1/255"}, why="from Ultralytics", doubt=doubt)
    return None


def _normalised(mean: Any, std: Any, scale: float | str = "1/255") -> dict[str, Any]:
    numbers = {"mean": mean, "std": std}
    return {"scale": scale} | {name: [float(one) for one in each] for name, each in numbers.items() if each}


def _interpolated(name: str) -> tuple[dict[str, Any], str]:
    if name in _INTERPOLATIONS:
        return ({"interpolation": name} if name != "bilinear" else {}), ""
    return {}, f"the training's interpolation, {name}, is none of {', '.join(_INTERPOLATIONS)}"


def _torchvision(name: str) -> Pixels | None:
    from torchvision import models

    transforms: Any = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    resize = list(getattr(transforms, "resize_size", None) or [])
    if not mean or not std or not resize:
        return None
    interpolation = getattr(transforms, "interpolation", None)
    how, doubt = _interpolated(str(getattr(interpolation, "value", "bilinear")))
    if not getattr(transforms, "crop_size", None):
        doubt = doubt or "torchvision keeps the proportions of images; here a square is cut from their middle"
    settings = {"resize": resize[0] if len(resize) == 1 else resize, **how, **_normalised(mean, std)}
    return Pixels(settings=settings, why="from torchvision's weights", doubt=doubt)


def _timm(module: torch.nn.Module, arguments: Mapping[str, object]) -> Pixels:
    from timm.data.config import resolve_data_config

    asked = {"img_size": arguments["img_size"]} if "img_size" in arguments else {}
    resolve: Any = resolve_data_config
    config = resolve(asked, model=module)
    sides = [int(side) for side in config["input_size"][1:]]
    bigger = [math.floor(side / float(config["crop_pct"])) for side in sides]
    squashed = config.get("crop_mode") == "squash"
    how, doubt = _interpolated(config["interpolation"])
    settings = {"resize": bigger if squashed or len(set(bigger)) > 1 else bigger[0], **how}
    if isinstance(settings["resize"], list):
        settings["crop"] = sides
    return Pixels(
        settings=settings | _normalised(config["mean"], config["std"]), why="from timm's configuration", doubt=doubt
    )


def _hugging_face(folder: Path) -> Pixels | None:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    size, crop = config.get("size"), config.get("crop_size")
    settings: dict[str, Any] = {}
    if config.get("do_resize", True) and size:
        size = {"height": size, "width": size} if isinstance(size, int) else dict(size)
        settings["resize"] = (
            [int(size["height"]), int(size["width"])] if "height" in size else int(size.get("shortest_edge", 224))
        )
    if config.get("do_center_crop") and crop and isinstance(settings.get("resize"), list):
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        settings["crop"] = [int(crop["height"]), int(crop["width"])]
    how, doubt = _interpolated(_PILLOW.get(int(config.get("resample", 2)), "another"))
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    scale = "1/255" if abs(factor * 255 - 1) < 1e-6 else factor
    normalised = bool(config.get("do_normalize", True))
    numbers = _normalised(
        config.get("image_mean") if normalised else None, config.get("image_std") if normalised else None, scale
    )
    return Pixels(settings={**settings, **how, **numbers}, why="from preprocessor_config.json", doubt=doubt)
