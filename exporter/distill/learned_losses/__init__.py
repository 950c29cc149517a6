"""Losses with modules that learn beside the student: adversarial and variational."""
