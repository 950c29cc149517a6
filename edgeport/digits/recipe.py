"""The quickstart's recipe, as it is written beside the network."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["recipe_with"]

_RECIPE = """\
# What `edgeport run edgeport.toml` does: every key is in docs/reference/recipe.md, and
# `edgeport run edgeport.toml --explain` prints those that are left at their defaults.

[model]
name = "digits"
source = "digits_cnn:DigitsCnn"     # a class or function in digits_cnn.py, beside this file
weights = "weights.safetensors"

[inputs.images]                     # the argument of DigitsCnn.forward
shape = ["batch", 1, 32, 32]
range = [0.0, 1.0]

[data]                              # .npz files: one array per input, and the labels
calibration = "calibration.npz"     # 128 images: where int8 ranges come from
evaluation = "evaluation.npz"       # 901 other images: how accuracy is judged
target = "target"
metric = "top1"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[[target]]                          # fp32, bf16 where the CPU has it, int8 and dynamic int8
backend = "onnxruntime"

[[target]]
backend = "openvino"

[[target]]                          # built if TensorRT is installed; run if there is a GPU that it takes
backend = "tensorrt"
precisions = ["fp16", "int8"]

[budget]
accuracy_drop = 0.01                # at most one image in a hundred may be lost against the float model
"""

_BEFORE = "[[target]]                          # built if TensorRT"
_ACCELERATED = """\
[[target]]                          # a small model opened there
backend = "onnxruntime"
runtime_device = "{device}"
precisions = ["fp32"]

"""


def recipe_with(devices: Sequence[str]) -> str:
    """The text, with a target of ONNX Runtime for each of these devices beside that of the CPU.

    Args:
        devices: As a target's `runtime_device` names them.

    """
    blocks = "".join(_ACCELERATED.format(device=device) for device in devices)
    return _RECIPE.replace(_BEFORE, blocks + _BEFORE)
