"""Where models come from, and what is said where they don't."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource  # noqa: E402 (after the skip)
from edgeport.errors import SourceError, UnsafeFileError  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module, notes_on_source  # noqa: E402
from edgeport.exporter.silence import quiet  # noqa: E402

MODELS = """
import torch
from torch import nn


class SmallNet(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(3, width)

    def forward(self, x):
        return self.fc(x)


def build(width=4):
    return SmallNet(width)


def broken():
    return nn.Linear(2, "three")


def not_a_module():
    return {"weights": 1}


def random_everywhere():
    import random

    import numpy as np

    net = SmallNet()
    net.register_buffer("drawn", torch.tensor([random.random(), np.random.rand(), IMPORTED]))
    return net


IMPORTED = float(torch.rand(1))
NUMBER = 3
"""


@pytest.fixture
def models(tmp_path):
    """A folder with `own_models.py`, which no later test finds in sys.modules."""
    (tmp_path / "own_models.py").write_text(MODELS)
    (tmp_path / "half_models.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.py").write_text(MODELS)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("own_models", "half_models", "nets")):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["SmallNet", "build"])
def test_a_class_or_a_function_builds_the_model(models, name):
    path = list(sys.path)

    module = load_module(ModelSource(location=f"own_models:{name}", arguments={"width": 7}, search_path=models))

    assert module.fc.out_features == 7
    assert not module.training
    assert sys.path == path


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    location: str
    found: str
    fix: str
    arguments: dict[str, object] = field(default_factory=dict)


CASES = [
    Case(id="misspelt-attribute", location="own_models:biuld", found="no 'biuld'", fix="did you mean 'build'"),
    Case(id="unknown-attribute", location="own_models:zzz", found="no 'zzz'", fix="own_models.py"),
    Case(
        id="misspelt-module", location="own_modells:build", found="no module 'own_modells' in", fix="mean 'own_models'"
    ),
    Case(
        id="misspelt-scheme", location="torchvison:resnet18", found="no module 'torchvison'", fix="mean 'torchvision'"
    ),
    Case(id="misspelt-inside", location="nets.smal:build", found="no module 'nets.smal'", fix="mean 'nets.small'?"),
    Case(id="unknown-module", location="zzz:build", found="none that is installed", fix="beside the recipe"),
    Case(id="import-fails", location="half_models:build", found="half_models.py:1", fix="plain Python first"),
    Case(id="not-callable", location="own_models:NUMBER", found="a int, which can't be called", fix="class"),
    Case(id="not-a-module", location="own_models:not_a_module", found="a dict instead", fix="the module itself"),
    Case(id="factory-fails", location="own_models:broken", found="own_models.py:20", fix="plain Python first"),
    Case(
        id="wrong-argument",
        location="own_models:build",
        arguments={"wdith": 3},
        found="wdith",
        fix="its arguments are width",
    ),
    Case(id="a-file", location="own_models.py:build", found="a file where", fix="write own_models:build; a module"),
    Case(id="a-path", location="./nets/small.py:build", found="a file where", fix="write nets.small:build;"),
    Case(id="onnx", location="model.onnx", found="exported already", fix="calibrate"),
    Case(id="hugging-face", location="hf:no/such", found="local cache", fix="hf download no/such"),
    Case(id="no-form", location="something", found="no such form", fix="pkg.mod:factory"),
    Case(id="pt2-missing", location="missing.pt2", found="no file at", fix="check the path"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_is_wrong_is_said(case, models):
    with pytest.raises(SourceError) as caught:
        load_module(ModelSource(location=case.location, arguments=case.arguments, search_path=models))

    assert case.found in caught.value.found
    assert case.fix in caught.value.fix


def test_a_namesake_from_another_folder_is_not_used_silently(models, tmp_path_factory):
    load_module(ModelSource(location="own_models:build", search_path=models))
    other = tmp_path_factory.mktemp("other")
    (other / "own_models.py").write_text(MODELS)

    with pytest.raises(SourceError, match="another module 'own_models' is in use"):
        load_module(ModelSource(location="own_models:build", search_path=other))


def _forget_own_models():
    sys.modules.pop("own_models", None)


def test_random_weights_are_the_same_each_time_and_disturb_nobody(models):
    import random

    drawn, went_on = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (what older factories draw from)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 (the same)
        _forget_own_models()  # as in another process
        drawn.append(load_module(ModelSource(location="own_models:random_everywhere", search_path=models)))
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 (the same)
        went_on.append(torch.equal(before[0], after[0]) and before[1:] == after[1:])

    first, second = (module.state_dict() for module in drawn)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert went_on == [True, True]


@pytest.mark.parametrize(
    ("zoo", "location"), [("torchvision", "torchvision:squeezenet1_1"), ("timm", "timm:tinynet_e")], ids=["tv", "timm"]
)
def test_a_zoo_gives_the_same_random_weights_each_time_and_says_so(zoo, location):
    pytest.importorskip(zoo, reason=f"{zoo} is not installed")
    source = ModelSource(location=location)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(load_module(source).state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert notes_on_source(source)[0].startswith(f"The weights are random: {location}")


@pytest.mark.parametrize(
    "source",
    [
        ModelSource(location="torchvision:resnet18", weights=Path("r.safetensors")),
        ModelSource(location="timm:tinynet_e", arguments={"checkpoint_path": "t.safetensors"}),
        ModelSource(location="own_models:build"),
        ModelSource(location="m.pt2"),
    ],
    ids=["weights", "checkpoint-path", "factory", "pt2"],
)
def test_weights_that_may_be_trained_are_not_called_random(source):
    assert notes_on_source(source) == ()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"went to the network: {args} {kwargs}")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("zoo", "location"),
    [
        ("torchvision", "torchvision:squeezenet1_1"),
        ("torchvision", "torchvision:lraspp_mobilenet_v3_large"),
        ("timm", "timm:tinynet_e"),
    ],
    ids=["torchvision", "torchvision-with-backbone", "timm"],
)
def test_zoos_give_random_weights_without_the_network(zoo, location, no_network):
    pytest.importorskip(zoo, reason=f"{zoo} is not installed")

    module = load_module(ModelSource(location=location))

    assert not module.training


@pytest.mark.parametrize(
    ("location", "arguments", "text"),
    [
        ("torchvision:resnet81", {}, "did you mean resnet18"),
        ("timm:tinynet_ee", {}, "tinynet_e"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "download them yourself"),
        ("timm:tinynet_e", {"pretrained": True}, "download them yourself"),
    ],
    ids=["torchvision-name", "timm-name", "torchvision-weights", "timm-weights"],
)
def test_zoo_names_and_downloads_are_refused_with_a_hint(location, arguments, text):
    pytest.importorskip(location.partition(":")[0], reason="this zoo is not installed")

    with pytest.raises(SourceError) as caught:
        load_module(ModelSource(location=location, arguments=arguments))

    assert text in caught.value.fix


def _save_pt2(path):
    class Doubling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x) * 2 + x.shape[0]

    module = Doubling().eval()
    with quiet():
        program = torch.export.export(module, (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
    return module


def test_a_pt2_file_is_loaded_and_exported_with_its_modules(tmp_path, open_model):
    from edgeport.exporter.onnx_export import export_onnx

    original = _save_pt2(tmp_path / "m.pt2")
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)

    with quiet():
        module = load_module(ModelSource(location=str(tmp_path / "m.pt2")))
    result = export_onnx(module, {"x": x[:2]}, output=tmp_path / "m.onnx")

    assert "fc" in [each.module for each in result.modules]
    with open_model(result.model.path) as run, torch.no_grad():
        np.testing.assert_allclose(run({"x": x})["output"], original(torch.from_numpy(x)).numpy(), rtol=1e-5)


def _rewritten(path, change):
    """The archive with its graph's JSON changed."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change(data) if name.endswith("models/model.json") else data)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: data.replace(b"torch.ops.aten.linear.default", b"torch.os.system"), "a call to"),
        (lambda data: data.replace(b'"expr_str": "', b'"expr_str": "exec(chr(1))+'), "the size expression"),
        (lambda data: data.replace(b'"expr_str": "', b'"expr_str": "s.__class__+'), "the size expression"),
    ],
    ids=["call", "expression", "attribute"],
)
def test_a_pt2_file_that_would_run_code_is_refused(tmp_path, change, found):
    path = tmp_path / "m.pt2"
    _save_pt2(path)
    before = path.read_bytes()
    _rewritten(path, change)
    assert path.read_bytes() != before

    with pytest.raises(UnsafeFileError) as caught, quiet():
        load_module(ModelSource(location=str(path)))

    assert found in caught.value.found
    assert "nothing of it was executed" in caught.value.found


def test_a_damaged_pt2_file_is_refused(tmp_path):
    (tmp_path / "m.pt2").write_bytes(b"PK not a zip")

    with pytest.raises(SourceError, match="damaged or foreign"):
        load_module(ModelSource(location=str(tmp_path / "m.pt2")))
