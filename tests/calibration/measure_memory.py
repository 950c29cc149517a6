"""Prints the peak memory of a calibration, in bytes; a program of its own, so that nothing else is measured.

python measure_memory.py MODEL SAMPLES
"""

from __future__ import annotations

import resource
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SHAPE = (3, 32, 32)


def batches():
    generator = np.random.default_rng(0)
    for _ in range(0, int(sys.argv[2]), 10):
        yield {"x": generator.standard_normal((10, *SHAPE), dtype=np.float32)}


@contextmanager
def open_model(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    yield lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def main():
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data import FunctionSamples
    from edgeport.onnx_files import open_onnx

    calibration = collect(open_onnx(Path(sys.argv[1])), FunctionSamples("__main__:batches"), open_model)
    if calibration.sample_count != int(sys.argv[2]):
        raise SystemExit("not all samples were walked")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(str(peak if sys.platform == "darwin" else peak * 1024))


if __name__ == "__main__":
    main()
