"""What NVIDIA's driver says of its GPUs, by NVML.

Source: NVIDIA, "NVML API Reference Guide" (nvmlDeviceQueries, nvmlClocksEventReasons).
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

_ON_CHIP = 0  # NVML_TEMPERATURE_GPU
_SM_CLOCK = 1  # NVML_CLOCK_SM


def read_gpus() -> dict[str, float]:
    """Each GPU's energy since the driver was loaded (which it counts in millijoules), temperature, clock, and the
    reasons for which the clock is held down, as bits.
    """
    library = _library()
    count = ctypes.c_uint()
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return {}
    values = {}
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        energy_mj, reasons = ctypes.c_ulonglong(), ctypes.c_ulonglong()
        celsius, mhz = ctypes.c_uint(), ctypes.c_uint()
        if _told(library, "nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(energy_mj)):
            values[f"energy_nvml{index}_uj"] = 1000.0 * energy_mj.value
        if _told(library, "nvmlDeviceGetTemperature", handle, _ON_CHIP, ctypes.byref(celsius)):
            values[f"nvml{index}_millicelsius"] = 1000.0 * celsius.value
        if _told(library, "nvmlDeviceGetClockInfo", handle, _SM_CLOCK, ctypes.byref(mhz)):
            values[f"nvml{index}_sm_khz"] = 1000.0 * mhz.value
        if _told(library, "nvmlDeviceGetCurrentClocksThrottleReasons", handle, ctypes.byref(reasons)):
            values[f"nvml{index}_throttle_bits"] = float(reasons.value)
    return values


def _told(library: Any, function: str, *arguments: Any) -> bool:
    """Whether this driver has the function, and this GPU what it asks for."""
    return hasattr(library, function) and getattr(library, function)(*arguments) == 0


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None
