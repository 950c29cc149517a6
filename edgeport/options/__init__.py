"""The options of Edgeport's functions, each declared once: for Python, the command line and recipes.

A module per subject; importing one loads the standard library alone.
"""
