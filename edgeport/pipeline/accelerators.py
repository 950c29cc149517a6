"""Where a runtime computes besides the CPU, asked by opening a model there: that it is listed says little.

ONNX Runtime's package for CUDA lists its provider on machines without a GPU, and without CUDA's libraries.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeport.contracts import Capabilities, Limits, load_json
from edgeport.errors import BackendError, EdgeportError
from edgeport.isolation import run_isolated

__all__ = ["accelerators_here", "accelerators_of", "open_there"]

_WORTH_A_TARGET: Mapping[tuple[str, str], str] = MappingProxyType({("onnxruntime", "CUDAExecutionProvider"): "CUDA"})
"""Backend and device, as it lists it, to the device in a recipe's words."""

_MOST = Limits(time_s=120.0)
"""CUDA's first start may take a minute, where kernels are compiled for a GPU that is newer than the package."""


def accelerators_of(backend: Capabilities) -> tuple[str, ...]:
    """Devices on which a model of this backend really opens and runs, in a recipe's words.

    One child for each that is listed, so none where none is; a device on which the model does not run, for whatever
    reason, is left out.

    Args:
        backend: As it was probed.

    """
    listed = [word for device in backend.devices if (word := _WORTH_A_TARGET.get((backend.backend, device)))]
    return tuple(word for word in listed if _opens(backend.backend, word))


def accelerators_here(backend: str) -> tuple[str, ...]:
    """The same of a backend that was not probed; none where it is not usable."""
    try:
        found = run_isolated(
            "edgeport.pipeline.children:probe",
            {"backend": backend},
            limits=_MOST,
            asked=f"ask {backend} what it can do",
        )
    except EdgeportError:
        return ()
    return accelerators_of(load_json(Capabilities, json.dumps(found["capabilities"])))


def _opens(backend: str, runtime_device: str) -> bool:
    payload = {"backend": backend, "runtime_device": runtime_device}
    asked = f"open a small model with {backend} on {runtime_device}"
    try:
        run_isolated("edgeport.pipeline.accelerators:open_there", payload, limits=_MOST, asked=asked)
    except EdgeportError:
        return False
    return True


def open_there(payload: dict[str, Any]) -> dict[str, Any]:
    """In a child: opens a product of matrices with the backend `backend` on its `runtime_device`, and runs it.

    Raises:
        EdgeportError: It does not compile, open or run there, or gives something else than it should.

    """
    import numpy as np

    from edgeport.backends.registry import backend as backend_named
    from edgeport.calibration.plan import float_plan
    from edgeport.contracts import ExecutionConfig
    from edgeport.onnx_files import open_onnx

    backend = backend_named(payload["backend"])
    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    with tempfile.TemporaryDirectory(prefix="edgeport-accelerator-") as scratch:
        path = Path(scratch) / "product.onnx"
        path.write_bytes(_product(weight))
        model = open_onnx(path)
        execution = ExecutionConfig(runtime_device=payload["runtime_device"])
        artifact = backend.compile(model, float_plan(model), execution, Path(scratch) / "artifact")
        session = backend.open(artifact)
        try:
            call = session.bind({"rows": rows})
            call.run()
            found = call.outputs()["products"]
        finally:
            session.close()
    if not np.allclose(found, rows @ weight, rtol=1e-2):
        raise BackendError(
            asked=f"multiply two matrices with {payload['backend']} on {payload['runtime_device']}",
            found=f"{found.tolist()} instead of {(rows @ weight).tolist()}",
            fix="update its driver and libraries",
        )
    return {}


def _product(weight: Any) -> bytes:
    """An ONNX file: products float32 [batch, 4] = rows float32 [batch, 4] x weight."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weight"], ["products"], name="product")],
        "product",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("products", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
