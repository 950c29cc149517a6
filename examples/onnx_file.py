"""An ONNX file that something else wrote, calibrated once and quantized for two runtimes.

python examples/onnx_file.py; takes a few seconds, needs the extra "openvino".
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgeport


def write_model(path):
    """Two layers: readings float32 [batch, 64] to scores float32 [batch, 3]."""
    random = np.random.default_rng(0)
    weights = {"first": random.normal(0, 0.1, (64, 32)), "second": random.normal(0, 0.3, (32, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["readings", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["positive"]),
            helper.make_node("MatMul", ["positive", "second"], ["scores"]),
        ],
        "sensor",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder / "sensor.onnx")
        readings = np.random.default_rng(1).standard_normal((64, 64), np.float32)
        np.savez(folder / "samples.npz", readings=readings)

        statistics = folder / "sensor.calibration.safetensors"
        calibration = edgeport.calibrate(folder / "sensor.onnx", folder / "samples.npz", output=statistics)
        print(f"{len(calibration.statistics)} tensors over {calibration.sample_count} samples")
        for backend in ("onnxruntime", "openvino"):
            artifact = edgeport.quantize(
                folder / "sensor.onnx",
                statistics,
                output=folder / backend,
                options=edgeport.QuantizeOptions(backend=backend),
            )
            print(f"{artifact.backend} {artifact.precision}: {artifact.size_bytes} bytes in {artifact.entry}")


if __name__ == "__main__":
    main()
