"""Distillation, with data and without."""
