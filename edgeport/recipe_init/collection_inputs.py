"""Inputs of models that come from a collection, which says what they take."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import ModelSource
from edgeport.errors import SourceError
from edgeport.exporter.loaders.hugging_face import find_checkpoint
from edgeport.recipe_init.input_spec import Guess, Kind

if TYPE_CHECKING:
    import torch

__all__ = ["known_inputs"]

_TEXT_LENGTH = 16
_SECOND = 16000
_FRAMES = 16


def known_inputs(source: ModelSource, module: torch.nn.Module) -> tuple[Guess, ...]:
    """What the collection says of the inputs; empty for a user's own model, and where it says nothing.

    Raises:
        SourceError: A model that takes no tensors.

    """
    scheme, _, name = source.location.partition(":")
    if scheme == "timm":
        return _timm(module, source.arguments)
    if scheme == "torchvision":
        return _torchvision(name, module)
    if scheme == "hf":
        checkpoint = find_checkpoint(name, str(source.arguments.get("revision", "main")))
        return _hugging_face(module, checkpoint.folder, str(source.arguments.get("task", "")))
    if scheme == "ultralytics":
        image = Guess(name=_first(module), shape=(3, 640, 640), high=1.0, why="640 pixels, as Ultralytics trains")
        return (image,)
    return ()


def _first(module: torch.nn.Module) -> str:
    return next(iter(inspect.signature(module.forward).parameters))


def _image(name: str, shape: tuple[int, ...], mean: Any, std: Any, why: str) -> Guess:
    """Pixels of 0..1, less the mean and over the deviation of each channel."""
    if not mean or not std:
        return Guess(name=name, shape=shape, high=1.0, why=why)
    low = min(-one / each for one, each in zip(mean, std, strict=False))
    high = max((1 - one) / each for one, each in zip(mean, std, strict=False))
    return Guess(name=name, shape=shape, low=round(low, 3), high=round(high, 3), why=why)


def _timm(module: torch.nn.Module, arguments: Mapping[str, object]) -> tuple[Guess, ...]:
    config: Any = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    size = tuple(config.get("input_size") or (3, 224, 224))
    channels = arguments.get("in_chans", size[0])
    side = arguments.get("img_size", size[1:])
    sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
    shape = (int(str(channels)), *(int(str(each)) for each in sides))
    mean, std = config.get("mean"), config.get("std")
    return (_image(_first(module), shape, mean, std, f"from timm: pixels 0..1, mean {mean}, std {std}"),)


def _torchvision(name: str, module: torch.nn.Module) -> tuple[Guess, ...]:
    from torchvision import models

    if name in models.list_models(module=models.detection):
        raise SourceError(
            asked=f"draft a recipe for torchvision:{name}",
            found="a detector of torchvision, which takes a list of images and chooses boxes by loops of Python",
            fix="give a factory whose forward takes a tensor and returns raw boxes and scores, or a detector in ONNX",
        )
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    crop: Any = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [224]
    sides = tuple(crop) if len(crop) == 2 else (crop[0], crop[0])
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    video = name in models.list_models(module=models.video)
    if name in models.list_models(module=models.optical_flow):
        sides = (128, 128)
    shape = (3, _FRAMES, *sides) if video else (3, *sides)
    names = _required(module)
    why = f"from torchvision's weights: pixels 0..1, mean {mean}, std {std}"
    return tuple(_image(each, shape, mean, std, why) for each in names)


def _required(module: torch.nn.Module) -> list[str]:
    parameters = inspect.signature(module.forward).parameters
    needed = [name for name, each in parameters.items() if each.default is inspect.Parameter.empty]
    return needed or [_first(module)]


def _hugging_face(module: Any, folder: Path, task: str) -> tuple[Guess, ...]:
    parameters = list(inspect.signature(module.forward).parameters)
    config = module.config
    found: list[Guess] = []
    if "input_ids" in parameters:
        found += _text(module, parameters, folder, choices=2 if task == "multiple-choice" else 0)
    if "pixel_values" in parameters and (not found or getattr(config, "vision_config", None) is not None):
        found.append(_pixels(config, folder))
    if not found and "input_values" in parameters:
        mel = getattr(config, "num_mel_bins", None)
        frames = getattr(config, "max_length", 1024)
        shape = (frames, mel) if mel else (_SECOND,)
        axes = {} if mel else {1: "time"}
        found.append(Guess(name="input_values", shape=shape, axes=axes, why="one second of 16 kHz" if not mel else ""))
    if not found and "input_features" in parameters:
        bins: Any = getattr(config, "num_mel_bins", None) or getattr(config, "feature_projection_input_dim", 80)
        source = int(getattr(config, "max_source_positions", 50))
        whisper = config.model_type == "whisper"
        shape = (int(bins), 2 * source) if whisper else (100, int(bins))
        found.append(Guess(name="input_features", shape=shape, why="from config.json"))
    return tuple(found)


def _text(module: Any, parameters: list[str], folder: Path, *, choices: int) -> list[Guess]:
    config = module.config.get_text_config() if hasattr(module.config, "get_text_config") else module.config
    length = min(_TEXT_LENGTH, int(getattr(config, "max_position_embeddings", _TEXT_LENGTH) or _TEXT_LENGTH))
    shape = (choices, length) if choices else (length,)
    axes = {len(shape): "sequence"}
    vocabulary = int(getattr(config, "vocab_size", 2))
    tokens = Guess(
        name="input_ids",
        dtype="int64",
        shape=shape,
        kind=Kind.INTEGERS,
        low=min(5, vocabulary - 1),
        high=vocabulary - 1,
        axes=axes,
        why="tokens of the vocabulary in config.json",
    )
    found = [tokens]
    named = _tokenizer_inputs(folder)
    if "attention_mask" in parameters and (not named or "attention_mask" in named):
        found.append(
            Guess(
                name="attention_mask", dtype="int64", shape=shape, kind=Kind.MASK, axes=axes, why="which tokens count"
            )
        )
    if "token_type_ids" in parameters and "token_type_ids" in named:
        high = int(getattr(config, "type_vocab_size", 2)) - 1
        found.append(
            Guess(
                name="token_type_ids",
                dtype="int64",
                shape=shape,
                kind=Kind.INTEGERS,
                high=max(0, high),
                axes=axes,
                why="the tokenizer gives them",
            )
        )
    if getattr(module.config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        found.append(
            Guess(
                name="decoder_input_ids",
                dtype="int64",
                shape=(4,),
                kind=Kind.INTEGERS,
                high=vocabulary - 1,
                why="tokens of the vocabulary in config.json",
            )
        )
    return found


def _tokenizer_inputs(folder: Path) -> list[str]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return []
    return list(json.loads(path.read_text(encoding="utf-8")).get("model_input_names") or ())


def _pixels(config: Any, folder: Path) -> Guess:
    vision = getattr(config, "vision_config", None) or getattr(config, "backbone_config", None) or config
    size: Any = getattr(vision, "image_size", None) or _processor(folder).get("size") or 224
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge") or 224
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    channels = int(getattr(vision, "num_channels", 3))
    frames = getattr(vision, "num_frames", None)
    shape = (*((int(frames),) if frames else ()), channels, *(int(each) for each in sides))
    processor = _processor(folder)
    mean, std = processor.get("image_mean"), processor.get("image_std")
    return _image("pixel_values", shape, mean, std, "the image size of config.json")


def _processor(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
