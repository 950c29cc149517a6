"""Where is the bright spot? A network that gives a place, judged by a metric of one's own."""

import numpy as np
import torch
from torch import nn


class Locate(nn.Module):
    """Pictures float32 [N, 1, 24, 24] to places float32 [N, 2] in pixels: the mean place, weighted by brightness."""

    def __init__(self):
        super().__init__()
        self.smooth = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.sharpen = nn.Conv2d(8, 1, 1, bias=False)
        nn.init.constant_(self.smooth.weight, 1 / 9)
        nn.init.constant_(self.sharpen.weight, 1.0)
        self.register_buffer("places", torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 2, indexing="ij"), dim=-1))

    def forward(self, pictures):
        weights = torch.softmax(self.sharpen(torch.relu(self.smooth(pictures))).flatten(1), dim=1)
        return weights @ self.places.flatten(0, 1)


def draw(count, seed):
    """Pictures with a spot of 3x3 pixels, and its middle float32 [N, 2]."""
    random = np.random.default_rng(seed)
    middles = random.integers(2, 22, (count, 2))
    rows, columns = np.mgrid[0:24, 0:24]
    far = np.maximum(abs(rows - middles[:, :1, None]), abs(columns - middles[:, 1:, None]))
    pictures = random.uniform(0, 0.1, far.shape) + 2.0 * (far <= 1)
    return pictures[:, None].astype(np.float32), middles.astype(np.float32)


def within_a_pixel(output, target):
    """The metric: output and target float32 [N, 2] to bool [N]; right and wrong are counted as such."""
    return np.linalg.norm(output - target, axis=1) <= 1.0


if __name__ == "__main__":
    for name, count, seed in [("calibration", 32, 1), ("evaluation", 400, 2)]:
        pictures, middles = draw(count, seed)
        np.savez(f"{name}.npz", pictures=pictures, middle=middles)
