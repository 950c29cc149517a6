"""Sample sets that do not fit: said about the samples, by name, before any long work."""

import json
import tracemalloc
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edgeport.contracts import DeviceFacts, Limits, ModelSource, TensorSpec, to_jsonable
from edgeport.contracts.recipe import SamplesFile, SamplesFunction
from edgeport.errors import RecipeError, SamplesError
from edgeport.pipeline.datasets.prepare import prepare_samples, require_fit
from edgeport.pipeline.datasets.prepare_worker import write_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.quantization.calibration import Calibrated, calibrate_model
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store

FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)
NOT_LOADED = ModelSource(location="net_that_is_never_loaded:create")


@pytest.fixture
def context_for(tmp_path):
    def make(recipe):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return RunContext(
            recipe=recipe,
            store=Store(tmp_path / "store"),
            device=None,
            facts=FACTS,
            clock=Clock(lambda _: None),
            scratch=scratch,
            limits=Limits(time_s=120, memory_bytes=4 << 30),
        )

    return make


@pytest.fixture
def recipe_with(make_recipe, tmp_path):
    """A recipe over an ONNX model (or another source) and the evaluation arrays that are given."""

    def make(source=None, inputs=(), output="", **arrays):
        np.savez(tmp_path / "evaluation.npz", **arrays)
        recipe = make_recipe("base")
        data = replace(recipe.data, evaluation=SamplesFile(path=tmp_path / "evaluation.npz"), output=output)
        if "target" not in arrays:
            data = replace(data, target="", metric="agreement")
        return replace(recipe, data=data, inputs=inputs, source=source or recipe.source)

    return make


def images(n=40, width=8, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((n, width)).astype(dtype)


def with_value(value):
    array = images()
    array[7, 0] = value
    return array


def spec(name, *rest):
    return TensorSpec(name=name, dtype="float32", shape=("batch", *rest))


@dataclass(frozen=True, kw_only=True)
class Fault:
    id: str
    arrays: dict
    problem: str
    says: str
    torch: bool = False
    inputs: tuple = field(default=())


FAULTS = [
    Fault(id="NaN", arrays={"images": with_value(np.nan)}, problem="nonfinite", says="NaN in sample 7 "),
    Fault(id="Inf", arrays={"images": with_value(np.inf)}, problem="nonfinite", says="Inf in sample 7 "),
    Fault(id="NaN for PyTorch", arrays={"images": with_value(np.nan)}, problem="nonfinite", says="NaN", torch=True),
    Fault(id="dtype", arrays={"images": images(dtype=np.float64)}, problem="dtype", says="found dtype float64"),
    Fault(id="name", arrays={"image": images()}, problem="name", says="did you mean 'images'"),
    Fault(id="shape", arrays={"images": images(width=9)}, problem="shape", says="preprocess the samples"),
    Fault(
        id="one array too many",
        arrays={"images": images(), "labels": np.zeros(40)},
        problem="name",
        says="nothing there takes 'labels'; leave out what is no input; the labels' array is named by",
    ),
    Fault(
        id="one of two inputs declared",
        arrays={"ids": images(), "mask": images()},
        inputs=(spec("ids", 8),),
        torch=True,
        problem="name",
        says=r"\[inputs\] declares 'ids'; nothing there takes 'mask'; declare \[inputs.mask\] too, or leave out",
    ),
    Fault(
        id="declared otherwise than the model",
        arrays={"images": images(width=9)},
        inputs=(spec("images", 9),),
        problem="shape",
        says=r"of shape \[batch, 8\]",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_evaluation_samples_that_do_not_fit_are_refused_at_once(recipe_with, context_for, tmp_path, fault):
    source = NOT_LOADED if fault.torch else None
    recipe = recipe_with(source=source, inputs=fault.inputs, **fault.arrays)
    with pytest.raises(SamplesError, match=fault.says) as caught:
        prepare_samples(context_for(recipe))
    assert caught.value.details["problem"] == fault.problem
    assert "evaluation samples" in caught.value.asked
    assert not list((tmp_path / "store").glob("samples/*.json"))


def test_calibration_samples_are_looked_at_before_the_export(recipe_with, context_for, tmp_path):
    np.savez(tmp_path / "calibration.npz", images=with_value(np.nan) + 1)
    recipe = recipe_with(source=NOT_LOADED, images=images())
    recipe = replace(recipe, data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "calibration.npz")))
    with pytest.raises(SamplesError, match="NaN in sample 7 ") as caught:
        prepare_samples(context_for(recipe))
    assert "calibration samples" in caught.value.asked


def function_recipe(recipe, folder, code):
    (folder / "sample_code.py").write_text("import numpy as np\n" + code)
    location = SamplesFunction(function="sample_code:give", search_path=folder)
    return replace(recipe, data=replace(recipe.data, evaluation=location, target=""))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        pytest.param("def give():\n    return []\n", "an empty set", id="empty"),
        pytest.param(
            "def give():\n    for n in (8, 9):\n        yield {'images': np.ones((2, n), np.float32)}\n",
            "pad or crop them",
            id="ragged",
        ),
        pytest.param(
            "def give():\n    yield {'images': np.random.rand(40, 8).astype(np.float32)}\n",
            "the same samples each time",
            id="random",
        ),
        pytest.param(
            "def give():\n    x = {'images': np.ones((2, 8), np.float32)}\n    yield x, np.ones(2)\n    yield x\n",
            "targets for 2 of 4 samples",
            id="targets for some",
        ),
        pytest.param(
            "def give():\n    x = {'images': np.ones((2, 8), np.float32)}\n    yield x, np.ones(2)\n"
            "    yield x, np.ones(2, int)\n",
            "dtype int64 after float64; give all samples of the evaluation set numbers or text of one dtype",
            id="labels of two dtypes",
        ),
        pytest.param("raise SystemExit(3)\n", "SystemExit", id="ends the process"),
    ],
)
def test_functions_that_give_no_set_are_refused(make_recipe, context_for, tmp_path, code, says):
    recipe = replace(function_recipe(make_recipe("base"), tmp_path, code), source=NOT_LOADED)
    with pytest.raises(Exception, match=says):
        prepare_samples(context_for(recipe))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        pytest.param({"images": np.full((40, 8), 0.5, np.float32)}, "Evaluation: input 'images' is 0.5", id="constant"),
        pytest.param(
            {"images": np.tile(np.arange(8, dtype=np.float32), (40, 1))},
            "Evaluation: input 'images' is the same in all 40 samples",
            id="all samples equal",
        ),
    ],
)
@pytest.mark.parametrize("source", [None, NOT_LOADED], ids=["onnx", "pytorch"])
def test_data_that_never_changes_is_said(recipe_with, context_for, arrays, says, source):
    assert says in " ".join(prepare_samples(context_for(recipe_with(source=source, **arrays))).warnings)


