"""A second run is never answered from the store when something that the result rests on has changed."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.contracts import DeviceFacts, Limits, ModelSource, Precision
from edgeport.contracts.recipe import SamplesFunction, Target
from edgeport.devices.local import LocalDevice
from edgeport.errors import BackendError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.benchmarking.experiment import Arm, time_arms
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.input_tracking import _Recorder, run_recorded, session_state, states_of
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.evaluation.evaluate import Reference, validate_candidates
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.pipeline.source_model.verification import verify_prepared
from edgeport.store import Store

PLANTED = Path(__file__).parent / "planted"
FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    """Though somebody may edit the code while these tests run."""
    monkeypatch.setattr("edgeport.store.code_version", lambda: "1")


@pytest.fixture
def context_for(tmp_path):
    """Makes the context of another run on the same store."""
    made = []

    def make(recipe, device=None):
        made.append(recipe)
        scratch = tmp_path / f"scratch-{len(made)}"
        scratch.mkdir()
        return RunContext(
            recipe=recipe,
            store=Store(tmp_path / "store"),
            device=device or LocalDevice(tmp_path / "device"),
            facts=FACTS,
            clock=Clock(lambda _: None),
            scratch=scratch,
            limits=Limits(time_s=120, memory_bytes=4 << 30),
        )

    return make


def entries(tmp_path, step):
    return len(list((tmp_path / "store" / step).glob("*.json")))


USER_CODE = {
    "net/__init__.py": "",
    "net/model.py": """
import json, os, pathlib, sqlite3
from net.deep.layers import width
import helper_elsewhere
from importlib import metadata
here = pathlib.Path(__file__).parent
try:
    from net.tuned import scale
except ImportError:
    scale = 0
try:
    import helper_optional
except ImportError:
    helper_optional = None
distributions = len(list(metadata.distributions()))

def answer(payload):
    from safetensors.numpy import load_file
    from safetensors import safe_open
    with safe_open(str(here / "w.safetensors"), framework="np") as file:
        weights = file.get_tensor("w").tolist()
    optional = here / "override.txt"
    try:
        override = optional.read_text()
    except FileNotFoundError:
        override = ""
    cache = here / "cache.json"
    if not cache.exists():
        cache.write_text("[]")
    json.loads(cache.read_text())
    products = here / "products"
    products.mkdir(exist_ok=True)
    (products / "text").write_text("made")
    assert (products / "text").exists() and os.listdir(products)
    looks = [os.path.exists(here / "flag.txt"), os.path.isdir(here / "extra"), os.access(here / "key", os.R_OK)]
    value = [scale, helper_optional is not None, looks]
    value += [width, helper_elsewhere.value, json.loads((here / "data.json").read_text()), override,
             sorted(os.listdir(here / "images")), weights, open("relative.txt").read()]
    pathlib.Path(payload["folder"], "value.json").write_text(json.dumps(value))
    return {}
""",
    "net/deep/__init__.py": "",
    "net/deep/layers.py": "width = 1\n",
    "net/data.json": "[1]",
    "net/images/a.png": "a",
    "elsewhere/helper_elsewhere.py": "value = 1\n",
    "relative.txt": "here",
    "other/relative.txt": "here",
}


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def save_weights(path, value):
    from safetensors.numpy import save_file

    save_file({"w": np.full(3, value, np.float32)}, path)


class Project:
    """User's code with all kinds of dependencies, and the step of a run that calls it."""

    def __init__(self, folder, store):
        self.folder, self.store, self.built = folder, store, 0
        for name, text in USER_CODE.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        save_weights(folder / "net" / "w.safetensors", 1)

    def value(self):
        scratch = self.folder / "scratch"
        context = RunContext(
            recipe=None, store=self.store, device=None, facts=FACTS, clock=None, scratch=scratch, limits=Limits()
        )

        def build(folder):
            self.built += 1
            return run_recorded(context, "net.model:answer", {"folder": str(folder)}, asked="answer")[1]

        return json.loads((self.store.get_or_build_watched("export", 1, build, states_of) / "value.json").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "elsewhere"))
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        project = Project(folder, Store(tmp_path_factory.mktemp("store")))
        project.value()
        yield project


