"""Input side, variational: a VAE learns what inputs look like where they may be seen; others get what it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.contracts import Array, OnProgress, TensorSpec, silent
from edgeport.exporter.distill.data_free.methods import VaeOptions
from edgeport.exporter.distill.learned_losses.formulas import (
    evidence_bound,
    gaussian_divergence,
    gaussian_log_likelihood,
)
from edgeport.exporter.distill.learned_losses.networks import encoder_of, generator_of, sizes_of
from edgeport.exporter.train import StepContext, TrainedModule
from edgeport.exporter.train.distributed import DistributedContext, this_process
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.sampler import ArrayBatches

if TYPE_CHECKING:
    from edgeport.exporter.train.task import Batch

__all__ = ["InputVae", "LearnInputs", "learn_inputs"]

_FEW = 512
_NUMBERS = 2**26
"""Of all remainders that are kept."""

_TINY = 1e-8
_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -10.0, 4.0


class InputVae(nn.Module):
    """Kingma and Welling, "Auto-Encoding Variational Bayes" (2014).

    Outputs are normal, with one variance for all numbers: the mean squared error of the batch, under which the batch is
    likeliest (Rybkin et al., "Simple and Effective VAE Training with Calibrated Decoders", 2021, section 4.2). Codes of
    samples are drawn from the normal distribution that fits those of the data best (Ghosh et al., "From Variational to
    Deterministic Autoencoders", 2020, section 4): closer to the data than the prior is, and no sample's own code.

    Samples are drawn, not their means alone: those are blurred, and a teacher takes them for few of its classes. To a
    mean is added what is normal too, with the covariance of what decoding leaves over of the data: a sum of such
    remainders with random weights. Of images they are no white noise (Galerne, Gousseau and Morel, "Random Phase
    Textures: Theory and Synthesis", 2011).

    Args:
        inputs: One float input.
        options: Sizes.

    Raises:
        SamplesError: The input is not float, or its size is free.

    """

    def __init__(self, inputs: TensorSpec, options: VaeOptions) -> None:
        super().__init__()
        _, shape = sizes_of([inputs], "learn what inputs look like")
        self._weight = options.divergence
        self.encoder = encoder_of(shape, 2 * options.latent, options.width)
        self.decoder = generator_of(inputs, shape, latent=options.latent, width=options.width)
        self.mean: Tensor
        self.root: Tensor
        self.register_buffer("mean", torch.zeros(options.latent))
        self.register_buffer("root", torch.eye(options.latent))
        self.remainders: Tensor
        self.register_buffer("remainders", torch.zeros(1, math.prod(shape)), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples [N, ...] to their bounds, in nats, [N], under the batch's variance."""
        mean, log_variance = self.code(samples)
        codes = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = self.decoder(codes).float()
        spread = (samples.float() - decoded).square().mean().clamp(min=_TINY).log()
        likelihood = gaussian_log_likelihood(samples, decoded, spread)
        return evidence_bound(likelihood, gaussian_divergence(mean, log_variance), self._weight)

    def code(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of their codes, [N, latent] each."""
        mean, log_variance = self.encoder(samples).float().chunk(2, dim=1)
        return mean, log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)

    def fit_codes(self, samples: Array) -> None:
        """Finds the normal distribution of the codes of samples [N, ...]: mean, and a root of the covariance."""
        device = self.mean.device
        with torch.no_grad():
            found = [
                self.code(torch.from_numpy(np.ascontiguousarray(samples[start : start + _FEW])).to(device))
                for start in range(0, len(samples), _FEW)
            ]
            means = torch.cat([mean for mean, _ in found]).double()
            variances = torch.cat([log_variance.exp() for _, log_variance in found]).double()
            centred = means - means.mean(dim=0)
            covariance = centred.T @ centred / max(len(means) - 1, 1) + torch.diag(variances.mean(dim=0))
            self.mean.copy_(means.mean(dim=0))
            self.root.copy_(torch.linalg.cholesky(covariance))

    def fit_remainders(self, samples: Array) -> None:
        """Finds what decoding leaves over of samples [N, ...]: of so many of them as are kept in little memory."""
        device, generator = self.mean.device, torch.Generator().manual_seed(0)
        count = max(1, min(len(samples), _FEW, _NUMBERS // self.remainders.shape[1]))
        look = np.linspace(0, len(samples) - 1, count).astype(np.int64)  # of all: they may lie class by class
        shown = torch.from_numpy(np.ascontiguousarray(samples[look])).to(device)
        with torch.no_grad():
            mean, log_variance = self.code(shown)
            drawn = torch.randn(mean.shape, generator=generator).to(device)
            left = shown - self.decoder(mean + drawn * (0.5 * log_variance).exp())
        self.remainders = left.flatten(1).float() / math.sqrt(count)

    def draw(self, count: int, seed: int) -> Array:
        """New samples, float32 [count, ...]; equal seeds give equal ones on one machine."""
        generator = torch.Generator().manual_seed(seed)
        learning, device = self.training, self.mean.device
        self.eval()
        made = []
        with torch.no_grad():
            for start in range(0, count, _FEW):
                some = min(_FEW, count - start)
                numbers = torch.randn((some, len(self.mean)), generator=generator).to(device)
                weights = torch.randn((some, len(self.remainders)), generator=generator).to(device)
                means = self.decoder(self.mean + numbers @ self.root.T)
                made.append(self._bounded(means + (weights @ self.remainders).reshape(means.shape)).cpu().numpy())
        self.train(learning)
        return np.concatenate(made)

    def _bounded(self, samples: Tensor) -> Tensor:
        between = self.decoder.value_range
        return samples if between is None else samples.clamp(*between)


class LearnInputs:
    """The task: minus the bound, per number of a sample.

    Args:
        vae: To learn.
        inputs: Its input.
        rate: Learning rate.
        held_out: Samples that say which weights are best, [N, ...].

    """

    def __init__(self, vae: InputVae, inputs: TensorSpec, rate: float, held_out: Array) -> None:
        self._vae, self._feed, self._rate, self._held_out = vae, inputs.name, rate, held_out
        self._numbers = math.prod(int(size) for size in inputs.shape[1:])

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The VAE."""
        return {
            "vae": TrainedModule(module=self._vae, optimizer=torch.optim.Adam(self._vae.parameters(), lr=self._rate))
        }

    def step(self, batch: Batch, context: StepContext) -> Mapping[str, float | Tensor]:
        """One batch."""
        loss = -context.module("vae")(batch[self._feed]).mean() / self._numbers
        context.update("vae", loss)
        return {"loss": loss.detach()}

    def evaluate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """The loss of what was held out."""
        vae = modules["vae"]
        device = self._vae.mean.device
        vae.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            losses = [
                -vae(torch.from_numpy(np.ascontiguousarray(self._held_out[start : start + _FEW])).to(device)).sum()
                for start in range(0, len(self._held_out), _FEW)
            ]
        vae.train()
        return {"loss": float(torch.stack(losses).sum()) / len(self._held_out) / self._numbers}


def learn_inputs(
    samples: Array,
    inputs: TensorSpec,
    folder: Path,
    options: VaeOptions = VaeOptions(),  # noqa: B008 (frozen)
    *,
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> InputVae:
    """A VAE of these samples. What it draws may go where they must not; how much of them it tells is not bounded.

    Args:
        samples: float32 [N, ...] of the input; a tenth of them is held out.
        inputs: Its name and shape; what it declares as its range is kept to, else that of the samples.
        folder: Of this training alone; a training that was stopped goes on.
        options: How.
        hardware: This process on the CPU by default.
        on_progress: Told every few steps.

    Raises:
        SamplesError: Fewer samples than a batch, or an input that can't be drawn.
        TrainingError: It diverged.

    """
    hardware = hardware or this_process()
    if inputs.value_range is None and samples.size:  # a generator without a range would give mean 0 and deviation 1
        inputs = replace(inputs, value_range=(float(samples.min()), float(samples.max())))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.training.seed)
        vae = InputVae(inputs, options)
    order = np.random.default_rng(options.training.seed).permutation(len(samples))
    held = np.sort(order[: max(1, len(samples) // 10)])
    kept = ArrayBatches({inputs.name: samples}, order[len(held) :])
    task = LearnInputs(vae, inputs, options.rate, samples[held])
    settings = replace(options.training, monitor="loss", larger_is_better=False)
    fit(task, kept, settings, folder, hardware=hardware, on_progress=on_progress)
    vae.eval()
    vae.fit_codes(samples)
    vae.fit_remainders(samples)
    return vae
