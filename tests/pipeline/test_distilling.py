"""`edgeport distill`: what is refused, what a child trains and keeps, and the whole way."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport import api
from edgeport.contracts import DistillStep, ModelSource, Outcome, to_jsonable
from edgeport.contracts.recipe import SamplesFile
from edgeport.errors import DistillationError, EdgeportError, SamplesError, UsageError
from edgeport.exporter.loaders.model_source import load_module
from edgeport.exporter.prune.config import Units
from edgeport.exporter.prune.importance.criteria import Magnitude
from edgeport.exporter.prune.pruning import prune
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.structure.pruned_weights import is_pruned, save_pruned
from edgeport.pipeline.compression.distill import DistillCommand
from edgeport.pipeline.compression.distill_worker import distill_in_child

NET = """
    import torch


    def create(width=32):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(12, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "distill_net", raising=False)  # of another test, from another folder
    (tmp_path / "distill_net.py").write_text(textwrap.dedent(NET), encoding="utf-8")
    values = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    np.savez(tmp_path / "training.npz", input=values, label=values[:, :3].argmax(axis=1))
    return tmp_path


def source(folder: Path, **changes: object) -> ModelSource:
    return ModelSource(location="distill_net:create", search_path=folder, **changes)


def payload(folder: Path, step: DistillStep, **changes: object) -> dict[str, object]:
    return {
        "teacher": to_jsonable(source(folder)),
        "student": to_jsonable(source(folder, arguments={"width": 4})),
        "step": to_jsonable(step),
        "samples": to_jsonable(SamplesFile(path=folder / "training.npz")),
        "target": "label",
        "output": str(folder / "student.safetensors"),
        "work": str(folder / "work"),
        "threads": 1,
    } | changes


def test_a_child_trains_students_and_keeps_the_best(folder: Path) -> None:
    step = DistillStep(
        L=("cross-entropy", "0.1 soft-targets:2", "0.1 hints:0"), generations=2, epochs=8, batch_size=16, rate=2e-2
    )

    found = distill_in_child(payload(folder, step))

    assert len(found["results"]) == 2
    assert found["weights"] == [12 * 32 + 32 + 32 * 3 + 3, 12 * 4 + 4 + 4 * 3 + 3]
    assert found["macs"] == [12 * 32 + 32 * 3, 12 * 4 + 4 * 3]
    best = found["results"][found["best"]]
    assert best["objective"] == "1 CrossEntropy + 0.1 SoftTargets + 0.1 Hints"
    assert best["after"]["top1"] > best["before"]["top1"]
    assert set(best["teacher"]) == {"top1", "loss"}
    kept = source(folder, arguments={"width": 4}, weights=folder / "student.safetensors")
    assert load_module(kept)[0].weight.shape == (4, 12)


def test_what_was_pruned_stays_so_and_loads_by_the_same_code(folder: Path) -> None:
    small = load_module(source(folder))
    inputs = {"input": np.load(folder / "training.npz")["input"][:4]}
    prune(small, Units(macs=0.6), Magnitude(), Samples(feeds=inputs))
    save_pruned(small, folder / "small.safetensors")
    student = to_jsonable(source(folder, weights=folder / "small.safetensors"))

    distill_in_child(payload(folder, DistillStep(epochs=6, batch_size=16, rate=2e-2), student=student))

    assert is_pruned(folder / "student.safetensors")
    learned = load_module(source(folder, weights=folder / "student.safetensors"))
    assert learned[0].weight.shape == small[0].weight.shape
    assert not torch.equal(learned[0].weight, small[0].weight)


