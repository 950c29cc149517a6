"""Calibrates a model and plans its precisions, ranges and recovery."""
