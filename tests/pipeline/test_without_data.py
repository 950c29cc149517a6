"""Distilling without data, and imitating data, from the API to files; the child's work in this process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeport import api
from edgeport.contracts import ModelSource, Outcome, TensorSpec
from edgeport.errors import ContractError, DistillationError, OutputError, SamplesError, UsageError
from edgeport.npz import load_npz, made_of
from edgeport.pipeline.compression import workbench

NETWORKS = """
import torch

def make(hidden=16, norm=True):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, hidden), *([torch.nn.BatchNorm1d(hidden)] if norm else []), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(hidden, 3)).eval()
"""
SPEC = TensorSpec(name="x", dtype="float32", shape=("batch", 6), value_range=(-2.0, 2.0))
VALUES = {"latent": 4, "width": 4, "batch": 16, "memory": 64, "warm_up": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One folder for all: this process imports the module once."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "networks_without_data.py").write_text(NETWORKS)
    module = {}
    exec(NETWORKS, module)
    save_file(module["make"]().state_dict(), folder / "teacher.safetensors")
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Children are called, not started: each would load torch again."""
    import importlib

    def call(function, payload, **others):
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(payload)

    monkeypatch.setattr(workbench, "run_isolated", call)


def source(models, weights=None, **arguments):
    return ModelSource(location="networks_without_data:make", search_path=models, weights=weights, arguments=arguments)


def distilled(models, tmp_path, *, judged=None, target="", **options):
    return api.distill_without_data(
        source(models, models / "teacher.safetensors"),
        source(models, hidden=4),
        SPEC,
        output=tmp_path / "student.safetensors",
        store=tmp_path / "store",
        judged=judged,
        target=target,
        options=api.WithoutDataOptions(**{"device": "cpu", "steps": 12, "batch_size": 8, "values": VALUES, **options}),
    )


def test_writes_the_student_and_what_was_made_for_it(models, tmp_path):
    report = distilled(models, tmp_path, made=tmp_path / "made.npz")

    assert load_file(report.file)["0.weight"].shape == (4, 6)
    assert report.student.weights == report.file
    assert report.weights == (6 * 16 + 16 + 32 + 16 * 3 + 3, 6 * 4 + 4 + 8 + 4 * 3 + 3)
    assert report.result.steps == 12
    assert report.outcome is Outcome.PASS
    assert report.notes == ("How good the student is was not measured: there were no samples to judge by.",)
    assert made_of(tmp_path / "made.npz") == "generator"
    made = load_npz(tmp_path / "made.npz")["x"]
    assert made.shape == (64, 6)
    assert np.abs(made).max() <= 2
    assert report.log == tmp_path / "student.metrics.jsonl"
    assert '"step": 12' in report.log.read_text(encoding="utf-8")
    assert not list((tmp_path / "store" / "training").iterdir())  # of no use any more
    assert not list(tmp_path.glob("*.part"))
    first = load_file(report.file)
    again = load_file(distilled(models, tmp_path).file)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize("of", ["distil", "imitate"])
def test_two_processes_do_not_share_a_training(models, tmp_path, monkeypatch, of):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32))

    def train():
        if of == "distil":
            return distilled(models, tmp_path)
        return api.imitate(tmp_path / "data.npz", output=tmp_path / "drawn.npz", store=tmp_path / "store")

    def again(*_, **__):
        monkeypatch.setattr(workbench, "run_isolated", lambda *_, **__: pytest.fail("trained by two"))
        with pytest.raises(UsageError, match=rf"{of} .*another process, which trains the very same"):
            train()
        raise KeyboardInterrupt

    monkeypatch.setattr(workbench, "run_isolated", again)
    with pytest.raises(KeyboardInterrupt):
        train()


@pytest.mark.parametrize("taken", ["student.metrics.jsonl", "student.tensorboard"])
def test_the_place_of_the_course_is_looked_at_before_the_training(models, tmp_path, monkeypatch, taken):
    monkeypatch.setattr(workbench, "run_isolated", lambda *_, **__: pytest.fail("trained in vain"))
    (tmp_path / taken).mkdir() if taken.endswith("jsonl") else (tmp_path / taken).touch()
    with pytest.raises(OutputError, match=f"{taken}, which is no"):
        distilled(models, tmp_path)


def test_samples_with_labels_say_which_weights_are_best(models, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "judge.npz", x=rng.normal(size=(30, 6)).astype(np.float32), label=rng.integers(3, size=30))
    report = distilled(models, tmp_path, judged=tmp_path / "judge.npz", target="label")
    assert set(report.result.after) == {"top1", "loss"}
    assert set(report.result.teacher) == {"top1", "loss"}
    assert (report.outcome, report.reason == "") == (
        (Outcome.PASS, True) if report.result.best_step else (Outcome.FAIL, False)
    )
    with pytest.raises(UsageError, match="--target"):
        distilled(models, tmp_path, judged=tmp_path / "judge.npz")
    with pytest.raises(SamplesError, match="none of which is 'class'"):
        distilled(models, tmp_path, judged=tmp_path / "judge.npz", target="class")


X = np.zeros((5, 6), np.float32)


