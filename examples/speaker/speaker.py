"""Who speaks? The LSTM encoder of the package resemblyzer, and spoken digits in a folder per speaker."""

import io
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mel import FRAMES, RATE, STEP
from scipy import signal
from scipy.io import wavfile
from torch import nn


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


def pack(name):
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    return np.load(path)


def spoken(packed):
    """Sounds int16 [samples] of each speaker, 16 kHz."""
    found = {}
    for name, start, end in zip(packed["names"], packed["offsets"], packed["offsets"][1:], strict=False):
        rate, wave = wavfile.read(io.BytesIO(packed["data"][start:end].tobytes()))
        wave = signal.resample_poly(wave.astype(float), RATE // rate, 1).clip(-32768, 32767)
        found.setdefault(name.split("_")[1], []).append(wave.astype(np.int16))
    return found


if __name__ == "__main__":
    length = FRAMES * STEP  # 1.6 s: digits one after another
    for speaker, waves in spoken(pack("fsdd_dev.npz")).items():
        order = np.random.default_rng(0).permutation(len(waves))
        speech = np.concatenate([waves[i] for i in order])
        for number in range(len(speech) // length):
            folder = Path("calibration" if number < 10 else "evaluation") / speaker
            folder.mkdir(parents=True, exist_ok=True)
            wavfile.write(folder / f"{number:02}.wav", RATE, speech[number * length : (number + 1) * length])
