"""Kinds of devices that many people have: what is right for them before one is asked.

Data, and no measurement: what a processor of this kind can do, by its maker's reference manuals, and what follows from
that for the runtimes. A device that can be asked (`edgeport devices probe`) is planned for by its own answer.

Sources: Arm, Cortex-A72, A76 and A78AE technical reference manuals; Raspberry Pi documentation, "Processors" (BCM2711,
BCM2712); NVIDIA, Jetson Orin data sheets; Intel, N100 (Gracemont, with AVX2 and AVX-VNNI); Android NDK, "Android ABIs"
(arm64-v8a), and Arm, Cortex-A75 and later, for what phones since about 2019 add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeport.contracts import Precision, Processor
from edgeport.errors import UsageError, did_you_mean

__all__ = ["PROFILES", "Profile", "profile_named"]

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
DYNAMIC, WEIGHTS = Precision.INT8_DYNAMIC, Precision.INT8_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a runtime has for a device.

    Attributes:
        backend: Its name.
        dialect: Of its integer plans.
        precisions: Worth building there.

    """

    backend: str
    dialect: str
    precisions: tuple[Precision, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A kind of device.

    Attributes:
        name: As the command line takes it.
        title: For people.
        processor: What plans are made for.
        cores: In words.
        fits: The runtimes, the one to try first in front.
        note: What to know, in a sentence.

    """

    name: str
    title: str
    processor: Processor
    cores: str
    fits: tuple[Fit, ...]
    note: str


_ARM_82 = Processor(machine="aarch64", isa=("asimd", "asimdhp", "fphp", "asimddp"))
_ARM_RUNTIME = "onnxruntime-arm"

_LISTED = (
    Profile(
        name="raspberry-pi-4",
        title="Raspberry Pi 4",
        processor=Processor(machine="aarch64", isa=("asimd",)),
        cores="4 x Cortex-A72",
        fits=(
            Fit(backend="onnxruntime", dialect=_ARM_RUNTIME, precisions=(FP32, INT8, WEIGHTS)),
            Fit(backend="openvino", dialect="openvino", precisions=(FP32,)),
        ),
        note="It has no dot product of int8, so int8 gains less than on a Raspberry Pi 5; it throttles without a fan.",
    ),
    Profile(
        name="raspberry-pi-5",
        title="Raspberry Pi 5",
        processor=_ARM_82,
        cores="4 x Cortex-A76",
        fits=(
            Fit(backend="onnxruntime", dialect=_ARM_RUNTIME, precisions=(FP32, INT8, DYNAMIC, WEIGHTS)),
            Fit(backend="openvino", dialect="openvino", precisions=(FP32, FP16)),
        ),
        note="Its int8 dot product (sdot) is what ONNX Runtime's ARM dialect is made for.",
    ),
    Profile(
        name="jetson-orin",
        title="NVIDIA Jetson Orin",
        processor=_ARM_82,
        cores="6 to 12 x Cortex-A78AE, and an Ampere GPU",
        fits=(
            Fit(backend="tensorrt", dialect="tensorrt", precisions=(FP16, INT8)),
            Fit(backend="onnxruntime", dialect=_ARM_RUNTIME, precisions=(FP32, INT8)),
        ),
        note="Engines are built on the device itself; the power mode (nvpmodel) decides how fast all of it is.",
    ),
    Profile(
        name="x86-mini-pc",
        title="x86 mini-PC (Intel N100 and alike)",
        processor=Processor(machine="x86_64", isa=("sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni")),
        cores="4 x Gracemont",
        fits=(
            Fit(backend="openvino", dialect="openvino", precisions=(FP32, INT8, DYNAMIC)),
            Fit(backend="onnxruntime", dialect="onnxruntime-x86", precisions=(FP32, INT8, DYNAMIC)),
        ),
        note="With AVX-VNNI weights keep their 8 bits; an older one without it gives one up.",
    ),
    Profile(
        name="android-arm64",
        title="Android phone, 64-bit ARM",
        processor=_ARM_82,
        cores="big and small ones",
        fits=(Fit(backend="onnxruntime", dialect=_ARM_RUNTIME, precisions=(FP32, INT8, WEIGHTS)),),
        note="Newer ones also have i8mm and bfloat16; they slow down when they are warm, so look at a soak.",
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({one.name: one for one in _LISTED})
"""By name."""


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UsageError: There is none.

    """
    if name not in PROFILES:
        raise UsageError(
            asked=f"plan for the profile {name!r}",
            found=f"the profiles {', '.join(PROFILES)}",
            fix=did_you_mean(name, PROFILES, "use one of them, or a recipe with a device that can be asked"),
        )
    return PROFILES[name]
