"""Searches precisions, runtime settings and processor shares within a time."""
