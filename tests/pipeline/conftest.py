"""A matrix product as ONNX, samples for it, and recipes over planted backends."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import Budget, ModelSource, Precision
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Search, Target

PLANTED = Path(__file__).parent / "planted"


@pytest.fixture(autouse=True, scope="session")
def _planted_on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLANTED))
        yield
    for name in ("planted", "planted_session"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def problem(tmp_path_factory):
    """Folder with `model.onnx` and `evaluation.npz`: 400 samples of 8 features in 4 classes, all told right."""
    folder = tmp_path_factory.mktemp("problem")
    write_problem(folder)
    return folder


def write_problem(folder):
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 4)).astype(np.float32)
    images = random.standard_normal((400, 8)).astype(np.float32)
    np.savez(folder / "evaluation.npz", images=images, target=np.argmax(images @ weight, axis=1))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weight"], ["scores"], name="product")],
        "problem",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")


def recipe_for(folder, *backends, budget=None, rounds=8, precisions=None):
    """A recipe that runs planted backends in float and in "dynamic int8"; the first one is the base."""
    wanted = precisions or (Precision.FP32, Precision.INT8_DYNAMIC)
    targets = [Target(backend=f"planted:{backends[0]}", precisions=wanted)]
    targets += [Target(backend=f"planted:{name}", precisions=(Precision.INT8_DYNAMIC,)) for name in backends[1:]]
    return Recipe(
        name="problem",
        source=ModelSource(location=str(folder / "model.onnx")),
        data=DataSpec(
            calibration=None,
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            target="target",
            metric="top1",
        ),
        targets=tuple(targets),
        budget=budget or Budget(accuracy_drop=0.02),
        search=Search(rounds=rounds, screening_rounds=6, duration_s=0.05, warmup_s=0.01),
    )


@pytest.fixture(scope="session")
def make_recipe(problem):
    """`make_recipe("base", "faster", rounds=8)` makes a recipe over planted backends."""
    return lambda *backends, **options: recipe_for(problem, *backends, **options)