@pytest.mark.slow  # each process imports PyTorch and Fabric
def test_a_command_shares_each_batch_among_processes(folder: Path) -> None:
    pytest.importorskip("lightning_fabric")
    found = {}
    for processes in (1, 2):
        report = api.distill(
            source(folder),
            folder / "training.npz",
            output=folder / f"{processes}.safetensors",
            student=source(folder, arguments={"width": 4}),
            target="label",
            store=folder / "store",
            options=api.DistillOptions(
                epochs=4, batch_size=16, rate=1e-2, generations=2, device="cpu", processes=processes
            ),
        )
        kept = source(folder, arguments={"width": 4}, weights=report.file)
        found[processes] = (report, load_module(kept)[0].weight)

    (alone, one), (shared, two) = found[1], found[2]
    assert [result.steps for result in shared.results] == [result.steps for result in alone.results]
    assert shared.best == alone.best
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    assert (folder / "2.metrics.jsonl").is_file()


def test_modules_that_are_not_there_are_said_by_the_child(folder: Path) -> None:
    with pytest.raises(DistillationError, match="module 'body'"):
        distill_in_child(payload(folder, DistillStep(L=("hints:body",), epochs=1, batch_size=16)))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        pytest.param({}, "no student", id="nobody"),
        pytest.param({"student": "net:small", "prune": 0.5}, "two students", id="two"),
        pytest.param({"student": "small.onnx"}, "graph is fixed", id="onnx"),
        pytest.param({"student": "net:small", "speedup": 2.0}, "--scale", id="nothing to change"),
        pytest.param({"scale": {"width": [8]}, "speedup": 2.0}, "no student whose factory", id="scale of nobody"),
        pytest.param({"student": "net:small", "scale": {"width": [8]}}, "0 goals", id="no goal"),
        pytest.param({"student": "net:small", "epochs": 0}, "epochs = 0", id="epochs"),
        pytest.param({"prune": 0.5, "speedup": 2.0}, "2 goals", id="two goals"),
        pytest.param(
            {"student": "net:small", "speedup": 2.0, "scale": {"width": [8], "depth": [2]}},
            "2 arguments",
            id="two scales",
        ),
        pytest.param({"prune": 0.5, "L": ["soft-target:4"]}, "did you mean 'soft-targets'", id="term"),
        pytest.param({"prune": 0.5, "L": "cosine"}, "learn by L = 'cosine'; found a text; give a list", id="a text"),
        pytest.param({"prune": 0.5, "R": [print]}, "learn by R = .*; found terms that are no texts", id="an object"),
        pytest.param({"prune": 0.5, "R": ["0.1 confidense"]}, "did you mean 'confidence'", id="regulariser"),
        pytest.param({"prune": 0.5, "augment": "crop-flp"}, "take crop-flip", id="augment"),
        pytest.param({"prune": 0.5, "optimizer": "lion"}, "the optimizer 'lion'", id="optimizer"),
        pytest.param({"prune": 0.5, "average": 1.5}, "average = 1.5", id="average"),
        pytest.param({"student": "net:small", "output": Path("student.pt")}, r"\.safetensors", id="file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(folder: Path, asked: dict[str, object], says: str) -> None:
    output = asked.pop("output", folder / "student.safetensors")
    student = ModelSource(location=str(asked.pop("student"))) if "student" in asked else None

    with pytest.raises(EdgeportError, match=says):
        api.distill(
            source(folder),
            folder / "training.npz",
            output=output,
            student=student,
            options=api.DistillOptions(**asked),
            store=folder / "store",
        )


def test_samples_that_are_no_numbers_are_found_before_the_training(folder: Path) -> None:
    values = dict(np.load(folder / "training.npz"))
    values["input"][170, 3] = np.nan
    np.savez(folder / "training.npz", **values)

    with pytest.raises(SamplesError, match="NaN or Inf in sample 170"):
        distill_in_child(payload(folder, DistillStep(epochs=1, batch_size=16)))


def test_labels_that_are_not_there_are_missed(folder: Path) -> None:
    values = np.load(folder / "training.npz")["input"]
    np.savez(folder / "training.npz", input=values)

    with pytest.raises(SamplesError, match=r"labels 'label'.*there are input"):
        distill_in_child(payload(folder, DistillStep(epochs=1, batch_size=16)))


def test_a_student_in_the_teachers_place_answers_in_its_form(folder: Path) -> None:
    (folder / "distill_dict.py").write_text(
        textwrap.dedent(
            """
            import torch


            class Named(torch.nn.Module):
                def __init__(self, inside=3):
                    super().__init__()
                    self.inside = torch.nn.Linear(12, inside)
                    self.head = torch.nn.Linear(12, 3)

                def forward(self, input):
                    return {"inside": self.inside(input), "scores": self.head(input)}
            """
        ),
        encoding="utf-8",
    )
    named = to_jsonable(ModelSource(location="distill_dict:Named", search_path=folder))
    step = DistillStep(L=("cross-entropy",), epochs=4, batch_size=16, rate=2e-2)

    with pytest.raises(DistillationError, match=r"outputs inside: .*; scores: .* in place of output: "):
        distill_in_child(payload(folder, step, student=named, replaces=True))
    longer = named | {"arguments": {"inside": 5}}
    with pytest.raises(DistillationError, match=r"inside: torch.float32, rows of 5; .* in place of inside: .* of 3; "):
        distill_in_child(payload(folder, step, student=longer, teacher=named, judged="scores", replaces=True))
    found = distill_in_child(payload(folder, step, student=named, teacher=named, judged="scores", replaces=True))

    start, learned = (
        load_module(ModelSource(location="distill_dict:Named", search_path=folder, weights=weights))
        for weights in (None, folder / "student.safetensors")
    )
    assert found["results"][0]["after"]["top1"] > found["results"][0]["before"]["top1"]
    assert not torch.equal(learned.head.weight, start.head.weight)


def test_two_processes_do_not_share_a_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(store: Path) -> None:
        api.distill(
            source(folder),
            folder / "training.npz",
            output=folder / "student.safetensors",
            store=store,
            options=api.DistillOptions(prune=0.5),
        )

    def again(command: DistillCommand) -> None:
        del command
        monkeypatch.setattr(DistillCommand, "student_as_it_begins", lambda _: pytest.fail("trained by two"))
        with pytest.raises(UsageError, match="another process, which trains the very same"):
            train(folder / "store")
        raise KeyboardInterrupt

    monkeypatch.setattr(DistillCommand, "student_as_it_begins", again)
    with pytest.raises(KeyboardInterrupt):
        train(folder / "store")

    monkeypatch.setattr(DistillCommand, "student_as_it_begins", again)
    with pytest.raises(KeyboardInterrupt):
        train(folder / "store")


def test_a_student_that_was_found_is_for_what_measured_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other threads another one may be fast enough."""
    places: list[Path] = []

    def stop(command: DistillCommand) -> None:
        places.append(command.bench.store.root)
        raise KeyboardInterrupt

    monkeypatch.setattr(DistillCommand, "student_as_it_begins", stop)
    for threads in (1, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            api.distill(
                source(folder),
                folder / "training.npz",
                output=folder / "student.safetensors",
                store=folder / "store",
                options=api.DistillOptions(speedup=2.0, threads=threads),
            )

    assert places[0] == places[1] != places[2]


@pytest.mark.slow  # exports, and measures in pairs of processes
@pytest.mark.alone
def test_a_student_scaled_to_a_latency_and_trained(folder: Path) -> None:
    teacher = source(folder, arguments={"width": 100_000})

    report = api.distill(
        teacher,
        folder / "training.npz",
        output=folder / "student.safetensors",
        student=source(folder),
        target="label",
        store=folder / "store",
        options=api.DistillOptions(
            scale={"width": [8, 64, 90_000]}, speedup=3.0, epochs=10, batch_size=16, rate=1e-2, threads=1
        ),
    )

    assert report.outcome is Outcome.PASS, report.reason
    assert report.student.arguments["width"] == 64
    assert report.speedup is not None
    assert report.speedup.low > 1.0
    assert report.results[0].after["top1"] > report.results[0].before["top1"]
    assert report.log.is_file()
    assert not list((folder / "store" / "training").iterdir())
