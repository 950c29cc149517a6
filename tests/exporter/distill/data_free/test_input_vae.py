"""A VAE of inputs: what it draws is like the data, and a student that learns from it alone is good on the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError
from edgeport.exporter.distill.data_free.input_vae import InputVae, learn_inputs
from edgeport.exporter.distill.data_free.methods import VaeOptions
from edgeport.exporter.distill.task import Distillation
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.sampler import ArrayBatches

SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", 8), value_range=(-6.0, 6.0))
OPTIONS = VaeOptions(
    latent=8, width=16, rate=5e-3, training=TrainingSettings(epochs=40, batch_size=32, evaluate_every=20)
)
TEACHING = TrainingSettings(epochs=12, batch_size=32, evaluate_every=12, seed=3)


def student_of(problem, images, folder):
    student = problem.network(12)
    pair = problem.pair(student)
    fit(Distillation(pair), ArrayBatches({"x": images}), TEACHING, folder)
    return problem.accuracy(student)


def test_what_it_draws_teaches_as_the_data_would(problem, tmp_path):
    vae = learn_inputs(problem.images, SPEC, tmp_path / "vae", OPTIONS)
    drawn = vae.draw(600, seed=1)
    torch.manual_seed(0)
    untrained = InputVae(SPEC, OPTIONS).draw(600, seed=1)

    assert (drawn.shape, drawn.dtype) == ((600, 8), np.float32)
    assert np.array_equal(vae.draw(600, seed=1), drawn)
    assert np.abs(drawn.mean(axis=0) - problem.images.mean(axis=0)).max() < 0.25
    nearest = np.linalg.norm(drawn[:, None] - problem.images[None], axis=2).min(axis=1)
    assert nearest.min() > 1e-3  # no sample of the data comes out
    taught, off = (student_of(problem, one, tmp_path / str(i)) for i, one in enumerate((drawn, untrained)))
    assert taught > off + 0.3, (taught, off)


def test_codes_are_drawn_from_those_of_the_data():
    torch.manual_seed(0)
    vae = InputVae(SPEC, VaeOptions(latent=3, width=4)).eval()
    samples = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    vae.fit_codes(samples)
    with torch.no_grad():
        means, log_variances = (one.double().numpy() for one in vae.code(torch.from_numpy(samples)))
    covariance = np.cov(means.T) + np.diag(np.exp(log_variances).mean(axis=0))
    root = vae.root.double().numpy()
    assert vae.mean.numpy() == pytest.approx(means.mean(axis=0), abs=1e-5)
    assert root @ root.T == pytest.approx(covariance, rel=1e-4)
    codes = torch.randn((512, 3), generator=torch.Generator().manual_seed(4)) @ vae.root.T + vae.mean
    with torch.no_grad():
        assert torch.from_numpy(vae.draw(512, seed=4)).allclose(vae.decoder(codes), atol=1e-5)


@pytest.mark.parametrize("shape", [(8,), (3, 8, 8)])
def test_what_decoding_leaves_over_is_drawn_too(shape, monkeypatch):
    torch.manual_seed(0)
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", *shape), value_range=(-40.0, 40.0))
    vae = InputVae(spec, VaeOptions(latent=3, width=4)).eval()
    samples = np.random.default_rng(1).normal(size=(400, *shape)).astype(np.float32)
    with torch.no_grad():
        means = vae.code(torch.from_numpy(samples))[0]
        left = (torch.from_numpy(samples) - vae.decoder(means)).flatten(1).numpy()
    monkeypatch.setattr(vae, "code", lambda _: (means, torch.full_like(means, -30.0)))
    before = [vae.draw(512, seed) for seed in range(8)]
    vae.fit_remainders(samples)
    added = np.concatenate([vae.draw(512, seed) - one for seed, one in enumerate(before)]).reshape(4096, -1)

    wanted = left.T @ left / len(left)
    found = added.T @ added / len(added)
    by_chance = wanted.trace() / np.sqrt(len(added))
    assert np.linalg.norm(found - wanted) < 4 * by_chance < np.linalg.norm(wanted) / 2
    assert found.trace() == pytest.approx(wanted.trace(), rel=0.1)


def test_what_is_left_over_of_large_samples_is_kept_of_few(monkeypatch):
    monkeypatch.setattr("edgeport.exporter.distill.data_free.input_vae._NUMBERS", 40)
    vae = InputVae(SPEC, VaeOptions(latent=3, width=4))
    vae.fit_remainders(np.zeros((700, 8), np.float32))
    assert vae.remainders.shape == (5, 8)


def test_what_is_drawn_lies_where_the_samples_do_though_no_range_is_declared(problem, tmp_path):
    images = 40.0 + 10.0 * problem.images
    vae = learn_inputs(images, replace(SPEC, value_range=None), tmp_path, OPTIONS)
    drawn = vae.draw(300, seed=1)
    assert images.min() <= drawn.min() < drawn.max() <= images.max()
    assert np.abs(drawn.mean(axis=0) - images.mean(axis=0)).max() < 2.5


def test_an_input_that_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(SamplesError, match="int64"):
        learn_inputs(np.zeros((9, 8), np.int64), replace(SPEC, dtype="int64", value_range=None), tmp_path, OPTIONS)
