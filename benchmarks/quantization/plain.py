"""A plain forward pass of a float ONNX file over samples: the yardstick of time and memory.

`python -m benchmarks.quantization.plain MODEL.onnx SAMPLES.npz BATCH` prints the seconds from the first sample to the
last output; starting Python, imports and opening the model do not count.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> int:
    """Runs every sample once."""
    import onnxruntime as ort

    from edgeport.calibration.data.npz import NpzSamples

    model, samples, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    fixed = session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else batch
    started = time.perf_counter()
    for sample in NpzSamples(samples, batch_size=batch):
        session.run(None, dict(sample.feeds))
    print(json.dumps({"seconds": time.perf_counter() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
