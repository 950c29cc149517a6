"""Who speaks? The LSTM encoder of the package resemblyzer, and spoken digits as mel spectrograms."""

import io
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy import signal
from scipy.io import wavfile
from torch import nn

RATE = 16_000  # Hz
FRAMES = 160  # of 10 ms


class Encoder(nn.Module):
    """Mel spectrograms float32 [N, 160, 40] to unit vectors float32 [N, 256]: the GE2E encoder (Wan et al., 2018)."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


def create():
    """With the weights of the package, which is not imported: it would need librosa and webrtcvad."""
    package = Path(find_spec("resemblyzer").submodule_search_locations[0])
    kept = torch.load(package / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
    encoder = Encoder()
    encoder.load_state_dict({name: kept[name] for name in encoder.state_dict()})
    return encoder


def filters(bands=40, size=400):
    """Slaney's triangular mel filters of unit area, float [40, 201]."""

    def hertz(mel):
        return np.where(mel < 15, 200 / 3 * mel, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    corners = hertz(np.linspace(0, top, bands + 2))[:, None]
    lines = np.linspace(0, RATE / 2, size // 2 + 1)[None]
    rising = (lines - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - lines) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (corners[2:] - corners[:-2])


def mel(wave):
    """Sound float [samples] of 16 kHz to its spectrogram float32 [frames, 40]; quiet sound is made louder."""
    wave = wave * max(1.0, 10 ** (-30 / 20) / np.sqrt(np.mean(wave**2)))
    padded = np.pad(wave, 200)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160]
    power = np.abs(np.fft.rfft(pieces * signal.windows.hann(400, sym=False))) ** 2
    return (power @ filters().T).astype(np.float32)


def pack(name):
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    return np.load(path)


def spoken(packed):
    """Sounds float [samples] of each speaker, 16 kHz."""
    found = {}
    for name, start, end in zip(packed["names"], packed["offsets"], packed["offsets"][1:], strict=False):
        rate, wave = wavfile.read(io.BytesIO(packed["data"][start:end].tobytes()))
        found.setdefault(name.split("_")[1], []).append(signal.resample_poly(wave / 32768, RATE // rate, 1))
    return found


def pieces(waves):
    """Spectrograms of 1.6 s, of digits one after another."""
    order = np.random.default_rng(0).permutation(len(waves))
    whole = mel(np.concatenate([waves[i] for i in order]))
    return whole[: len(whole) // FRAMES * FRAMES].reshape(-1, FRAMES, 40)


if __name__ == "__main__":
    speakers = {name: pieces(waves) for name, waves in sorted(spoken(pack("fsdd_dev.npz")).items())}
    np.savez("calibration.npz", mels=np.concatenate([found[:10] for found in speakers.values()]))
    others = [found[10:] for found in speakers.values()]
    numbers = np.repeat(np.arange(len(others)), [len(found) for found in others])
    np.savez("evaluation.npz", mels=np.concatenate(others), speaker=numbers)
    print(f"{len(numbers)} pieces of {len(others)} speakers: {', '.join(speakers)}")
