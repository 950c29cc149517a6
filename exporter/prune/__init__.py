"""Pruning: what a network can do without is found, scored and taken out. PyTorch only."""
