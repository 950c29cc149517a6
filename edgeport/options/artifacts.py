"""What is done with artifacts, and where: shared by the commands that build, run, time and tune them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeport.options.declare import option

__all__ = ["DeviceOptions", "PlacementOptions", "PreprocessOptions", "RunOptions"]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """On which device.

    Attributes:
        device: Of `list_devices`; where artifacts are validated and timed.

    """

    device: str = option("local", "Where artifacts run, of edgeport devices list.", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class PlacementOptions:
    """What must run as planned.

    Attributes:
        require_placement: Part of the planned nodes that must run as planned, 0..1; None where it does not matter.

    """

    require_placement: float | None = option(
        None,
        "Fail where less of the planned nodes runs as planned; says which do not, and why.",
        parse="part",
        metavar="95%",
    )


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions:
    """Whether samples are raw.

    Attributes:
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.

    """

    preprocess: Path | None = option(
        None,
        "The samples are raw; [inputs.NAME.preprocess] of this recipe says what becomes of them.",
        metavar="RECIPE",
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions(PlacementOptions, DeviceOptions):
    """Of `edgeport.api.run`, in place of what the targets of a recipe say."""