CHANGES = {
    "a module of a subpackage": lambda folder: (folder / "net/deep/layers.py").write_text("width = 2\n"),
    "an empty package file": lambda folder: (folder / "net/deep/__init__.py").write_text("x = 1\n"),
    "a module elsewhere": lambda folder: (folder / "elsewhere/helper_elsewhere.py").write_text("value = 2\n"),
    "a data file": lambda folder: (folder / "net/data.json").write_text("[2]"),
    "a file in a listed folder": lambda folder: (folder / "net/images/b.png").write_text("b"),
    "a file that was missing": lambda folder: (folder / "net/override.txt").write_text("now"),
    "a file of safetensors": lambda folder: save_weights(folder / "net/w.safetensors", 2),
    "a relative file": lambda folder: (folder / "relative.txt").write_text("there"),
    "a file that is gone": lambda folder: (folder / "net/override.txt").unlink(),
    "a module that did not import": lambda folder: (folder / "net/tuned.py").write_text("scale = 2\n"),
    "a module that is gone": lambda folder: (folder / "net/tuned.py").unlink(),
    "a package that did not import": lambda folder: write(folder / "net/tuned/__init__.py", "scale = 3\n"),
    "a module that was nowhere": lambda folder: (folder / "elsewhere/helper_optional.py").write_text(""),
    "a module before another one": lambda folder: (folder / "helper_elsewhere.py").write_text("value = 3\n"),
    "a file whose existence counts": lambda folder: (folder / "net/flag.txt").touch(),
    "a folder whose existence counts": lambda folder: (folder / "net/extra").mkdir(),
    "such a file that is gone": lambda folder: (folder / "net/flag.txt").unlink(),
    "a file that may be opened": lambda folder: (folder / "net/key").touch(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_users_code_read_is_noticed(project, name):
    project.value()
    before = project.built
    assert project.value() == project.value()
    assert project.built == before, "unchanged, yet built again"
    CHANGES[name](project.folder)
    project.value()
    assert project.built == before + 1
    project.value()
    assert project.built == before + 1, "answered from the store after that"


@pytest.mark.parametrize("where", ["", "net", "elsewhere"])
def test_a_file_that_nobody_asks_for_is_no_input(project, where):
    project.value()
    before = project.built
    (project.folder / where / "note.txt").touch()
    project.value()
    assert project.built == before


def test_folders_in_memory_are_noted_as_others_are(project, monkeypatch):
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("this system has no folder in memory")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        shown = Path(folder) / "data.json"
        shown.write_text("[1]")
        recorder = _Recorder([])
        recorder.read(str(shown))
        recorder.read("/dev/null")
        assert [name for name in recorder.found() if name.startswith("file ")] == [f"file {shown}"]


def test_an_old_state_that_comes_back_finds_its_old_entry(project):
    first, built = project.value(), project.built
    data = project.folder / "net/data.json"
    kept = data.read_text()
    data.write_text("[77]")
    assert project.value() != first
    data.write_text(kept)
    assert project.value() == first
    assert project.built == built + 1


def test_another_version_of_a_used_package_is_noticed(project, monkeypatch):
    project.value()
    before = project.built
    real = __import__("importlib.metadata").metadata.version
    monkeypatch.setattr(
        "edgeport.pipeline.engine.input_tracking.metadata.version",
        lambda name: "99" if name == "safetensors" else real(name),
    )
    project.value()
    assert project.built == before + 1


def test_neither_libraries_nor_our_own_files_nor_products_are_noted(project):
    seen = {}
    context = RunContext(
        recipe=None, store=project.store, device=None, facts=FACTS, clock=None, scratch=project.folder / "scratch",
        limits=Limits(),
    )  # fmt: skip
    (project.folder / "scratch").mkdir(exist_ok=True)
    (project.folder / "net" / "cache.json").unlink(missing_ok=True)
    for name in ("net/products", "net/tuned"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    for name in ("net/tuned.py", "elsewhere/helper_optional.py", "helper_elsewhere.py"):  # of the changes above
        (project.folder / name).unlink(missing_ok=True)
    seen = run_recorded(context, "net.model:answer", {"folder": str(project.folder / "scratch")}, asked="answer")[1]
    files = sorted(name for name in seen if name.startswith(("file ", "folder ")))
    net = project.folder / "net"
    assert files == sorted(
        [
            *(f"file {net / name}" for name in ("__init__.py", "model.py", "deep/__init__.py", "deep/layers.py")),
            *(f"file {net / name}" for name in ("data.json", "override.txt", "w.safetensors")),
            f"file {project.folder / 'elsewhere' / 'helper_elsewhere.py'}",
            f"folder {net / 'images'}",
            "file relative.txt",
        ]
    )
    looks = {name: seen[name] for name in seen if name.startswith(("there ", "module ")) and str(net) in name}
    assert not [name for name in looks if "products" in name or "cache.json" in name]
    assert looks[f"there {net / 'flag.txt'}"] == "file" if (net / "flag.txt").exists() else "absent"
    assert f"module {net / 'tuned'}" in looks
    assert "package safetensors" in seen
    assert "python " in seen


NET = """
import torch
from parts.inner import scale

class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((8, 4), scale))

    def forward(self, images):
        return {"scores": images @ self.weight}
"""


def test_an_export_rests_on_all_that_the_factory_imports(make_recipe, context_for, tmp_path):
    pytest.importorskip("torch", reason="it is PyTorch that is exported")
    (tmp_path / "own" / "parts").mkdir(parents=True)
    (tmp_path / "own" / "keyed_net.py").write_text(NET)
    inner = tmp_path / "own" / "parts" / "inner.py"
    inner.write_text("scale = 1.0\n")
    recipe = replace(
        make_recipe("base"), source=ModelSource(location="keyed_net:Product", search_path=tmp_path / "own")
    )

    def digest():
        context = context_for(recipe)
        return prepare_model(context, prepare_samples(context)).model.digest, context.store.hits

    first, none = digest()
    assert none == 0
    assert digest() == (first, 4)  # samples, export, verify, judge
    inner.write_text("scale = 2.0\n")
    assert digest()[0] != first


def test_a_users_metric_is_part_of_the_verification(make_recipe, context_for, tmp_path):
    (tmp_path / "keyed_metric.py").write_text("from keyed_part import factor\ndef right(o, t):\n    return factor\n")
    (tmp_path / "keyed_part.py").write_text("factor = 0.5\n")
    recipe = make_recipe("base")
    recipe = replace(
        recipe,
        data=replace(recipe.data, metric="keyed_metric:right"),
        source=replace(recipe.source, search_path=tmp_path),
    )

    def verified():
        context = context_for(recipe)
        samples = prepare_samples(context)
        prepared = prepare_model(context, samples)
        return verify_prepared(context, prepared.model, samples, prepared.reference).pytorch, context.store.hits

    assert verified() == (0.5, 0)
    assert verified() == (0.5, 4)  # samples, adopt, judge, verify
    (tmp_path / "keyed_part.py").write_text("factor = 0.25\n")
    assert verified() == (0.25, 2)  # samples, adopt


@pytest.mark.parametrize("harm", ["raise SystemExit(3)", "import sys; sys.modules['numpy'] = None"])
def test_a_users_metric_never_runs_in_the_parent(arms, tmp_path, harm):
    import sys

    context, arm, _ = arms
    code = (
        f"import os\ndef right(o, t):\n    if os.getpid() == {os.getpid()}:\n        {harm}\n    return float(len(o))\n"
    )
    (tmp_path / "harmful_metric.py").write_text(code + f"if os.getpid() == {os.getpid()}:\n    {harm}\n")
    recipe = replace(
        context.recipe,
        data=replace(context.recipe.data, metric="harmful_metric:right"),
        source=replace(context.recipe.source, search_path=tmp_path),
    )
    context = replace(context, recipe=recipe)
    model = open_onnx(Path(recipe.source.location))
    built = build_candidates(context, model, {"planted:base": probe("planted:base", context)}, None, "")
    samples = prepare_samples(context)
    (row,) = validate_candidates(context, built, samples, Reference(outputs=arm.reference, name="float"))
    assert row.candidate.accuracy.value.estimate == 400
    assert "harmful_metric" not in sys.modules


def test_samples_of_a_function_are_what_they_are_now(make_recipe, context_for, tmp_path):
    (tmp_path / "keyed_samples.py").write_text(
        "import numpy as np, pathlib\n"
        "def evaluation():\n"
        "    value = float(pathlib.Path(__file__).with_name('value.txt').read_text())\n"
        "    yield {'images': np.arange(320, dtype=np.float32).reshape(40, 8) + value}, np.zeros(40, np.int64)\n"
    )
    (tmp_path / "value.txt").write_text("1")
    recipe = make_recipe("base")
    location = SamplesFunction(function="keyed_samples:evaluation", search_path=tmp_path)
    recipe = replace(recipe, data=replace(recipe.data, evaluation=location))
    first = prepare_samples(context_for(recipe)).fingerprint
    assert prepare_samples(context_for(recipe)).fingerprint == first
    (tmp_path / "value.txt").write_text("2")
    assert prepare_samples(context_for(recipe)).fingerprint != first


@pytest.fixture
def own_backend(tmp_path, monkeypatch):
    """Copies of the planted backend and its session that a test may change; a folder."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    source = (PLANTED / "planted.py").read_text().replace("BASE_NS = 2_000_000", "from own_times import BASE_NS")
    (folder / "own_planted.py").write_text(source.replace('"planted_session"', '"own_session"'))
    (folder / "own_times.py").write_text("BASE_NS = 100_000\n")
    shutil.copyfile(PLANTED / "planted_session.py", folder / "own_session.py")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_third_partys_backend_and_session_are_part_of_the_keys(make_recipe, context_for, own_backend, tmp_path):
    recipe = replace(make_recipe("base"), targets=(Target(backend="own_planted:base", precisions=(Precision.FP32,)),))

    def tried():
        context = context_for(recipe)
        samples = prepare_samples(context)
        prepared = prepare_model(context, samples)
        found = {"own_planted:base": probe("own_planted:base", context)}
        built = build_candidates(context, prepared.model, found, None, "")
        (one,) = validate_candidates(context, built, samples, prepared.reference)
        assert one.candidate.refusal is None
        return entries(tmp_path, "compile"), entries(tmp_path, "evaluate")

    assert tried() == (1, 1)
    assert tried() == (1, 1)
    (own_backend / "own_session.py").write_text((own_backend / "own_session.py").read_text() + "# faster\n")
    assert tried() == (1, 2)
    (own_backend / "own_times.py").write_text("BASE_NS = 200_000\n")
    assert tried() == (2, 3)


def test_a_session_is_known_by_its_source_and_its_packages(own_backend):
    assert session_state("edgeport.backends.onnxruntime.session") == {}
    state = session_state("own_session")
    assert set(state) == {"source", "package numpy"}
    (own_backend / "own_session.py").write_text("import numpy\n")
    assert session_state("own_session")["source"] != state["source"]


@pytest.fixture(scope="module")
def prepared_store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("prepared") / "store")


@pytest.fixture
def arms(make_recipe, context_for, prepared_store):
    """A context with a store that is empty, and one planted artifact with the outputs that it should give."""
    recipe = make_recipe("base", precisions=(Precision.FP32,))
    recipe = replace(recipe, search=replace(recipe.search, duration_s=0.02, warmup_s=0.0))
    context = context_for(recipe)
    before = replace(context, store=prepared_store)
    samples = prepare_samples(before)
    prepared = prepare_model(before, samples)
    (built,) = build_candidates(before, prepared.model, {"planted:base": probe("planted:base", before)}, None, "")
    arm = Arm(name="base", artifact=built.artifact, batch=1, reference=prepared.reference.outputs)
    return context, arm, samples.single


def test_two_feeds_files_on_one_store_give_two_timings(arms, tmp_path):
    context, arm, single = arms
    with np.load(single) as file:
        np.savez(tmp_path / "other.npz", images=file["images"] * 2)
    doubled = replace(arm, reference=tmp_path / "doubled.npz")
    with np.load(arm.reference) as file:
        np.savez(doubled.reference, scores=file["scores"] * 2)
    first = time_arms(context, [arm], single, stage="screen", rounds=1)
    second = time_arms(context, [arm], tmp_path / "other.npz", stage="screen", rounds=1)
    assert entries(tmp_path, "round") == 2
    assert first.measurements["base"].traces != second.measurements["base"].traces
    again = time_arms(context, [arm], single, stage="screen", rounds=1)
    assert again.measurements == first.measurements
    assert entries(tmp_path, "round") == 2
    time_arms(context, [doubled], single, stage="screen", rounds=1)
    assert entries(tmp_path, "round") == 3, "another reference is another timing too"


class Flaky:
    """A device that loses the first job."""

    def __init__(self, device):
        self._device, self.runs = device, 0

    def push(self, path):
        return self._device.push(path)

    def run(self, job):
        self.runs += 1
        if self.runs == 1:
            raise BackendError(asked="run it", found="a loose cable", fix="plug it in")
        return self._device.run(job)


def test_a_round_with_an_error_is_not_stored_and_is_measured_again(arms, tmp_path):
    context, arm, single = arms
    context = replace(context, device=Flaky(context.device))
    first = time_arms(context, [arm], single, stage="screen", rounds=1)
    assert first.errors["base"]["found"] == "a loose cable"
    assert entries(tmp_path, "round") == 0
    second = time_arms(context, [arm], single, stage="screen", rounds=1)
    assert not second.errors
    assert len(second.measurements["base"].traces) == 1
    assert entries(tmp_path, "round") == 1


def test_a_fault_of_ours_in_one_candidate_is_its_row(arms, monkeypatch):
    context, arm, _ = arms
    samples = prepare_samples(context)
    model = open_onnx(Path(context.recipe.source.location))
    found = {"planted:base": probe("planted:base", context)}
    (whole,) = build_candidates(context, model, found, None, "")

    def broken(*arguments, **options):
        raise ZeroDivisionError("a slip")

    with monkeypatch.context() as patch:
        patch.setattr("edgeport.pipeline.compilation.compile._built", broken)
        (row,) = build_candidates(context, model, found, None, "")
        assert "unexpected ZeroDivisionError: a slip" in row.refusal.reason
    with monkeypatch.context() as patch:
        patch.setattr("edgeport.pipeline.evaluation.evaluate.session_state", broken)
        (row,) = validate_candidates(context, [whole], samples, Reference(outputs=arm.reference, name="float"))
        assert "unexpected ZeroDivisionError: a slip" in row.candidate.refusal.reason
    with monkeypatch.context() as patch:
        patch.setattr("edgeport.pipeline.evaluation.evaluate._with_accuracy", broken)
        (row,) = validate_candidates(context, [whole], samples, Reference(outputs=arm.reference, name="float"))
        assert "unexpected ZeroDivisionError: a slip" in row.candidate.refusal.reason
