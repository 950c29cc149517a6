"""Turns a model and a plan into artifacts, in child processes, and reads what a runtime made of them."""
