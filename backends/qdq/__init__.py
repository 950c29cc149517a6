"""Writes quantization plans into ONNX graphs. `write.write_plan` is the way in; nothing heavy is imported here."""
