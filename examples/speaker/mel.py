"""Sound to what the encoder hears; in a file of its own, which the bundle takes along."""

import numpy as np

RATE, WINDOW, STEP, FRAMES, BANDS = 16_000, 400, 160, 160, 40  # Hz; samples; 1.6 s


def filters():
    """Slaney's triangular mel filters of unit area, float [40, 201]."""

    def hertz(mel):
        return np.where(mel < 15, 200 / 3 * mel, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    corners = hertz(np.linspace(0, top, BANDS + 2))[:, None]
    lines = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[None]
    rising = (lines - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - lines) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (corners[2:] - corners[:-2])


def spectrograms(waves):
    """Sounds float32 [N, 25600] of 16 kHz, -1..1, to float32 [N, 160, 40]; quiet sound is made louder."""
    loudness = np.sqrt(np.mean(waves**2, axis=1, keepdims=True))
    waves = waves * np.maximum(1.0, 10 ** (-30 / 20) / (loudness + 1e-9))
    padded = np.pad(waves, [(0, 0), (WINDOW // 2, WINDOW // 2)])
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::STEP][:, :FRAMES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(pieces * hann)) ** 2
    return (power @ filters().T).astype(np.float32)
