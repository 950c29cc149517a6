"""Sounds that are speech in part, as windows for the detector of the package silero-vad, and a copy of its model."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import signal

RATE = 16_000  # Hz
WINDOW, CONTEXT = 512, 64  # samples: what is new in a call, and what it sees of the one before
VOWELS = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]  # formants, Hz
"""Peterson and Barney, 1952, of men: a, i, u, e, o."""


def syllable(random, pitch):
    """A hiss, and a vowel of a voice of about `pitch` Hz: float [samples]."""
    count = int(random.uniform(0.12, 0.28) * RATE)
    curve = pitch * np.linspace(*random.uniform(0.85, 1.2, 2), count)
    pulses = (np.diff(np.floor(np.cumsum(curve / RATE)), prepend=0) > 0).astype(float)
    vowel = signal.lfilter([1], [1, -0.96], pulses)
    for formant, width in zip(VOWELS[random.integers(len(VOWELS))], (60, 90, 150), strict=True):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * formant * random.uniform(0.95, 1.05) / RATE
        vowel = signal.lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], vowel)
    vowel = np.diff(vowel, prepend=0) * signal.windows.tukey(count, 0.4)
    hiss = signal.lfilter([1, -0.95], [1], random.normal(0, 1, int(random.uniform(0, 0.09) * RATE)))
    return np.concatenate([0.05 * hiss, vowel / (np.abs(vowel).max() + 1e-9)])


def sound(seed):
    """Speech and pauses in turns, in noise: float32 [samples], -1..1."""
    random = np.random.default_rng(seed)
    pieces = []
    for _ in range(4):
        pause = np.zeros(int(random.uniform(0.6, 1.6) * RATE))
        pitch = random.uniform(90, 220)
        talk = np.concatenate([syllable(random, pitch) for _ in range(random.integers(4, 10))])
        pieces += [pause, talk]
    wave = np.concatenate(pieces) * random.uniform(0.1, 0.6)
    return (wave + random.normal(0, random.uniform(0.001, 0.01), len(wave))).astype(np.float32)


def windows(seeds):
    """Windows of the sounds one after another, float32 [N, 576], and the sound that each is of."""
    found = []
    for number in seeds:
        wave = sound(number)
        found += [
            (wave[start - CONTEXT : start + WINDOW], number) for start in range(CONTEXT, len(wave) - WINDOW, WINDOW)
        ]
    waves, numbers = zip(*found, strict=True)
    return {"input": np.stack(waves), "sound": np.array(numbers)}


if __name__ == "__main__":
    package = Path(find_spec("silero_vad").submodule_search_locations[0])
    shutil.copy(package / "data" / "silero_vad.onnx", "silero_vad.onnx")
    np.savez("calibration.npz", **windows(range(4)))
    np.savez("evaluation.npz", **windows(range(100, 116)))
