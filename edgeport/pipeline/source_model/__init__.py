"""Brings the user's model to verified ONNX."""
