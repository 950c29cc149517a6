"""The loop: steps, evaluations, checkpoints. It knows nothing of what is trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeport.contracts import OnProgress, digest_json, silent, to_jsonable
from edgeport.errors import TrainingError
from edgeport.exporter.train.checkpoint import (
    Checkpoint,
    load_optimizer,
    optimizer_state,
    read_checkpoint,
    write_checkpoint,
)
from edgeport.exporter.train.distributed import DistributedContext, this_process
from edgeport.exporter.train.ema import WeightAverage
from edgeport.exporter.train.logger import TrainingLogger
from edgeport.exporter.train.rng_state import random_state, restore_random_state, seed_everything
from edgeport.exporter.train.sampler import Sampler
from edgeport.exporter.train.settings import TrainingSettings
from edgeport.exporter.train.task import Batches, Metrics, Task, Trained

__all__ = ["BEST", "CHECKPOINT", "fit"]

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"

_NOTE_EVERY = 10
"""Steps between notes; each waits for the device."""


def fit(  # noqa: PLR0913 (what is trained, how, and where)
    task: Task,
    batches: Batches,
    settings: TrainingSettings,
    folder: Path,
    *,
    identity: str = "",
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> Trained:
    """Trains, or goes on with what a killed training left in the folder.

    On the CPU a resumed training gives what an uninterrupted one would have given, bit for bit, on the same machine
    with as many threads: weights, optimizers, averages, schedule, order of the samples and random generators are in
    the checkpoint.

    Args:
        task: What is trained; its modules hold the best weights in the end, which are those from before the first
            step where nothing was better.
        batches: Samples.
        settings: How.
        folder: Of this training alone; gets `checkpoint.safetensors`, `best.safetensors` and `metrics.jsonl`.
        identity: What else makes it this training, such as its loss: a folder of another one is refused.
        hardware: This process on the CPU by default.
        on_progress: Told every few steps.

    Raises:
        TrainingError: It diverged; or the folder holds another training, or a damaged one.
        SamplesError: Fewer samples than a batch.

    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(task, batches, settings, folder, hardware or this_process())
    run.named = identity
    return run.train(on_progress)


