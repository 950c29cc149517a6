"""A pruning with training in its child: killed and started again it gives what it would have given, bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeport.contracts import FineTuning, ModelSource, ProgressEvent, PruneStep, to_jsonable
from edgeport.exporter.prune.steps import trainings_of
from edgeport.exporter.prune.worker import judge_in_child, look_in_child, prune_in_child

NET = """
import torch
from torch import nn


def create():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    )
"""


class Killed(Exception):
    pass


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[dict[str, Any]]:
    (tmp_path / "pruned_in_child_net.py").write_text(NET, encoding="utf-8")
    random = np.random.default_rng(0)
    arrays = {"x": random.normal(size=(40, 3, 8, 8)).astype(np.float32), "label": random.integers(0, 4, 40)}
    np.savez(tmp_path / "samples.npz", **arrays)
    training = FineTuning(epochs=3, batch_size=4, rate=0.01, teacher=0.5)
    step = PruneStep(amount=0.5, schedule="iterative:2", training=training, device="cpu")
    yield {
        "source": to_jsonable(ModelSource(location="pruned_in_child_net:create", search_path=tmp_path)),
        "step": to_jsonable(step),
        "samples": str(tmp_path / "samples.npz"),
        "training": str(tmp_path / "samples.npz"),
        "target": "label",
    }
    sys.modules.pop("pruned_in_child_net", None)  # the next test has a file of that name elsewhere


def test_a_killed_one_goes_on_where_it_was(payload: dict[str, Any], tmp_path: Path) -> None:
    def run(name: str, *, kill_at: int = 0) -> dict[str, Any]:
        seen = 0

        def on_progress(event: ProgressEvent) -> None:
            nonlocal seen
            seen += event.stage == "train"
            if kill_at and seen >= kill_at:
                raise Killed

        more = {"output": str(tmp_path / f"{name}.safetensors"), "work": str(tmp_path / name)}
        return prune_in_child({**payload, **more}, on_progress)

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", kill_at=6)
    assert any((tmp_path / "killed").rglob("checkpoint.safetensors"))
    again = run("killed")

    assert again["trained"] == whole["trained"]
    one, other = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "killed.safetensors")
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize(
    ("step", "epochs"),
    [
        (PruneStep(amount=0.5), ()),
        (PruneStep(amount=0.5, training=FineTuning(epochs=4)), (4,)),
        (PruneStep(amount=0.5, schedule="gradual:3", training=FineTuning(epochs=4), epochs_between=2), (2, 2, 4)),
        (PruneStep(speedup=2.0, training=FineTuning(epochs=4)), (4,)),
        (PruneStep(what="2:4", training=FineTuning(epochs=4)), (4,)),
        (PruneStep(what="blocks", amount=2, training=FineTuning(epochs=4), epochs_between=0), (0, 4)),
    ],
)
def test_epochs_after_each_removal(step: PruneStep, epochs: tuple[int, ...]) -> None:
    assert trainings_of(step) == epochs


def test_proposals_are_judged_with_the_statistics_that_they_will_have(payload: dict[str, Any]) -> None:
    """Those of the step where it takes them anew, or trains; else the old ones."""

    def losses(step: PruneStep) -> list[float]:
        asked = {**payload, "step": to_jsonable(step)}
        group_specs = look_in_child(asked)["group_specs"]
        several = [{}, {group_specs[0]["name"]: 8}]
        found: list[float] = judge_in_child({**asked, "group_specs": group_specs, "several": several})["losses"]
        return found

    plain = losses(PruneStep(speedup=2.0, device="cpu"))
    anew = losses(PruneStep(speedup=2.0, recalibrate=True, device="cpu"))
    trained = losses(PruneStep(speedup=2.0, training=FineTuning(epochs=1), device="cpu"))

    assert plain[0] != plain[1]
    assert all(one != other for one, other in zip(plain, anew, strict=True))
    assert trained == anew


def test_what_has_no_labels_learns_from_the_model_as_it_was(payload: dict[str, Any], tmp_path: Path) -> None:
    images = dict(np.load(tmp_path / "samples.npz"))["x"]
    np.savez(tmp_path / "images.npz", x=images)
    step = PruneStep(amount=0.5, training=FineTuning(epochs=1, batch_size=4), device="cpu")
    asked = {"step": to_jsonable(step), "target": "", "output": str(tmp_path / "a.safetensors"), "work": str(tmp_path)}
    images_place = str(tmp_path / "images.npz")
    done = prune_in_child({**payload, **asked, "samples": images_place, "training": images_place})
    (trained,) = done["trained"]
    assert trained["steps"] == 9
    assert 0 < trained["after"]["loss"] <= trained["before"]["loss"]


@pytest.mark.slow  # each process imports PyTorch and Fabric
@pytest.mark.parametrize("what", ["units", "weights"])
def test_two_processes_train_what_one_does(what: str, payload: dict[str, Any], tmp_path: Path) -> None:
    """Without BatchNorm, whose statistics are of each process's own samples."""
    pytest.importorskip("lightning_fabric")
    (tmp_path / "pruned_in_child_net.py").write_text(NET.replace("nn.BatchNorm2d(16)", "nn.Tanh()"), encoding="utf-8")
    found = {}
    for processes in (1, 2):
        training = FineTuning(epochs=2, batch_size=4, rate=0.01, teacher=0.5, processes=processes)
        step = PruneStep(what=what, amount=0.5, schedule="iterative:2", training=training, device="cpu")
        output = tmp_path / f"{processes}.safetensors"
        more = {"step": to_jsonable(step), "output": str(output), "work": str(tmp_path / f"work-{processes}")}
        done = prune_in_child({**payload, **more})
        found[processes] = (done, load_file(output))

    (alone, one), (shared, two) = found[1], found[2]
    assert [trained["steps"] for trained in shared["trained"]] == [9, 18]
    assert shared["trained"][-1]["after"]["loss"] == pytest.approx(alone["trained"][-1]["after"]["loss"], rel=1e-4)
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(two[name] == 0, array == 0)
