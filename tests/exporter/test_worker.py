"""The whole export in a child process, as the pipeline runs it: the parent never imports torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource, OnnxModel, Outcome, PruneStep, load_json, to_jsonable
from edgeport.errors import GraphBreakError, SamplesError
from edgeport.exporter import ExportOptions, ExportResult
from edgeport.exporter.verify import verify
from edgeport.isolation import run_isolated

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, branch=False):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.branch = nn.Linear(3, 2), branch

    def forward(self, x):
        print("hello")
        if self.branch and x.sum() > 0:
            return x
        return self.fc(x)
"""

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def _payload(folder, *, options=None, **arguments):
    (folder / "child_net.py").write_text(MODEL)
    np.savez(folder / "example.npz", x=X[:2])
    np.savez(folder / "feeds.npz", x=X)
    source = ModelSource(location="child_net:Net", arguments=arguments, search_path=folder)
    return {
        "source": to_jsonable(source),
        "example": str(folder / "example.npz"),
        "output": str(folder / "out" / "model.onnx"),
        "options": to_jsonable(options or ExportOptions()),
        "feeds": str(folder / "feeds.npz"),
        "reference": str(folder / "reference.npz"),
        "batch": 3,
        "threads": 1,
    }


def test_a_child_loads_exports_and_computes_the_reference(tmp_path, open_model):
    seen = []
    found = run_isolated("edgeport.exporter.worker:export_in_child", _payload(tmp_path), on_progress=seen.append)

    result = load_json(ExportResult, json.dumps(found["result"]))
    assert load_json(OnnxModel, json.dumps(found["model"])) == result.model
    assert found["outputs"] == ["output"]
    assert [event.message for event in seen] == ["load the model", "export", "run PyTorch on the samples"]
    with np.load(found["reference"], allow_pickle=False) as file:
        reference = {name: file[name] for name in file.files}
    assert reference["output"].shape == (7, 2)
    assert verify(reference, {"x": X}, result.model.path, open_model).outcome is Outcome.PASS

    again = run_isolated("edgeport.exporter.worker:reference_in_child", _payload(tmp_path))
    with np.load(again["reference"], allow_pickle=False) as file:
        np.testing.assert_array_equal(file["output"], reference["output"])


def test_random_weights_are_noted_and_verified_against_later(tmp_path):
    """`verify` builds the model once more, in another process."""
    from edgeport import api

    pytest.importorskip("torchvision", reason="torchvision is not installed")
    source = ModelSource(location="torchvision:squeezenet1_1")
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=images, label=np.arange(3))

    report = api.export(source, example=tmp_path / "samples.npz", target="label", output=tmp_path / "m.onnx")
    checked = api.verify(source, tmp_path / "m.onnx", tmp_path / "samples.npz", target="label")

    assert [spec.name for spec in report.model.inputs] == ["x"]
    assert report.notes[0].startswith("The weights are random")
    assert checked.outcome is Outcome.PASS


def test_an_error_of_the_child_arrives_with_the_users_line(tmp_path):
    with pytest.raises(GraphBreakError) as caught:
        run_isolated("edgeport.exporter.worker:export_in_child", _payload(tmp_path, branch=True))

    assert caught.value.details["code"] == "if self.branch and x.sum() > 0:"
    assert not (tmp_path / "out").exists()


def test_samples_with_objects_are_refused(tmp_path):
    from edgeport.exporter.worker import export_in_child

    payload = _payload(tmp_path)
    np.savez(tmp_path / "example.npz", x=np.array([{"a": 1}], object))

    with pytest.raises(SamplesError, match="arrays of objects are not read"):
        export_in_child(payload)


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, edgeport.exporter, edgeport.exporter.worker, edgeport.exporter.onnx_export, "
        "edgeport.exporter.verify, edgeport.exporter.loaders.model_source\n"
        "print([name for name in ('torch', 'onnxruntime', 'onnx', 'onnx_ir', 'onnxscript') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"


WATCH = """
import json, os, sys
from importlib import import_module


class Watch:
    found = []

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            self.found.append(os.environ.get("OMP_WAIT_POLICY"))


sys.meta_path.insert(0, Watch())
module, _, function = sys.argv[1].partition(":")
try:
    getattr(import_module(module), function)(json.loads(sys.argv[2]))
except Exception as error:
    print(type(error).__name__)
print(Watch.found[:1])
"""


@pytest.mark.parametrize(
    "function",
    [
        "edgeport.exporter.worker:export_in_child",
        "edgeport.exporter.worker:reference_in_child",
        "edgeport.exporter.worker:synthesize_in_child",
        "edgeport.exporter.prune.worker:prune_in_child",
        "edgeport.exporter.prune.worker:look_in_child",
        "edgeport.exporter.prune.worker:take_in_child",
        "edgeport.exporter.prune.worker:judge_in_child",
    ],
)
def test_threads_are_told_to_sleep_while_they_wait_before_pytorch_is_loaded(function, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    payload = {
        "source": to_jsonable(ModelSource(location="no_such_module:Net")),
        "step": to_jsonable(PruneStep(amount=0.5)),
    }
    command = [sys.executable, "-c", WATCH, function, json.dumps(payload)]

    shown = subprocess.run(command, capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines() == ["SourceError", "['PASSIVE']"]
