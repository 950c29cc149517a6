"""Which GPU an engine is for, and what it is to be compatible with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeport.backends.tensorrt.runtime import TensorRt
from edgeport.errors import UnsupportedByBackend

__all__ = ["EngineOptions", "Range", "engine_options"]

Range = tuple[int, int, int]
"""Lowest, best and highest size of an axis."""

_HARDWARE = ("ampere+", "same")
_KNOWN = {
    "GPU": ("device", "capabilities", "hardware", "version_compatible"),
    "DLA": ("device", "core", "fallback", "version_compatible"),
}


_AXIS = "axis."


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an engine is to be.

    Attributes:
        device: Number of the GPU.
        flags: Of `session.configure`, with `capabilities` where several are built for.
        axes: Name of an open axis to its ranges, one for each optimisation profile; a single one is for them all.

    """

    device: int = 0
    flags: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)

    @property
    def profiles(self) -> int:
        """How many optimisation profiles the engine is to have."""
        return max((len(ranges) for ranges in self.axes.values()), default=1)


def engine_options(runtime_device: str, tensorrt: TensorRt) -> EngineOptions:
    """What is asked for in words.

    Args:
        runtime_device: "GPU" or "DLA", then options: "GPU:device=1,hardware=ampere+,version_compatible=1",
            "GPU:capabilities=8.6+8.9", "GPU:axis.length=1/16/32+33/64/128", "DLA:core=0,fallback=1"; empty for the
            first GPU.
        tensorrt: That builds.

    Raises:
        UnsupportedByBackend: Something else, or what this TensorRT has not.

    """
    kind, _, rest = runtime_device.partition(":")
    kind = kind.upper() or "GPU"
    given = dict(part.partition("=")[::2] for part in rest.split(",")) if rest else {}
    axes = {name: given.pop(name) for name in list(given) if name.startswith(_AXIS)}
    wrong = [name for name in given if name not in _KNOWN.get(kind, ())]
    asked = f"build an engine for {runtime_device}"
    if kind not in _KNOWN or wrong:
        raise UnsupportedByBackend(
            asked=asked,
            found=f"options {', '.join(wrong)}" if kind in _KNOWN else f"no device {kind}",
            fix="write " + " or ".join(f"{name}:{'=,'.join(options)}=" for name, options in _KNOWN.items()),
        )
    numbers = [given.get(name, "0") for name in ("device", "core")]
    switches = [given.get(name, "0") for name in ("fallback", "version_compatible")]
    if not all(map(str.isdecimal, numbers)) or not set(switches) <= {"0", "1"}:
        raise UnsupportedByBackend(
            asked=asked, found="values that can't be read", fix="give numbers, and 0 or 1 for what is on or off"
        )
    _check_values(asked, given, kind, tensorrt)
    flags: dict[str, str] = {name: given[name] for name in ("capabilities", "hardware") if name in given}
    flags |= {name: "1" for name in ("version_compatible", "fallback") if given.get(name) == "1"}
    options = EngineOptions(
        device=int(numbers[0]),
        flags=flags | ({"dla": numbers[1]} if kind == "DLA" else {}),
        axes={
            name.removeprefix(_AXIS): tuple(_sizes(asked, name, part) for part in text.split("+"))
            for name, text in axes.items()
        },
    )
    for name, ranges in options.axes.items():
        if len(ranges) not in (1, options.profiles):
            raise UnsupportedByBackend(
                asked=asked,
                found=f"{len(ranges)} ranges of axis {name!r}, and {options.profiles} of another",
                fix="give each axis one range, or as many as there are optimisation profiles",
            )
    return options


def _sizes(asked: str, name: str, text: str) -> Range:
    parts = text.split("/")
    sizes = tuple(int(part) for part in parts if part.isdecimal())
    if len(parts) != 3 or len(sizes) != 3 or not 0 < sizes[0] <= sizes[1] <= sizes[2]:
        raise UnsupportedByBackend(
            asked=asked, found=f"{name}={text}", fix=f"give the lowest, best and highest size: {name}=1/64/128"
        )
    return sizes


def _check_values(asked: str, given: Mapping[str, str], kind: str, tensorrt: TensorRt) -> None:
    if "hardware" in given and given["hardware"] not in _HARDWARE:
        raise UnsupportedByBackend(
            asked=asked, found=f"hardware={given['hardware']}", fix=f"give {' or '.join(_HARDWARE)}"
        )
    if tensorrt.needs_no_gpu:
        # It takes these without a word, but for version compatibility, whose library it has not.
        missing = [name for name in ("hardware", "version_compatible") if given.get(name, "0") != "0"]
        missing += ["DLA"] if kind == "DLA" else []
        named = given["capabilities"].split("+") if "capabilities" in given else []
        unknown = [one for one in named if one not in tensorrt.targets()]
        if missing or unknown:
            raise UnsupportedByBackend(
                asked=asked,
                found=f"that {tensorrt.name} has no {', '.join(missing)}"
                if missing
                else f"that {tensorrt.name} builds for {', '.join(tensorrt.targets())}",
                fix="name what it is to run on, such as GPU:capabilities=8.6+8.9, or take the full TensorRT",
            )
    elif "capabilities" in given:
        raise UnsupportedByBackend(
            asked=asked,
            found="that the full TensorRT builds for the GPU that is in the machine",
            fix="give hardware=ampere+ or hardware=same, or take TensorRT-RTX",
        )
