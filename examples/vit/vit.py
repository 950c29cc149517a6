"""Trains a small vision transformer of timm on scikit-learn's digits, and writes these as images."""

import tomllib
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn


def train(net, images, labels, epochs=10):
    """Images float32 [N, 1, 8, 8], 0..1; labels int64 [N]."""
    nn.init.normal_(net.pos_embed, std=0.3)  # so few images teach where a patch stands only if it counts from the start
    optimizer = torch.optim.AdamW(net.parameters())
    steps = len(images) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, epochs=epochs, steps_per_epoch=steps, pct_start=0.2)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(32):
            loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = (digits.images[order] * 15).astype(np.uint8), digits.target[order]
    recipe = tomllib.loads(Path("edgeport.toml").read_text())
    net = timm.create_model("vit_tiny_patch16_224", **recipe["model"]["arguments"])
    train(net, torch.from_numpy(images[:1024, None] / np.float32(240)), torch.from_numpy(labels[:1024]))
    save_file(net.state_dict(), "vit.safetensors")
    for place in [*range(128), *range(1024, len(images))]:  # the former are of the training images
        folder = Path("calibration" if place < 128 else "evaluation") / str(labels[place])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[place]).save(folder / f"{place:04}.png")
