"""What TensorRT can do on this machine: nearly always build, rarely run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeport.backends.tensorrt.rules import rules
from edgeport.backends.tensorrt.runtime import Gpu, TensorRt, find_gpu, load_tensorrt
from edgeport.contracts import Artifact, Capabilities, Precision, Support
from edgeport.errors import DependencyError, UnsupportedByBackend

__all__ = [
    "DEFAULT_TARGET",
    "capabilities_here",
    "capabilities_of_all",
    "check_float8",
    "describe",
    "device_of",
    "target_for",
]

DEFAULT_TARGET = "8.6"
"""Compute capability to build for where there is no GPU: the GeForce RTX 30 series."""
_DEFAULT_FLOAT8 = "8.9"
"""The same for floats of 8 bits: the GeForce RTX 40 series."""

_YES = Support(available=True)
_FIRST_BF16 = (8, 0)
"""Compute capability of the first GPUs with bfloat16 arithmetic (Ampere)."""
_FIRST_FLOAT8 = (8, 9)
"""Of the first ones that multiply floats of 8 bits (Ada)."""
_NO_ZERO_POINT = Support(available=False, reason="TensorRT takes zero point 0 only, so int4 in blocks, but no uint4")
_NO_INT16 = Support(available=False, reason="TensorRT has no 16-bit integers in Q/DQ")
_NO_DYNAMIC = Support(available=False, reason="TensorRT needs the ranges of int8 activations before it runs")


def capabilities_here(device: int = 0) -> Capabilities:
    """What there is with one GPU.

    Args:
        device: Its number.

    """
    try:
        tensorrt = load_tensorrt()
    except DependencyError as error:
        reason = error.reason
        no = Support(available=False, reason=reason)
        return Capabilities(backend="tensorrt", reason=reason, precisions=dict.fromkeys(Precision, no))
    return describe(tensorrt, find_gpu(device))


def capabilities_of_all() -> Capabilities:
    """See `Backend.capabilities`: what one or another of the GPUs here can do; which of them, `compile` looks at."""
    each = [capabilities_here()]
    while (another := capabilities_here(len(each))).devices:
        each.append(another)
    precisions = {
        precision: next((told for one in each if (told := one.precisions[precision]).available), of_the_first)
        for precision, of_the_first in each[0].precisions.items()
    }
    devices = tuple(device for one in each for device in one.devices)
    return replace(next((one for one in each if one.can_run), each[0]), precisions=precisions, devices=devices)


def device_of(artifact: Artifact) -> int:
    """The number of the GPU that it is opened on."""
    return int(str(artifact.settings.get("device", 0)))


def describe(tensorrt: TensorRt, gpu: Gpu | str) -> Capabilities:
    """What this TensorRT can do with this GPU, or without one.

    Args:
        tensorrt: The runtime.
        gpu: The GPU, or why there is none.

    """
    reason = _why_not(tensorrt, gpu)
    builds = tensorrt.needs_no_gpu or isinstance(gpu, Gpu)
    support = _YES if builds else Support(available=False, reason=f"{tensorrt.name} builds on its GPU only; {reason}")
    precisions: Mapping[Precision, Support] = {
        Precision.FP32: support,
        Precision.FP16: support,
        Precision.BF16: _if_had(support, "bfloat16", target_for(tensorrt, gpu), _FIRST_BF16),
        Precision.INT8: support,
        Precision.FP8: _if_had(support, "fp8", target_for(tensorrt, gpu, Precision.FP8), _FIRST_FLOAT8),
        Precision.INT8_DYNAMIC: _NO_DYNAMIC,
        Precision.INT16: _NO_INT16,
        **{
            one: support if form.symmetric else _NO_ZERO_POINT
            for one in Precision
            if (form := one.weight_form) is not None
        },
    }
    return Capabilities(
        backend="tensorrt",
        version=f"{tensorrt.version} ({tensorrt.name})",
        installed=True,
        can_run=not reason,
        reason=reason,
        precisions=precisions,
        rules=rules(),
        devices=(f"{gpu.name} (compute capability {gpu.compute_capability})",) if isinstance(gpu, Gpu) else (),
    )


def _if_had(support: Support, what: str, target: str, first: tuple[int, int]) -> Support:
    """The same, where a GPU of that compute capability has it."""
    if _numbers(target) >= first:
        return support
    return Support(
        available=False, reason=f"{what} needs compute capability {'.'.join(map(str, first))}; this is {target}"
    )


def _numbers(target: str) -> tuple[int, ...]:
    return tuple(map(int, target.split(".")))


def target_for(tensorrt: TensorRt, gpu: Gpu | str, precision: Precision = Precision.FP32) -> str:
    """The compute capability to build for: this GPU's, or the default where it is not supported or not there.

    Args:
        tensorrt: The runtime.
        gpu: The GPU, or why there is none.
        precision: Of the plan; floats of 8 bits have a default of their own.

    """
    if isinstance(gpu, Gpu) and (not tensorrt.needs_no_gpu or gpu.compute_capability in tensorrt.targets()):
        return gpu.compute_capability
    return _DEFAULT_FLOAT8 if precision is Precision.FP8 else DEFAULT_TARGET


def check_float8(targets: str) -> None:
    """Every GPU that an engine of floats of 8 bits is for multiplies them.

    Args:
        targets: Compute capabilities ("8.6+8.9").

    Raises:
        UnsupportedByBackend: One that does not.

    """
    without = [one for one in targets.split("+") if _numbers(one) < _FIRST_FLOAT8]
    if without:
        raise UnsupportedByBackend(
            asked=f"build an engine with floats of 8 bits for compute capability {' and '.join(without)}",
            found=f"that such GPUs do not multiply them; {'.'.join(map(str, _FIRST_FLOAT8))} is the first",
            fix="name others (GPU:capabilities=8.9), or take int8",
        )


def _why_not(tensorrt: TensorRt, gpu: Gpu | str) -> str:
    """Why engines can't run here; empty where they can."""
    if isinstance(gpu, str):
        return gpu
    if tensorrt.needs_no_gpu and gpu.compute_capability not in tensorrt.targets():
        return (
            f"{gpu.name} has compute capability {gpu.compute_capability}; {tensorrt.name} {tensorrt.version} runs on "
            f"{', '.join(tensorrt.targets())}"
        )
    return ""
