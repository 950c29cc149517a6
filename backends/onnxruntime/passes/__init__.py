"""Passes over a graph with Q/DQ pairs, into what ONNX Runtime has fast kernels for."""