class _Run:
    """One training in one process; what the task sees as a step."""

    def __init__(
        self, task: Task, batches: Batches, settings: TrainingSettings, folder: Path, hardware: DistributedContext
    ) -> None:
        self._task, self._batches, self._settings, self._folder = task, batches, settings, folder
        self._hardware = hardware
        seed_everything(settings.seed, hardware.rank)
        self._sampler = Sampler(
            len(batches), settings.batch_size, settings.seed, rank=hardware.rank, processes=hardware.processes
        )
        self._steps = settings.epochs * self._sampler.steps_per_epoch
        self._modules = dict(task.trained_modules())
        self._optimized = {name: one for name, one in self._modules.items() if one.optimizer is not None}
        self._placed = {
            name: hardware.place(one.module, learns=one.optimizer is not None) for name, one in self._modules.items()
        }
        self._rates = {
            name: [float(group["lr"]) for group in optimizer.param_groups] for name, optimizer in self._optimizers()
        }
        self._averages = {
            name: WeightAverage(one.module, settings.average)
            for name, one in self._optimized.items()
            if settings.average is not None
        }
        self._scalers = {
            name: torch.amp.GradScaler(hardware.device.type, enabled=settings.precision == "fp16")
            for name in self._optimized
        }
        self.step = 0
        self.named = ""
        self._first: Metrics = {}
        self._best: Metrics = {}
        self._best_step, self._waited = 0, 0
        self._evaluated = -1

    def module(self, name: str) -> torch.nn.Module:
        """See `StepContext`."""
        return self._placed[name]

    def update(self, name: str, loss: torch.Tensor) -> None:
        """See `StepContext`."""
        optimizer = self._optimized[name].optimizer
        if optimizer is None:
            raise TypeError(name)
        if not loss.requires_grad:
            raise TrainingError(
                asked=f"let {name} learn",
                found="a loss that depends on none of its weights that want gradients",
                fix="compute the loss from its outputs, without detach, no_grad or numpy",
            )
        scaler = self._scalers[name]
        optimizer.zero_grad(set_to_none=True)
        # Outside of autocast, as PyTorch asks for it: gradients get the dtypes of what they are of.
        with torch.autocast(self._hardware.device.type, enabled=False):
            self._hardware.backward(scaler.scale(loss))
        if self._settings.clip_norm is not None:
            scaler.unscale_(optimizer)
            held = [one for group in optimizer.param_groups for one in group["params"]]
            torch.nn.utils.clip_grad_norm_(held, self._settings.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        if name in self._averages:
            self._averages[name].update()

    def train(self, on_progress: OnProgress) -> Trained:
        """See `fit`."""
        self._resume()
        recording = self._hardware.rank == 0
        with contextlib.ExitStack() as stack:
            logger = None
            if recording:
                done = self.step if self._evaluated >= 0 else -1
                logger = TrainingLogger(self._folder, self._steps, done=done, on_progress=on_progress)
                stack.callback(logger.close)
            if self._evaluated < 0:
                self._evaluate(logger)
            stopped = self._out_of_patience()
            while self.step < self._steps and not stopped:
                self._advance(logger)
                stopped = self._after_step(logger)
        self._load_best()
        return Trained(
            steps=self.step,
            metrics=self._best,
            first=self._first,
            best_step=self._best_step,
            stopped_early=stopped,
            log=self._folder / "metrics.jsonl",
        )

    def _advance(self, logger: TrainingLogger | None) -> None:
        """One step of every module."""
        factor = self._settings.schedule.factor(self.step, self._steps)
        for name, optimizer in self._optimizers():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * factor
        rows = self._sampler.rows(self.step)
        device = self._hardware.device
        batch = {name: one.to(device, non_blocking=True) for name, one in self._batches.batch(rows).items()}
        try:
            with self._hardware.autocast(self._settings.precision):
                numbers = self._task.step(batch, self)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                asked=f"train in batches of {len(rows)} in each process",
                found="a norm such as BatchNorm, which needs two values to take a variance of",
                fix="give a batch of 2 samples or more to each process",
            ) from error
        self.step += 1
        if self.step % _NOTE_EVERY == 0 or self.step in (1, self._steps):
            self._note(logger, {name: float(value) for name, value in numbers.items()})

    def _note(self, logger: TrainingLogger | None, numbers: dict[str, float]) -> None:
        broken = [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            raise _diverged(", ".join(broken), self.step, self._settings.precision)
        if logger is not None:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            show = f"epoch {self._epoch} of {self._settings.epochs}, {shown}"
            rates = {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in self._optimizers()}
            told = {f"rate of {name}" if len(rates) > 1 else "rate": rate for name, rate in rates.items()}
            logger.note(self.step, self._epoch, {**numbers, **told}, of="step", show=show)

    @property
    def _epoch(self) -> int:
        return min((max(self.step, 1) - 1) // self._sampler.steps_per_epoch + 1, self._settings.epochs)

    def _after_step(self, logger: TrainingLogger | None) -> bool:
        """Evaluates and saves where it is time to. Returns whether training ends early."""
        epoch, inside = divmod(self.step, self._sampler.steps_per_epoch)
        last = self.step == self._steps
        if last or (inside == 0 and epoch % self._settings.evaluate_every == 0):
            self._evaluate(logger)
        elif self.step % self._settings.checkpoint_every == 0:
            self._save()
        return not last and self._out_of_patience()

    def _out_of_patience(self) -> bool:
        return self._settings.patience is not None and self._waited >= self._settings.patience

    def _evaluate(self, logger: TrainingLogger | None) -> None:
        """Keeps the weights where they are the best so far, or nobody can tell; then a checkpoint."""
        metrics: Metrics = {}
        with contextlib.ExitStack() as stack:
            for average in self._averages.values():
                stack.enter_context(average.applied())
            if self._hardware.rank == 0:
                metrics = self._task.evaluate({name: one.module for name, one in self._modules.items()})
            metrics = dict(self._hardware.from_first(metrics))
            better = not metrics or not self._best or self._is_better(metrics)
            if better:
                self._best, self._best_step, self._waited = metrics, self.step, 0
                self._write(BEST, Checkpoint(tensors=self._weights()))
            else:
                self._waited += 1
        if self.step == 0:
            self._first = metrics
        if logger is not None and metrics:
            logger.note(self.step, self._epoch, metrics, of="evaluation")
        self._evaluated = self.step
        self._save()

    def _is_better(self, metrics: Metrics) -> bool:
        name = self._settings.monitor or next(iter(metrics))
        if name not in metrics:
            raise TrainingError(
                asked=f"keep the weights with the best {name!r}",
                found=f"an evaluation of {', '.join(metrics)}",
                fix="monitor one of them",
            )
        now, best = metrics[name], self._best[name]
        if math.isnan(best):
            return not math.isnan(now)
        return now > best if self._settings.larger_is_better else now < best

    def _weights(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}/{key}": value
            for name, one in self._optimized.items()
            for key, value in one.module.state_dict().items()
        }

    def _optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        return [(name, one.optimizer) for name, one in self._optimized.items() if one.optimizer is not None]

    def _identity(self) -> str:
        """What must be equal for a checkpoint to be of this training."""
        shapes = {name: list(value.shape) for name, value in self._weights().items()}
        named = [self.named] if self.named else []
        return digest_json([to_jsonable(self._settings), len(self._batches), self._hardware.processes, shapes, *named])

    def _save(self) -> None:
        tensors = {f"weights/{name}": value for name, value in self._weights().items()}
        values: dict[str, Any] = {
            "identity": self._identity(),
            "step": self.step,
            "best": [self._best, self._best_step, self._waited, self._first, self._evaluated],
            "scalers": {name: scaler.state_dict() for name, scaler in self._scalers.items()},
            "averages": {name: average.steps for name, average in self._averages.items()},
            "optimizers": {},
        }
        for name, optimizer in self._optimizers():
            state, values["optimizers"][name] = optimizer_state(optimizer)
            tensors |= {f"optimizer/{name}/{key}": value for key, value in state.items()}
        for name, average in self._averages.items():
            tensors |= {f"average/{name}/{key}": value for key, value in average.values.items()}
        for rank, drawn in enumerate(self._hardware.gather(random_state(self._hardware.device))):
            tensors |= {f"random/{rank}/{key}": value for key, value in drawn.items()}
        self._write(CHECKPOINT, Checkpoint(tensors=tensors, values=values))

    def _write(self, name: str, checkpoint: Checkpoint) -> None:
        if self._hardware.rank == 0:
            write_checkpoint(self._folder / name, checkpoint)
        self._hardware.wait()

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not path.exists():
            return
        found = read_checkpoint(path)
        values = found.values
        if values.get("identity") != self._identity():
            raise TrainingError(
                asked=f"go on with the training in {self._folder.name}",
                found="a checkpoint of another one: other settings, losses, samples or weights",
                fix="train in another folder, or remove this one",
            )
        self.step = values["step"]
        self._best, self._best_step, self._waited, self._first, self._evaluated = values["best"]
        self._load_weights(found.under("weights/"))
        for name, optimizer in self._optimizers():
            load_optimizer(optimizer, found.under(f"optimizer/{name}/"), values["optimizers"][name])
        for name, average in self._averages.items():
            average.load(found.under(f"average/{name}/"), values["averages"][name])
        for name, scaler in self._scalers.items():
            if values["scalers"][name]:
                scaler.load_state_dict(values["scalers"][name])
        restore_random_state(found.under(f"random/{self._hardware.rank}/"), self._hardware.device)

    def _load_weights(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, one in self._optimized.items():
            prefix = f"{name}/"
            one.module.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )

    def _load_best(self) -> None:
        self._hardware.wait()
        self._load_weights(read_checkpoint(self._folder / BEST).tensors)


def _diverged(numbers: str, steps: int, precision: str) -> TrainingError:
    if steps > 1:
        fix = "lower the learning rate, clip gradients, or train in bf16 or fp32 instead of fp16"
        return TrainingError(asked="train", found=f"{numbers} after {steps} steps", fix=fix)
    return TrainingError(
        asked="train",
        found=f"{numbers} in the first step, before anything was learned",
        fix="find what is no finite number: samples, labels, weights, or what a loss divides by"
        + ("; or train in bf16 or fp32" if precision == "fp16" else ""),
    )