def test_a_calibration_that_never_changes_is_said_with_the_ranges(recipe_with, context_for, tmp_path):
    np.savez(tmp_path / "calibration.npz", images=np.tile(np.arange(8, dtype=np.float32), (40, 1)))
    recipe = recipe_with(images=images())
    recipe = replace(
        recipe,
        data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "calibration.npz")),
        targets=(replace(recipe.targets[0], precisions=("int8",)),),
    )
    context = context_for(recipe)
    samples = prepare_samples(context)
    notes = calibrate_model(context, prepare_model(context, samples).model, samples, {}).notes
    assert "Calibration: input 'images' is the same in all 40 samples" in notes
    assert notes[-1] == "Ranges come from 40 calibration samples."


def test_nothing_is_said_of_ranges_where_nothing_was_calibrated(recipe_with, context_for, tmp_path):
    np.savez(tmp_path / "calibration.npz", images=images() + 1)
    recipe = recipe_with(images=images())
    recipe = replace(recipe, data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "calibration.npz")))
    context = context_for(recipe)
    samples = prepare_samples(context)
    assert calibrate_model(context, prepare_model(context, samples).model, samples, {}) == Calibrated()


def test_an_output_that_is_not_there_is_found_before_the_samples_are_read(recipe_with, context_for):
    recipe = recipe_with(images=with_value(np.nan), output="score")
    with pytest.raises(RecipeError, match="did you mean 'scores'"):
        prepare_samples(context_for(recipe))


@pytest.mark.parametrize("metric", ["top1", "agreement"])
@pytest.mark.parametrize(
    ("name", "says"),
    [("targets", "did you mean 'targets'"), ("y", "name the labels' array, or leave target out")],
)
def test_labels_that_are_named_and_not_there_are_an_error_at_once(recipe_with, context_for, metric, name, says):
    recipe = recipe_with(source=NOT_LOADED, images=images(), **{name: np.zeros(40)})
    recipe = replace(recipe, data=replace(recipe.data, target="target", metric=metric))
    with pytest.raises(RecipeError, match=says) as caught:
        prepare_samples(context_for(recipe))
    assert repr("images") in caught.value.found


def test_a_metric_that_needs_labels_is_an_error_at_once_where_a_function_gives_none(make_recipe, context_for, tmp_path):
    code = "def give():\n    yield {'images': np.ones((2, 8), np.float32)}\n"
    recipe = replace(function_recipe(make_recipe("base"), tmp_path, code), source=NOT_LOADED)
    with pytest.raises(RecipeError, match=r"yield \(inputs, labels\), or take metric = .agreement."):
        prepare_samples(context_for(recipe))


def test_a_calibration_set_needs_no_labels(recipe_with, context_for, tmp_path):
    np.savez(tmp_path / "calibration.npz", images=images() + 1)
    recipe = recipe_with(images=images(), target=np.zeros(40, np.int64))
    recipe = replace(recipe, data=replace(recipe.data, calibration=SamplesFile(path=tmp_path / "calibration.npz")))
    assert prepare_samples(context_for(recipe)).calibration_count == 40


FORWARD = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, images, mask):
        return {"scores": self.layer(images) * mask}
