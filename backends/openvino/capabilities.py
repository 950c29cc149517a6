"""What OpenVINO can do on this machine, asked of the runtime itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edgeport.backends.openvino.rules import rules_for
from edgeport.contracts import Capabilities, Precision, Support
from edgeport.hardware import assumed_flags, has_vnni, is_x86

__all__ = ["capabilities_here", "supported"]

_INSTALL = "pip install 'edgeport[openvino]'"
_YES = Support(available=True)


def capabilities_here() -> Capabilities:
    """See `Backend.capabilities`."""
    try:
        from edgeport.backends.openvino.session import import_openvino

        ov = import_openvino()
        core = ov.Core()
        version = str(ov.get_version()).split("-", maxsplit=1)[0]
        devices = tuple(str(device) for device in core.available_devices)
    except ImportError as error:
        reason = f"openvino does not import ({error}); {_INSTALL}"
        return Capabilities(backend="openvino", reason=reason, precisions=_none(reason))
    except Exception as error:  # noqa: BLE001 (a broken install raises what it likes; it is told, never raised)
        reason = f"openvino imports, but does not start ({type(error).__name__}: {error})"
        return Capabilities(backend="openvino", installed=True, reason=reason, precisions=_none(reason))
    if "CPU" not in devices:
        reason = f"OpenVINO sees no CPU plugin here, only {', '.join(devices) or 'nothing'}"
        return Capabilities(
            backend="openvino",
            version=version,
            installed=True,
            reason=reason,
            precisions=_none(reason),
            devices=devices,
        )
    return Capabilities(
        backend="openvino",
        version=version,
        installed=True,
        can_run=True,
        precisions=supported(_features(core), vnni=is_x86() and has_vnni()),
        rules=rules_for(),
        devices=devices,
        layouts=("single-stream", "data-parallel"),
    )


def _features(core: Any) -> Collection[str]:
    """OPTIMIZATION_CAPABILITIES of the processor that is planned for; of another one than this, by its instructions.

    Source: OpenVINO's CPU plugin, `hasHardwareSupport`, and its list of capabilities, which always has FP32 and INT8.
    """
    flags = assumed_flags()
    if flags is None:
        features: Collection[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return features
    bf16 = is_x86() and not flags.isdisjoint({"avx512_bf16", "amx_bf16"})
    fp16 = "avx512_fp16" in flags if is_x86() else "asimdhp" in flags
    return {"FP32", "INT8", *(["BF16"] if bf16 else []), *(["FP16"] if fp16 else [])}


def supported(features: Collection[str], *, vnni: bool) -> Mapping[Precision, Support]:
    """Per precision, whether the CPU plugin has it.

    Args:
        features: Its OPTIMIZATION_CAPABILITIES ("BF16", "INT8").
        vnni: The processor is an x86 with VNNI.

    """

    def native(feature: str, what: str) -> Support:
        if feature in features:
            return _YES
        return Support(available=False, reason=f"OpenVINO's CPU plugin has no {what} on this processor")

    return {
        Precision.FP32: _YES,
        Precision.BF16: native("BF16", "bfloat16 (it needs AVX512-BF16 or AMX)"),
        Precision.FP16: native("FP16", "float16 (it needs AMX-FP16 or ARMv8.2)"),
        Precision.INT8: native("INT8", "int8"),
        Precision.INT8_DYNAMIC: _YES
        if vnni
        else Support(
            available=False, reason="OpenVINO quantizes activations while running only on x86 processors with VNNI"
        ),
        **{one: _YES for one in Precision if one.weight_form is not None},
        **{
            precision: Support(
                available=False,
                reason=f"OpenVINO's CPU plugin names no {name} among what it computes in "
                f"({', '.join(sorted(features))})",
            )
            for precision, name in ((Precision.FP8, "FP8"), (Precision.INT16, "INT16"))
        },
    }


def _none(reason: str) -> Mapping[Precision, Support]:
    return dict.fromkeys(Precision, Support(available=False, reason=reason))
