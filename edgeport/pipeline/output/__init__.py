"""Writes what a run leaves behind: bundle, report, artifact folders and training logs."""
