"""Every exit code of the design, from real recipes through the command line; one store, so it is timed once."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

PLANTED = Path(__file__).parents[1] / "pipeline" / "planted"

RECIPE = """\
[model]
source = "net.onnx"

[data]
evaluation = "evaluation.npz"
target = "label"

[budget]
accuracy_drop = 0.02
{budget}

[search]
rounds = 6
screening_rounds = 3
duration_s = 0.1
warmup_s = 0.02

{targets}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("codes")
    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 4)).astype(np.float32)
    images = random.standard_normal((400, 8)).astype(np.float32)
    np.savez(folder / "evaluation.npz", images=images, label=np.argmax(images @ weight, axis=1))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weight"], ["scores"], name="product")],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "net.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLANTED))
        yield folder
    for name in ("planted", "planted_session"):
        sys.modules.pop(name, None)


def target(backend: str, precision: str = "fp32", name: str = "") -> str:
    named = f'name = "{name}"\n' if name else ""
    return f'[[target]]\n{named}backend = "planted:{backend}"\nprecisions = ["{precision}"]\n'


@dataclass(frozen=True, kw_only=True)
class Case:
    code: int
    targets: str = target("base")
    budget: str = ""
    says: str = ""


CASES = {
    "float within budget": Case(code=0, says="planted:base fp32 ships"),
    "unloadable": Case(code=1, targets=target("unloadable"), says="Error DEPENDENCY_MISSING"),
    "mistyped": Case(code=2, budget='latncy = "5 ms"', says='did you mean "latency"?'),
    "over budget": Case(code=3, budget='latency = "p50 <= 20 us"', says="budget 20 us: "),
    "too few calls": Case(code=4, budget='latency = "p99.9 <= 1 s"', says="can't be told"),
    "not runnable": Case(code=4, targets=target("base", "bf16"), says="Nothing ships"),
    "wrong outputs": Case(code=5, targets=target("nan", "int8-dynamic"), says="NaN"),
    "one of two over budget": Case(
        code=3,
        targets=target("base", name="server") + target("base", name="board") + '[target.budget]\nsize = "1 B"\n',
        says="1 of 2 targets ship",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_end_has_its_code(edgeport: Callable[..., Any], folder: Path, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(budget=case.budget, targets=case.targets), encoding="utf-8")

    ran = edgeport("run", recipe, "-q", "--store", folder / "store", "-o", tmp_path / "out")

    assert case.says in " ".join((ran.out + ran.err).split())
    assert ran.code == case.code


def test_the_nearest_are_told_to_machines_too(edgeport: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    budget = 'latency = "p50 <= 20 us"\nsize = "1 GB"'
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(budget=budget, targets=target("base")), encoding="utf-8")

    ran = edgeport("run", recipe, "-q", "--json", "--store", folder / "store", "-o", tmp_path / "out")
    (near,) = json.loads(ran.out)["nearest"]

    assert near["name"] == "planted:base fp32"
    assert near["kept"] == ["accuracy drop", "size"]
    assert near["lacks"][0]["of"] == "p50"
    assert near["lacks"][0]["factor"] > 90
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nearest to shipping" in page
    assert near["lacks"][0]["text"] in page
