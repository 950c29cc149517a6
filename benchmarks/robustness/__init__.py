"""Every test of ONNX's backends, and 100 architectures, through calibration and int8: refused by name, or right.

`python -m benchmarks.robustness --out FOLDER [--short] [--part nodes|architectures] [--runtime NAME]`
"""
