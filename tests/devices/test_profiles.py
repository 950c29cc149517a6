"""Profiles say what the backends themselves say for such a processor."""

from __future__ import annotations

import pytest

from edgeport import api, hardware
from edgeport.contracts import Capabilities, Precision, load_json, to_jsonable
from edgeport.contracts.serialise import canonical
from edgeport.devices.profiles import PROFILES
from edgeport.errors import UsageError
from edgeport.pipeline.compilation.worker import probe

FITS = [(profile, fit) for profile in PROFILES.values() for fit in profile.fits]


@pytest.fixture
def capabilities(monkeypatch):
    monkeypatch.setattr(hardware, "_assumed", [])

    def ask(backend, processor):
        found = probe({"backend": backend, "processor": to_jsonable(processor)})["capabilities"]
        return load_json(Capabilities, canonical(found))

    return ask


@pytest.mark.parametrize(("profile", "fit"), FITS, ids=[f"{profile.name}-{fit.backend}" for profile, fit in FITS])
def test_what_a_profile_says_is_what_the_backend_has_for_it(capabilities, profile, fit):
    known = capabilities(fit.backend, profile.processor)
    if not known.installed:
        pytest.skip(f"{fit.backend}: {known.reason}")
    assert known.rules is not None
    assert known.rules.dialect == fit.dialect
    missing = {one: known.precisions[one].reason for one in fit.precisions if not known.precisions[one].available}
    assert missing == {}
    assert fit.precisions[0].is_float


def test_vnni_keeps_a_bit(capabilities):
    assert not capabilities("onnxruntime", PROFILES["x86-mini-pc"].processor).rules.weight_reduce_range


def test_a_model_is_quantized_for_a_profile(small_onnx, save_onnx, tmp_path):
    artifact = api.quantize(
        save_onnx(small_onnx),
        output=tmp_path / "out",
        options=api.QuantizeOptions(precision="int8-dynamic", profile="raspberry-pi-5"),
    )
    assert artifact.precision is Precision.INT8_DYNAMIC
    assert not (tmp_path / "out" / "placement.json").exists()


def test_a_profile_that_is_not_there_is_said(small_onnx, save_onnx, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'raspberry-pi-5'"):
        api.quantize(
            save_onnx(small_onnx), output=tmp_path / "out", options=api.QuantizeOptions(profile="raspbery-pi-5")
        )
