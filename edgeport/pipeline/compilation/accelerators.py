"""Where a runtime computes besides the CPU, asked by opening a model there: that it is listed says little.

ONNX Runtime's package for CUDA lists its provider on machines without a GPU, and without CUDA's libraries.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.contracts import Accelerated, Accelerator, Capabilities, Limits
from edgeport.errors import BackendError, EdgeportError
from edgeport.isolation import run_isolated

__all__ = ["accelerators_here", "accelerators_of", "as_opened", "open_there"]

_MOST = Limits(time_s=120.0)
"""CUDA's first start may take a minute, where kernels are compiled for a GPU that is newer than the package."""


def as_opened(backend: Capabilities, accelerators: Sequence[Accelerator]) -> Capabilities:
    """As it was probed, but of the accelerators only those on which a model opens and runs; the others are `unusable`.

    One child for each that is listed, so none where none is.

    Args:
        backend: As it was probed.
        accelerators: That it knows.

    """
    listed = [one for one in accelerators if one.listed in backend.devices]
    closed = {one.listed: why for one in listed if (why := _why_not(backend.backend, one))}
    if not closed:
        return backend
    devices = tuple(device for device in backend.devices if device not in closed)
    return replace(backend, devices=devices, unusable={**backend.unusable, **closed})


def accelerators_of(backend: Capabilities, accelerators: Sequence[Accelerator]) -> tuple[str, ...]:
    """Those of the accelerators, in a recipe's words; see `as_opened`."""
    devices = as_opened(backend, accelerators).devices
    return tuple(one.runtime_device for one in accelerators if one.listed in devices)


def accelerators_here(name: str) -> tuple[str, ...]:
    """The same of one of our own backends, unprobed; where no package brings what it needs, nothing is started."""
    from edgeport.backends.registry import backend

    made = backend(name)
    known = made.accelerators() if isinstance(made, Accelerated) else ()
    return tuple(one.runtime_device for one in known if _is_brought(one) and not _why_not(name, one))


def _is_brought(one: Accelerator) -> bool:
    spec = importlib.util.find_spec(one.package)  # which finds a package, and does not import it
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    return any(any(Path(folder).glob(one.library)) for folder in folders)


def _why_not(backend: str, one: Accelerator) -> str:
    """Why no model runs there, in words that stand behind "found"; empty where one does."""
    payload = {"backend": backend, "runtime_device": one.runtime_device}
    asked = f"open a small model with {backend} on {one.runtime_device}"
    try:
        run_isolated("edgeport.pipeline.compilation.accelerators:open_there", payload, limits=_MOST, asked=asked)
    except EdgeportError as error:
        return error.found
    return ""


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
