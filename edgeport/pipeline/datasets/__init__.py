"""Reads, checks and prepares samples, for calibration, evaluation and timing."""
