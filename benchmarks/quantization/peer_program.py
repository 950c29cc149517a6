"""Runs one of the other quantizers: `python -m benchmarks.quantization.peer_program REQUEST.json`.

The request has `program`, `settings`, `transformer`, `model` (ONNX), `samples` (`.npz`), `count` and `output` (a file).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeport.contracts import Array


def feeds(samples: str) -> Iterator[dict[str, Array]]:
    """One sample after the other, [1, ...] by input."""
    from edgeport.calibration.data.npz import NpzSamples

    for sample in NpzSamples(Path(samples), batch_size=1):
        yield dict(sample.feeds)


def onnxruntime(request: Mapping[str, Any]) -> None:
    """`quantize_static`; its best settings need a model that was preprocessed, as far as that is possible."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands samples out, and none when there are no more."""

        def __init__(self) -> None:
            self.samples = feeds(request["samples"])

        def get_next(self) -> dict[str, Array] | None:
            """The next one."""
            return next(self.samples, None)

    settings = request["settings"]
    if not settings.get("best"):
        quantize_static(request["model"], request["output"], Reader())
        return
    method = CalibrationMethod[settings.get("calibrate", "MinMax")]
    with tempfile.TemporaryDirectory() as folder:
        quantize_static(
            _preprocessed(request["model"], Path(folder) / "model.onnx"),
            request["output"],
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )


def _preprocessed(model: str, output: Path) -> str:
    """By its own `quant_pre_process`; without symbolic shapes where these fail, and as it is where nothing works."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    for settings in ({}, {"skip_symbolic_shape": True}):
        try:
            quant_pre_process(model, output, **settings)
        except Exception as error:  # noqa: BLE001 (whatever it raises: the next way is tried)
            print(f"quant_pre_process with {settings}: {error}", file=sys.stderr)
        else:
            return str(output)
    return model


def nncf_onnx(request: Mapping[str, Any]) -> None:
    """`nncf.quantize` of the ONNX file."""
    import onnx

    onnx.save(_nncf(request, onnx.load(request["model"])), request["output"])


def nncf_openvino(request: Mapping[str, Any]) -> None:
    """`nncf.quantize` of what OpenVINO makes of the ONNX file; the output is its IR."""
    import openvino as ov

    ov.save_model(_nncf(request, ov.Core().read_model(request["model"])), request["output"], compress_to_fp16=False)


def _nncf(request: Mapping[str, Any], model: Any) -> Any:
    import nncf

    settings: dict[str, Any] = {}
    if request["settings"].get("best"):
        settings = {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False}
        if request["transformer"]:
            settings["model_type"] = nncf.ModelType.TRANSFORMER

    class Source:
        """Walked as often as NNCF likes."""

        def __iter__(self) -> Iterator[dict[str, Array]]:
            return feeds(request["samples"])

    return nncf.quantize(model, nncf.Dataset(Source()), subset_size=request["count"], **settings)


PROGRAMS = {"onnxruntime": onnxruntime, "nncf-onnx": nncf_onnx, "nncf-openvino": nncf_openvino}


def main() -> int:
    """Runs what the request names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    PROGRAMS[request["program"]](request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
