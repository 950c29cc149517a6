"""The training of a pruned network in its child: here, or in several processes that share each batch.

Another process is not handed the network as it is, for nothing is pickled: it builds the user's own module, makes it as
small as the pruned weights are, and puts the same masks before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import FineTuning, ModelSource, OnProgress, TrainedStep, to_jsonable
from edgeport.exporter.worker import contract_of, export_options_of, loaded_arrays

if TYPE_CHECKING:
    import torch

    from edgeport.exporter.train.distributed import DistributedContext
    from edgeport.exporter.train.fine_tuning import StudentSetup
    from edgeport.exporter.train.samples import LearningSamples

__all__ = ["TrainingBetween", "samples_at"]

_BEGIN, _END = "begin.safetensors", "end.safetensors"


@dataclass
class TrainingBetween:
    """Trains what each step of a pruning left, in place; masks in front of weights stay.

    Attributes:
        training: How.
        epochs: Of the training after each step, 0 for none.
        payload: `source` (a `ModelSource`), `training` (samples to learn from, as `samples_at` takes it), `work` (a
            folder that a killed training goes on from), and where wanted `options` (an `ExportOptions`), `target`,
            `teacher` (a `ModelSource`; the source by default).
        device: "cpu", "cuda" or "auto".
        on_progress: Told every few steps.
        done: What each training gave.

    """

    training: FineTuning
    epochs: tuple[int, ...]
    payload: Mapping[str, Any]
    device: str
    on_progress: OnProgress
    done: list[TrainedStep] = field(default_factory=list)

    def __call__(self, module: torch.nn.Module, index: int) -> None:
        """Trains the module, on the CPU before and after, as it is after the step of this number.

        Raises:
            SamplesError, SourceError, TrainingError: As `edgeport.exporter.train.fine_tuning.fine_tune`.

        """
        if not self.epochs[index]:
            return
        training = replace(self.training, epochs=self.epochs[index])
        folder = Path(self.payload["work"]) / f"step-{index}"
        if training.processes == 1:
            from edgeport.exporter.train.distributed import this_process

            hardware = this_process(self.device)
            self.done.append(_tuned(module, self._lessons, training, folder, hardware, self.on_progress))
        else:
            self.done.append(self._shared(module, training, folder))

    @cached_property
    def _lessons(self) -> tuple[LearningSamples, StudentSetup]:
        return _lessons(self.payload, self.training)

    def _shared(self, module: torch.nn.Module, training: FineTuning, folder: Path) -> TrainedStep:
        from safetensors.torch import load_file

        from edgeport.exporter.loaders.checkpoint import write_weights
        from edgeport.exporter.prune.checkpoint import save_pruned
        from edgeport.exporter.prune.masks import masks_of
        from edgeport.exporter.train.launcher import in_processes

        folder.mkdir(parents=True, exist_ok=True)
        source, masked = dict(self.payload["source"]), list(masks_of(module))
        if masked:  # single weights that are zero change no shape
            write_weights(module, folder / _BEGIN)
        else:
            save_pruned(module, folder / _BEGIN)
            source |= {"weights": str(folder / _BEGIN)}
        found = in_processes(
            _tune_one,
            {
                **self.payload,
                "teacher": self.payload.get("teacher") or self.payload["source"],
                "source": source,
                "masked": masked,
                "fine_tuning": to_jsonable(training),
                "folder": str(folder),
            },
            processes=training.processes,
            device=self.device,
            on_progress=self.on_progress,
        )
        module.load_state_dict(load_file(folder / _END))
        module.eval()
        for name in (_BEGIN, _END):
            (folder / name).unlink(missing_ok=True)
        return contract_of(TrainedStep, found)


def _tune_one(payload: Mapping[str, Any], hardware: DistributedContext, on_progress: OnProgress) -> dict[str, Any]:
    """In each process of the training; the first one keeps the weights."""
    from safetensors.torch import load_file

    from edgeport.exporter.loaders.checkpoint import write_weights
    from edgeport.exporter.loaders.model_source import load_module
    from edgeport.exporter.prune.masks import apply_masks

    folder, module = Path(payload["folder"]), load_module(contract_of(ModelSource, payload["source"]))
    state = load_file(folder / _BEGIN)
    apply_masks(module, {name: state[f"{name}_mask"] for name in payload["masked"]})
    module.load_state_dict(state)
    training = contract_of(FineTuning, payload["fine_tuning"])
    trained = _tuned(module, _lessons(payload, training), training, folder, hardware, on_progress)
    if hardware.rank == 0:
        write_weights(module, folder / _END)
    return dict(to_jsonable(trained))


def _lessons(payload: Mapping[str, Any], training: FineTuning) -> tuple[LearningSamples, StudentSetup]:
    """What is learned from, and who teaches."""
    from edgeport.exporter.loaders.model_source import load_module
    from edgeport.exporter.train.fine_tuning import StudentSetup

    options = export_options_of(payload)
    search, teacher = payload["source"].get("search_path"), payload.get("teacher") or payload["source"]
    taught = training.teacher > 0 or training.loss in ("teacher", "auto")  # auto: of what has no labels to learn from
    setup = StudentSetup(
        parameters=options.parameters,
        constants=options.constants,
        teacher=load_module(contract_of(ModelSource, teacher)) if taught else None,
        search_path=Path(search) if search else None,
    )
    return samples_at(payload["training"], payload), setup


def _tuned(
    module: torch.nn.Module,
    lessons: tuple[LearningSamples, StudentSetup],
    training: FineTuning,
    folder: Path,
    hardware: DistributedContext,
    on_progress: OnProgress,
) -> TrainedStep:
    from edgeport.exporter.train.fine_tuning import fine_tune

    samples, setup = lessons
    found = fine_tune(module, samples, training, folder, setup=setup, hardware=hardware, on_progress=on_progress)
    return TrainedStep(before=found.first, after=found.metrics, best_step=found.best_step, steps=found.steps)


def samples_at(place: str, payload: Mapping[str, Any]) -> LearningSamples:
    """Samples of an `.npz`, with the labels at the key that `target` of the payload names, or of a folder of arrays.

    Raises:
        SamplesError: It can't be read.

    """
    from edgeport.exporter.train.samples import LearningSamples, open_samples

    if Path(place).is_dir():
        return open_samples(Path(place))
    arrays = dict(loaded_arrays(place))
    labels = arrays.pop(payload["target"], None) if payload.get("target") else None
    return LearningSamples(feeds=arrays, labels=labels)
