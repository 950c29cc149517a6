"""Static int8 beside ONNX Runtime's own quantizer and NNCF: time and memory, accuracy on held-out samples, latency.

`python -m benchmarks.quantization --out FOLDER [--short] [--model NAME] [--part time|accuracy|latency]`

Every side gets the same float ONNX file and the same samples, each in processes of its own with limits of time and
memory. A peer that fails, crashes or is stopped is a row of the tables. What lies in `--out` already is not done again,
so that a run that was stopped goes on; `--model` and `--part` may be given several times.
"""
