"""Distillation: a student learns from a teacher, min E[L(f_s(x), y)] + lambda E[R(f_s(x))]. PyTorch only."""

from edgeport.exporter.distill.objective import BatchOutputs, Objective, Tap, Term

__all__ = ["BatchOutputs", "Objective", "Tap", "Term"]
