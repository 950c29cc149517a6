"""Runs a float ONNX model as the reference that others are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeport.backends.sessions import feed_error
from edgeport.contracts import Array, Arrays, RunModel
from edgeport.errors import BackendError

__all__ = ["open_reference"]


@contextmanager
def open_reference(path: Path) -> Iterator[RunModel]:
    """Opens a model for verification and calibration: all optimisations, all cores, threads that do not spin.

    An `OpenModel`. The file must have been checked (`edgeport.onnx_files.open_onnx`).

    Raises:
        BackendError: The runtime refused the model, or failed in a run.
        SamplesError: Feeds that do not fit.

    """
    import onnxruntime as ort

    from edgeport.backends.onnxruntime.session import check_feeds, session_options

    options = session_options({"spinning": False})
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _failed(path, "open", error) from error
    inputs = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Arrays) -> dict[str, Array]:
        try:
            arrays = check_feeds(inputs, feeds)
        except ValueError as error:
            raise feed_error(f"feed {path.name}", error) from error
        try:
            return dict(zip(names, session.run(names, arrays), strict=True))
        except Exception as error:
            raise _failed(path, "run", error) from error

    yield run


def _failed(path: Path, what: str, error: Exception) -> BackendError:
    return BackendError(
        asked=f"{what} {path.name} with ONNX Runtime",
        found=f"{type(error).__name__}: {error}",
        fix="see what the runtime says; `edgeport verify` checks an export",
    )
