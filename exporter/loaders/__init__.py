"""Trained modules and their weights, from wherever they come."""
