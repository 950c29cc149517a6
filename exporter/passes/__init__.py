"""Passes over the exported graph, one a file."""
