"""Edgeport: a trained PyTorch model goes in; a smaller, faster, verified and timed artifact comes out."""

__version__ = "0.1.0"
