"""A network whose one weight is called as the planted backends want it."""

import torch


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(8, 4))

    def forward(self, images):
        return {"scores": images @ self.weight}
