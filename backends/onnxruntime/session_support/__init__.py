"""What the session module of ONNX Runtime is made of."""
