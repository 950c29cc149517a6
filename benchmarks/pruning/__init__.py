"""Pruning and quantization-aware training, judged by accuracy on real data: `python -m benchmarks.pruning`."""