@pytest.mark.parametrize(
    ("x", "label", "says"),
    [
        pytest.param(X.astype(np.float64), np.zeros(5, int), r"x: float64 \[5, 6\]", id="dtype"),
        pytest.param(X[:, :4], np.zeros(5, int), r"store samples of float32 \['batch', 6\]", id="shape"),
        pytest.param(X[:0], np.zeros(0, int), r"x: float32 \[0, 6\]", id="none"),
        pytest.param(X, np.eye(5)[:, :3], r"labels of float64 \[5, 3\]", id="one-hot"),
        pytest.param(X, np.arange(5), "0 to 4 for 5 samples and 3 classes.*from 0 to 2", id="class"),
        pytest.param(X, np.zeros(4, int), "for 5 samples", id="length"),
    ],
)
def test_samples_that_can_not_judge_are_refused(models, tmp_path, x, label, says):
    np.savez(tmp_path / "judge.npz", x=x, label=label)
    with pytest.raises(SamplesError, match=says):
        distilled(models, tmp_path, judged=tmp_path / "judge.npz", target="label")
    assert not (tmp_path / "student.safetensors").exists()


def test_what_is_asked_wrongly_is_refused(models, tmp_path):
    with pytest.raises(UsageError, match="fast, dafl, contrastive"):
        distilled(models, tmp_path, method="gan")
    with pytest.raises(ContractError, match="inner = 0"):
        distilled(models, tmp_path, values={"inner": 0})
    with pytest.raises(DistillationError, match="'decoupled', which needs labels"):
        distilled(models, tmp_path, L=("0.5 decoupled:4",))
    with pytest.raises(DistillationError, match="'adversarial', whose network is scaled by samples"):
        distilled(models, tmp_path, L=("soft-targets", "adversarial"))
    with pytest.raises(ContractError, match="2 are the generator's warm-up"):
        distilled(models, tmp_path, steps=2)
    with pytest.raises(UsageError, match=r"what was made to made\.csv.*name it \.npz"):
        distilled(models, tmp_path, made=tmp_path / "made.csv")
    with pytest.raises(UsageError, match=r"judge the student on absent\.npz; found no file"):
        distilled(models, tmp_path, judged=tmp_path / "absent.npz", target="label")
    with pytest.raises(UsageError, match="found no file"):
        distilled(models, tmp_path, judged=tmp_path, target="label")
    with pytest.raises(UsageError, match=r"name it \.safetensors"):
        api.distill_without_data(source(models), source(models), SPEC, output=tmp_path / "student.pt")
    with pytest.raises(UsageError, match=r"learn by L = 'relational'; found a text"):
        api.distill_without_data(
            source(models),
            source(models),
            SPEC,
            output=tmp_path / "s.safetensors",
            options=api.WithoutDataOptions(L="relational"),
        )
    with pytest.raises(UsageError, match="whose graph is fixed"):
        api.distill_without_data(
            ModelSource(location="net.onnx"), source(models), SPEC, output=tmp_path / "s.safetensors"
        )


def test_imitates_what_it_has_seen(tmp_path):
    x = np.random.default_rng(0).uniform(1, 2, (60, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, label=np.zeros(60, np.int64))
    report = api.imitate(
        tmp_path / "data.npz",
        output=tmp_path / "drawn.npz",
        store=tmp_path / "store",
        options=api.ImitateOptions(count=70, epochs=1, batch_size=16, latent=2, width=2, device="cpu"),
    )
    drawn = load_npz(tmp_path / "drawn.npz")
    assert (report.count, report.learned_from) == (70, 60)
    assert list(drawn) == ["x"]
    assert drawn["x"].shape == (70, 6)
    assert x.min() <= drawn["x"].min() <= drawn["x"].max() <= x.max()
    assert made_of(tmp_path / "drawn.npz") == "vae"
    with pytest.raises(SamplesError, match="name the one that is meant"):
        api.imitate(tmp_path / "data.npz", output=tmp_path / "drawn.npz", options=api.ImitateOptions(inputs="label"))
    with pytest.raises(UsageError, match=r"name it \.npz"):
        api.imitate(tmp_path / "data.npz", output=tmp_path / "drawn.csv")
    with pytest.raises(SamplesError, match=r"found numbers from 1.* to 1.*give a --range that they lie in"):
        api.imitate(
            tmp_path / "data.npz", output=tmp_path / "drawn.npz", options=api.ImitateOptions(value_range=(0.0, 1.0))
        )


@pytest.mark.parametrize(
    ("x", "says"),
    [
        pytest.param(np.zeros((0, 6), np.float32), "no samples", id="none"),
        pytest.param(np.full((9, 6), 3, np.float32), "3 everywhere", id="constant"),
        pytest.param(np.array([[1, np.nan], [np.inf, 2]], np.float32), "2 numbers that are not", id="not finite"),
    ],
)
def test_samples_that_can_not_be_imitated_are_refused(tmp_path, x, says):
    np.savez(tmp_path / "data.npz", x=x)
    with pytest.raises(SamplesError, match=says):
        api.imitate(tmp_path / "data.npz", output=tmp_path / "drawn.npz")


@pytest.mark.parametrize("content", ["text", "npy", "half"])
def test_a_file_that_is_no_npz_is_named(tmp_path, content):
    np.savez(tmp_path / "whole.npz", x=X)
    np.save(tmp_path / "x.npy", X)
    half = (tmp_path / "whole.npz").read_bytes()[:200]
    written = {"text": b"a,b\n1,2\n", "npy": (tmp_path / "x.npy").read_bytes(), "half": half}
    (tmp_path / "data.npz").write_bytes(written[content])
    with pytest.raises(SamplesError, match=r"read the samples data\.npz; found no \.npz of plain arrays"):
        api.imitate(tmp_path / "data.npz", output=tmp_path / "drawn.npz")
