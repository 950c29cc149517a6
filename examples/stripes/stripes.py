"""Which way do noisy stripes run? A small network, its training, and its samples."""

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Pictures float32 [N, 1, 32, 32] to scores float32 [N, 4]."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 32, 2), (32, 64, 1), (64, 128, 2), (128, 128, 1)]
        layers = [nn.Sequential(nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, s in sizes]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128, 4)

    def forward(self, pictures):
        return self.classifier(self.features(pictures).mean(dim=(2, 3)))


def draw(count, seed):
    """Pictures and labels: stripes turned by 0, 45, 90 or 135 degrees, under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    angle, phase = labels[:, None, None] * np.pi / 4, random.uniform(0, 6.3, (count, 1, 1))
    y, x = np.mgrid[0:32, 0:32]
    waves = np.sin(0.8 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    pictures = waves + random.normal(0, 3, waves.shape)
    return pictures[:, None].astype(np.float32), labels


if __name__ == "__main__":
    torch.manual_seed(0)
    net, (pictures, labels) = Net(), map(torch.from_numpy, draw(512, seed=0))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(32):
        chosen = torch.randint(512, (32,))
        loss = nn.functional.cross_entropy(net(pictures[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.state_dict(), "stripes.pt")
    for name, count, seed in [("calibration", 64, 1), ("evaluation", 600, 2)]:
        pictures, labels = draw(count, seed)
        np.savez(f"{name}.npz", pictures=pictures, labels=labels)
