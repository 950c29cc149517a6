"""Integer weights alone for TensorRT: engines build, and keep the weights narrow; what it has not is refused."""

from __future__ import annotations

import pytest

from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.rules import rules
from edgeport.calibration.plan import float_plan
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import ExecutionConfig, Precision
from edgeport.errors import UnsupportedByBackend

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
BUILDS = KNOWN.installed and KNOWN.precisions[Precision.FP32].available
pytestmark = pytest.mark.skipif(not BUILDS, reason=f"tensorrt: {KNOWN.reason}")


@pytest.mark.parametrize(
    ("precision", "share"), [(Precision.INT8_WEIGHTS, 0.3), (Precision.INT4_WEIGHTS_32, 0.2)], ids=str
)
def test_the_engine_keeps_the_weights_narrow(precision, share, stored_weights, tmp_path):
    """Of 1.3 MB of weights in products; the rest of an engine, its kernels, is some 600 kB."""
    stored = stored_weights.make_stored(tmp_path, summed=512, hidden=512)
    plan = weight_plan(stored.model, rules(), precision)
    assert set(plan.nodes) == {"hidden", "head"}  # no table
    artifact = BACKEND.compile(stored.model, plan, ExecutionConfig(), tmp_path / "artifact")
    whole = BACKEND.compile(stored.model, float_plan(stored.model), ExecutionConfig(), tmp_path / "float")
    in_products = stored.weights["w"].nbytes + stored.weights["g"].nbytes
    # What replaces float weights, and the kernels for it.
    assert artifact.size_bytes < whole.size_bytes - in_products * (1 - share) + 200_000
    bits = precision.weight_form.stored
    layers = {node.name: node.reason for node in BACKEND.placement(artifact).nodes if "MATRIX" in node.operator}
    if not KNOWN.can_run:
        assert set(layers) == {"hidden", "head"}
        assert all(f"and weights of {bits}, dequantized" in reason for reason in layers.values())


def test_zero_points_and_int16_are_refused_with_the_reason(stored_weights, tmp_path):
    assert "zero point 0 only" in KNOWN.precisions[Precision.UINT4_WEIGHTS_32].reason
    assert "16-bit" in KNOWN.precisions[Precision.INT16].reason
    stored = stored_weights.make_stored(tmp_path)
    plan = weight_plan(stored.model, rules(), Precision.UINT4_WEIGHTS_32)
    with pytest.raises(UnsupportedByBackend, match="no uint4"):
        BACKEND.compile(stored.model, plan, ExecutionConfig(), tmp_path / "artifact")
