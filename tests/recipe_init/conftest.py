"""Models as people have them: each in a folder of its own, which is the current one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

NETS = '''
import torch
from torch import nn


class TwoInputs(nn.Module):
    """A picture, and a vector of facts about it."""

    def __init__(self):
        super().__init__()
        self.picture = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.facts = nn.Linear(5, 8)
        self.head = nn.Linear(16, 4)

    def forward(self, image, facts):
        return self.head(torch.cat([self.picture(image), self.facts(facts).relu()], dim=1))


class Gestures(nn.Module):
    """An LSTM that takes any length."""

    def __init__(self, hidden=16):
        super().__init__()
        self.lstm = nn.LSTM(6, hidden, batch_first=True)
        self.scores = nn.Linear(hidden, 3)

    def forward(self, frames):
        return self.scores(self.lstm(frames)[0][:, -1])


class Filter(nn.Module):
    """No product of matrices is in it, so there is nothing to quantize."""

    def forward(self, x):
        return torch.sin(x) + x.cumsum(1)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.scores = nn.Embedding(50, 8), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        weights = attention_mask.unsqueeze(-1).float()
        return self.scores((self.table(input_ids) * weights).sum(1))


class Positions(nn.Module):
    """Tokens whose places are rows of a table, which ends."""

    def __init__(self):
        super().__init__()
        self.table, self.places, self.scores = nn.Embedding(50, 8), nn.Embedding(24, 8), nn.Linear(8, 2)

    def forward(self, input_ids):
        places = self.places.weight[: input_ids.shape[1]]
        return self.scores((self.table(input_ids) + places).sum(1))


class Small(nn.Module):
    """Takes 28 x 28 pixels and no others."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))

    def forward(self, image):
        return self.layers(image)


class Example(nn.Module):
    example_input_array = torch.zeros(1, 7, 9)

    def forward(self, x):
        return x.mean(-1)


class Riddle(nn.Module):
    def forward(self, x):
        if x.shape[-1] != 12345:
            raise ValueError("12345 is wanted")
        return x


class Branches(nn.Module):
    example_input_array = torch.zeros(2, 3)

    def forward(self, x):
        if x.mean() > 0:
            x = x * 2
        return x + 1


class States(nn.Module):
    """Gives the layers first, where a batch is wanted."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 4, num_layers=3, batch_first=True)

    def forward(self, frames):
        return self.lstm(frames)[1][0]


class Stream(nn.Module):
    """A step of an LSTM, its states in a tuple."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 12, num_layers=2, batch_first=True), nn.Linear(12, 5)

    def forward(self, frame, states):
        y, states = self.lstm(frame[:, None], states)
        return self.head(y[:, 0]), states


class Cell(nn.Module):
    """A step of a GRU cell."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(6, 4), nn.Linear(4, 3)

    def forward(self, x, prev_h):
        h = self.cell(x, prev_h)
        return {"scores": self.head(h), "next_h": h}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The current folder, with `nets.py` in it."""
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPORT_STORE", str(tmp_path / "store"))
    yield tmp_path
    sys.modules.pop("nets", None)
