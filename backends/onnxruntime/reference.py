"""Runs a float ONNX model as the reference that others are compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeport.backends.onnxruntime.constants import OWN_DOMAINS, WEIGHT_QUANTIZER
from edgeport.backends.session_errors import feed_error
from edgeport.contracts import Array, Arrays, RunModel
from edgeport.errors import BackendError

__all__ = ["open_reference"]


@contextmanager
def open_reference(path: Path, *, threads: int | None = None) -> Iterator[RunModel]:
    """Opens a model for verification and calibration: all optimisations, all cores, threads that do not spin.

    What a plan leaves in float stays float, though integers stand around it. An `OpenModel`.
    The file must have been checked (`edgeport.onnx_files.open_onnx`).

    Args:
        path: The file.
        threads: Inside one call; None for one per core.

    Raises:
        UnsupportedByBackend: The runtime refused the model, which has custom operators.
        BackendError: The runtime refused the model for another reason, or failed in a run.
        SamplesError: Feeds that do not fit.

    """
    import onnx_ir
    import onnxruntime as ort
    from google.protobuf.message import DecodeError

    from edgeport.backends.onnxruntime.session_support.feeds import check_feeds, plain_text
    from edgeport.backends.onnxruntime.session_support.runtime_session import session_options
    from edgeport.onnx_files import refuse_custom_operators

    options = session_options({"spinning": False, "threads": threads})
    # Memory: the default order leaves nodes that nobody reads to the end, and keeps what they read until then; that of
    # the file does not. A pattern is a second block beside the arena that the first call filled.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    try:
        session = _session(path, options)
    except Exception as error:
        try:
            # Not by read_ir: the copy that a calibration makes has outputs whose rank nobody knows.
            graph = onnx_ir.load(path)
        except (DecodeError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError):
            raise _failed(path, "open", error) from error
        refuse_custom_operators(graph, asked=f"run {path.name}", runtime="ONNX Runtime", known=OWN_DOMAINS)
        raise _failed(path, "open", error) from error
    inputs = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Arrays) -> dict[str, Array]:
        try:
            arrays = check_feeds(inputs, feeds)
        except ValueError as error:
            raise feed_error(f"feed {path.name}", error) from error
        try:
            found = session.run(names, arrays)
        except Exception as error:
            raise _failed(path, "run", error) from error
        return {name: plain_text(array) for name, array in zip(names, found, strict=True)}

    yield run


def _session(path: Path, options: Any) -> Any:
    """With all optimisations, or without the runtime's fusions where these break the graph.

    A fusion may take away a tensor that another node reads, such as a node that a calibration adds: FastGelu's does in
    1.32.
    """
    import onnxruntime as ort

    from edgeport.backends.onnxruntime.session_support.runtime_session import inference_session

    settings = {"skip": [WEIGHT_QUANTIZER]}
    try:
        return inference_session(path, options, settings)
    except Exception:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        with contextlib.suppress(Exception):
            return inference_session(path, options, settings)
        raise


def _failed(path: Path, what: str, error: Exception) -> BackendError:
    return BackendError(
        asked=f"{what} {path.name} with ONNX Runtime",
        found=f"{type(error).__name__}: {error}".replace(str(path), path.name),
        fix="correct what the runtime names, or export the model again; `edgeport verify` checks an export",
    )
