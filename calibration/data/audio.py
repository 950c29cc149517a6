"""WAV files to arrays, by scipy."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np

from edgeport.contracts import Array
from edgeport.errors import SamplesError

__all__ = ["read_sound"]

_MOST_BYTES = 1 << 30


def read_sound(path: Path, name: str) -> tuple[Array, int]:
    """The samples of a file with one channel.

    Args:
        path: The file: integers of 8, 16, 24 or 32 bits, or floats.
        name: For messages.

    Returns:
        float32 [n], -1..1 (floats as they are stored), and the sample rate in Hz.

    Raises:
        SamplesError: No WAV file, damaged, too long, empty, or with several channels.

    """
    from scipy.io import wavfile

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _wrong(name, f"{path.stat().st_size} bytes; at most {_MOST_BYTES} are read", "cut it into pieces")
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)  # a file that ends early is only warned of
            warnings.filterwarnings("ignore", "Chunk .non-data. not understood", wavfile.WavFileWarning)
            rate, stored = wavfile.read(path)
    except (ValueError, OSError, EOFError, struct.error, wavfile.WavFileWarning, ZeroDivisionError) as error:
        found = str(error).strip() or type(error).__name__
        raise _wrong(name, f"no WAV file, or a damaged one ({found})", "replace the file, or remove it") from error
    if stored.ndim != 1:
        raise _wrong(
            name, f"{stored.shape[1]} channels", "mix it down to one channel, as the model's training did, or take one"
        )
    if not len(stored):
        raise _wrong(name, "no sample in it", "replace the file, or remove it")
    return _scaled(stored), int(rate)


def _scaled(stored: Array) -> Array:
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    if stored.dtype == np.uint8:  # the one unsigned width: silence is 128
        return ((stored.astype(np.float32) - 128) / 128).astype(np.float32)
    # 24 bits come in the upper part of 32.
    return (stored.astype(np.float64) / -float(np.iinfo(stored.dtype).min)).astype(np.float32)


def _wrong(name: str, found: str, fix: str) -> SamplesError:
    return SamplesError(asked=f"read the sound {name!r}", found=found, fix=fix, details={"problem": "sound"})
