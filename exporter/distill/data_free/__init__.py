"""Generative distillation: a generator of a student's inputs, or of the outputs that it learns from."""
