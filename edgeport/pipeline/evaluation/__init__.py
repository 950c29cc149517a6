"""Runs the evaluation set through every candidate and judges the outputs."""