"""


@dataclass(frozen=True, kw_only=True)
class TorchFault:
    id: str
    arrays: dict
    says: str
    error: type = SamplesError
    output: str = ""


TORCH_FAULTS = [
    TorchFault(
        id="dtype",
        arrays={"images": images(dtype=np.float64), "mask": images(width=4)},
        says="convert 'images' to the model's own float32",
    ),
    TorchFault(
        id="shape", arrays={"images": images(width=9), "mask": images(width=4)}, says="PyTorch alone, before any export"
    ),
    TorchFault(
        id="name",
        arrays={"pixels": images(), "alpha": images(width=4)},
        says="has no .pixels., .alpha.; name the arrays images, mask",
    ),
    TorchFault(
        id="output",
        arrays={"images": images(), "mask": images(width=4)},
        says="did you mean 'scores'",
        error=RecipeError,
        output="scoers",
    ),
]


@pytest.mark.parametrize("fault", TORCH_FAULTS, ids=lambda fault: fault.id)
def test_what_pytorch_does_not_take_is_an_error_about_the_samples(recipe_with, context_for, tmp_path, fault):
    pytest.importorskip("torch", reason="it is PyTorch that is fed")
    (tmp_path / "fed_net.py").write_text(FORWARD)
    source = ModelSource(location="fed_net:Net", search_path=tmp_path)
    context = context_for(recipe_with(source=source, output=fault.output, **fault.arrays))
    samples = prepare_samples(context)
    with pytest.raises(fault.error, match=fault.says):
        prepare_model(context, samples)
    assert not list((tmp_path / "store").glob("verify/*.json"))


def test_an_exported_model_is_compared_with_the_samples(recipe_with, context_for):
    from edgeport.contracts import OnnxModel

    samples = prepare_samples(context_for(recipe_with(source=NOT_LOADED, images=images())))
    model = OnnxModel(path=None, inputs=(spec("pixels", 8),), outputs=(), opset=20, digest="d")
    with pytest.raises(SamplesError, match="feed input 'images'"):
        require_fit(model, samples)


def test_inputs_of_awkward_names_come_through(recipe_with, context_for, tmp_path):
    (tmp_path / "sample_code.py").write_text(
        "import numpy as np\n"
        "def give():\n"
        "    for n in range(3):\n"
        "        yield {'file': np.full((2, 3), n, np.float32), 'a/b': np.full((2,), n, np.int64)}, np.full(2, n)\n"
    )
    location = SamplesFunction(function="sample_code:give", search_path=tmp_path)
    recipe = recipe_with(source=NOT_LOADED, images=images())
    recipe = replace(recipe, data=replace(recipe.data, evaluation=location))
    samples = prepare_samples(context_for(recipe))
    with np.load(samples.feeds, allow_pickle=False) as file:
        assert file["file"].tolist() == [[float(n // 2)] * 3 for n in range(6)]
        assert file["a/b"].tolist() == [n // 2 for n in range(6)]
        assert file.files == ["file", "a/b"], "in the order in which the model is fed"
    with np.load(samples.example, allow_pickle=False) as file:
        assert file["file"].shape == (2, 3)
    assert np.load(samples.target).tolist() == [n // 2 for n in range(6)]


def test_memory_is_that_of_a_batch_not_of_the_set(tmp_path, monkeypatch):
    (tmp_path / "many_samples.py").write_text(
        "import numpy as np\n"
        "def give():\n"
        "    for n in range(48):\n"
        "        yield {'x': np.full((1, 1 << 18), n, np.float32)}, np.ones((1, 1 << 17), np.float32) * n\n"
    )
    payload = {
        "evaluation": to_jsonable(SamplesFunction(function="many_samples:give", search_path=tmp_path)),
        "calibration": None,
        "target": "",
        "inputs": [],
        "model_inputs": [],
        "classes": [],
        "metric": "agreement",
        "example": 2,
        "folder": str(tmp_path),
    }
    tracemalloc.start()
    try:
        write_samples(payload)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert json.loads((tmp_path / "facts.json").read_text())["count"] == 48
    assert peak < 16 << 20, "the set has 72 MiB"
    with np.load(tmp_path / "feeds.npz") as file:
        assert file["x"][:, 0].tolist() == list(range(48))


def test_training_samples_are_apart_from_the_evaluation(recipe_with, context_for, tmp_path):
    recipe = recipe_with(images=images(40))
    np.savez(tmp_path / "training.npz", images=np.concatenate([images(60)[40:], images(40)[:3]]))
    recipe = replace(recipe, data=replace(recipe.data, training=SamplesFile(path=tmp_path / "training.npz")))
    with pytest.raises(SamplesError, match="3 of 40 evaluation samples in the training set too") as raised:
        prepare_samples(context_for(recipe))
    assert raised.value.asked.startswith("learn from one set")

    np.savez(tmp_path / "training.npz", images=images(60)[40:])
    found = prepare_samples(context_for(recipe))
    assert found.learned_from == (found.training_fingerprint, 20)
    assert found.calibration_count == 0
