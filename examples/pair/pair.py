"""Do two pictures show the same digit? A network with two inputs, its training, and its samples."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


class Pair(nn.Module):
    """Pictures float32 [N, 1, 8, 8], twice, to scores float32 [N, 2] for different and same."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 32, 1), (32, 64, 1), (64, 128, 2)]
        layers = [nn.Sequential(nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, s in sizes]
        self.look = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 64))
        self.join = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, left, right):
        return self.join((self.look(left) - self.look(right)).abs())


def draw(pictures, digits, count, seed):
    """Pairs, half of them of the same digit: left and right float32 [count, 1, 8, 8], same int64 [count]."""
    random = np.random.default_rng(seed)
    left, same = random.integers(0, len(digits), count), random.integers(0, 2, count)
    right = [random.choice(np.flatnonzero((digits == digits[i]) == s)) for i, s in zip(left, same, strict=True)]
    return pictures[left], pictures[right], same


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures, labels = (digits.images[order, None] / 16).astype(np.float32), digits.target[order]
    net = Pair()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    left, right, same = map(torch.from_numpy, draw(pictures[:1000], labels[:1000], 12800, seed=0))
    for chosen in torch.arange(12800).split(64):
        loss = nn.functional.cross_entropy(net(left[chosen], right[chosen]), same[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.state_dict(), "pair.pt")
    for name, part, count, seed in [("calibration", slice(1000), 128, 1), ("evaluation", slice(1000, None), 800, 2)]:
        left, right, same = draw(pictures[part], labels[part], count, seed)
        np.savez(f"{name}.npz", left=left, right=right, same=same)
