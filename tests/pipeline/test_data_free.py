"""A recipe without calibration data: samples are made, once, and every result says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.calibration.data import NpzSamples
from edgeport.contracts import Limits, ModelSource, Precision, TensorSpec
from edgeport.contracts.recipe import SamplesFile, SamplesMade, Target
from edgeport.errors import SamplesError
from edgeport.npz import load_npz, made_of, save_npz
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.datasets.synthetic import with_samples_made
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.quantization.calibration import origin
from edgeport.pipeline.run import made_notes, run_recipe
from edgeport.store import Store

IMAGES = TensorSpec(name="images", dtype="float32", shape=("batch", 8), value_range=(-3.0, 3.0))
NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    net.train()
    for _ in range(20):
        net(1.5 + torch.randn(64, 8))
    return net.eval()
"""


@pytest.fixture
def recipe(make_recipe):
    plain = make_recipe("base", precisions=(Precision.FP32,))
    return replace(plain, inputs=(IMAGES,), data=replace(plain.data, calibration=SamplesMade(made="range")))


def context_of(recipe, folder):
    return RunContext(
        recipe=recipe,
        store=Store(folder / "store"),
        device=None,
        facts=None,
        clock=Clock(lambda event: None),
        scratch=folder,
        limits=Limits(),
    )


def made_by(recipe, folder):
    location = with_samples_made(context_of(recipe, folder)).recipe.data.calibration
    with np.load(location.path) as file:
        return location, file["images"]


def test_samples_are_made_once_and_named_in_the_recipe(recipe, tmp_path):
    location, images = made_by(recipe, tmp_path)
    assert location == SamplesFile(path=location.path, made="range")
    assert (images.shape, images.dtype) == ((128, 8), np.float32)
    before = location.path.stat().st_mtime_ns
    again, _ = made_by(recipe, tmp_path)
    assert (again, again.path.stat().st_mtime_ns) == (location, before)


@pytest.mark.slow  # a child that loads torch
def test_samples_from_batch_norm_are_like_what_the_network_saw(recipe, tmp_path):
    (tmp_path / "network_for_data_free.py").write_text(NETWORK)
    recipe = replace(
        recipe,
        source=ModelSource(location="network_for_data_free:make", search_path=tmp_path),
        data=replace(recipe.data, calibration=SamplesMade(made="synthetic", count=64)),
        inputs=(replace(IMAGES, value_range=None),),
    )
    location, images = made_by(recipe, tmp_path)
    assert (location.made, images.shape) == ("synthetic", (64, 8))
    assert 0.75 < images.mean() < 2.25  # it began with noise around 0


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param({"inputs": ()}, "no declared inputs", id="nothing declared"),
        pytest.param({"inputs": (replace(IMAGES, value_range=None),)}, "no declared range", id="no range"),
        pytest.param({"made": "synthetic"}, "came as ONNX", id="folded"),
        pytest.param({"sequence": 4}, "sequences or lengths", id="steps"),
    ],
)
def test_what_cannot_be_made_is_refused(recipe, tmp_path, change, found):
    made = SamplesMade(made=change.pop("made", "range"))
    data = replace(recipe.data, calibration=made, sequence=change.pop("sequence", ""))
    recipe = replace(recipe, data=data, **change)
    with pytest.raises(SamplesError, match=found):
        with_samples_made(context_of(recipe, tmp_path))


def test_data_in_a_file_are_left_alone(recipe, tmp_path):
    recipe = replace(recipe, data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "c.npz")))
    context = context_of(recipe, tmp_path)
    assert with_samples_made(context) is context


def test_a_file_says_itself_that_its_samples_were_made(recipe, tmp_path):
    arrays = {"images": np.zeros((4, 8), np.float32)}
    for made in ("generator", ""):
        save_npz(tmp_path / "s.npz", arrays, made=made)
        assert made_of(tmp_path / "s.npz") == made
        assert location_named(tmp_path / "s.npz") == SamplesFile(path=(tmp_path / "s.npz").resolve(), made=made)
        assert np.array_equal(load_npz(tmp_path / "s.npz")["images"], arrays["images"])
        assert next(iter(NpzSamples(tmp_path / "s.npz"))).feeds["images"].shape == (4, 8)
    np.savez(tmp_path / "s.npz", **arrays)
    assert made_of(tmp_path / "s.npz") == made_of(tmp_path / "absent.npz") == ""
    told = origin(SamplesFile(path=tmp_path / "s.npz", made="generator"), 9)
    assert told.startswith("Ranges come from 9 synthetic samples, made by a generator that learned from the model")
    assert made_notes(SamplesFile(path=tmp_path / "s.npz")) == []
    assert "s.npz were made up too" in made_notes(SamplesFile(path=tmp_path / "s.npz", made="vae"))[0]


@pytest.mark.slow  # a whole run
def test_every_result_says_so(recipe, tmp_path):
    recipe = replace(recipe, targets=(Target(backend="onnxruntime", precisions=(Precision.FP32, Precision.INT8)),))
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store")
    assert any("128 synthetic samples, drawn from the declared range" in note for note in result.notes)
    assert "128 synthetic samples" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
