"""`edgeport bench` on artifacts whose speed is planted: the exit code is the verdict."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport import api
from edgeport.contracts import Change, Comparison, Interval, Outcome
from edgeport.pipeline.bench import _with_comparison

PLANTED = Path(__file__).parents[1] / "pipeline" / "planted"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with the artifacts `base` (2 ms a call) and `faster` (1.4 ms), and samples."""
    folder = tmp_path_factory.mktemp("artifacts")
    weight = np.ones((8, 4), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weight"], ["scores"], name="product")],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "samples.npz", images=np.ones((3, 8), np.float32), label=np.zeros(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLANTED))
        for name in ("base", "faster"):
            api.quantize(folder / "net.onnx", backend=f"planted:{name}", precision="int8-dynamic", output=folder / name)
        yield folder
    for name in ("planted", "planted_session"):
        sys.modules.pop(name, None)


@pytest.fixture
def against(edgeport: Any, artifacts: Path) -> Callable[..., Any]:
    def against(one: str, other: str, *options: object) -> Any:
        return edgeport(
            "bench", artifacts / one, "--against", artifacts / other, "--duration", 0.05, "--json", "-q", *options
        )

    return against


def test_what_is_slower_ends_with_3_and_what_is_faster_does_not(against: Callable[..., Any]) -> None:
    slower, faster = against("base", "faster", "--rounds", 6), against("faster", "base", "--rounds", 6)

    found = json.loads(slower.out)
    assert (slower.code, found["outcome"]) == (3, "fail")
    assert found["comparison"]["speedup"]["high"] < 1.0
    assert found["reason"].startswith(("slower: ", "regressed: "))
    assert faster.code in (0, 4), faster.out  # 4 where the machine is so busy that latencies are in doubt
    assert json.loads(faster.out)["comparison"]["speedup"]["estimate"] > 1.0


def test_too_few_rounds_to_tell_end_with_4(against: Callable[..., Any]) -> None:
    ran = against("base", "faster", "--rounds", 3)

    found = json.loads(ran.out)
    assert (ran.code, found["outcome"]) == (4, "inconclusive")
    assert "from 3 pairs; 6 rounds or more are needed" in found["reason"]


@pytest.mark.parametrize(
    ("outcome", "change", "expected"),
    [
        pytest.param(Outcome.PASS, Change.FASTER, Outcome.PASS, id="faster"),
        pytest.param(Outcome.PASS, Change.EQUIVALENT, Outcome.PASS, id="equal"),
        pytest.param(Outcome.PASS, Change.UNKNOWN, Outcome.INCONCLUSIVE, id="unknown"),
        pytest.param(Outcome.PASS, Change.SLOWER, Outcome.FAIL, id="slower"),
        pytest.param(Outcome.INCONCLUSIVE, Change.REGRESSED, Outcome.FAIL, id="slower-on-a-busy-machine"),
        pytest.param(Outcome.INCONCLUSIVE, Change.FASTER, Outcome.INCONCLUSIVE, id="faster-on-a-busy-machine"),
        pytest.param(Outcome.INVALID, Change.UNKNOWN, Outcome.INVALID, id="invalid"),
        pytest.param(Outcome.FAIL, Change.FASTER, Outcome.FAIL, id="faster-but-over-budget"),
    ],
)
def test_the_verdict_of_both(outcome: Outcome, change: Change, expected: Outcome) -> None:
    comparison = Comparison(speedup=Interval(low=0.9, estimate=1.0, high=1.1), change=change, pairs=10, delta=0.02)

    assert _with_comparison(outcome, "busy", comparison)[0] is expected


@pytest.mark.parametrize(
    ("arrays", "asked", "found"),
    [
        pytest.param(
            {"image": np.ones((3, 8), np.float32)}, "feed base from wrong.npz", "the arrays 'image'", id="name"
        ),
        pytest.param(
            {"images": np.ones((3, 9), np.float32)}, "feed input 'images' of shape", "shape [1, 9]", id="shape"
        ),
        pytest.param({"images": np.ones((3, 8))}, "feed input 'images' of dtype float32", "dtype float64", id="dtype"),
    ],
)
def test_samples_that_do_not_fit_are_told_once(
    edgeport: Any, artifacts: Path, tmp_path: Path, arrays: dict[str, Any], asked: str, found: str
) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)

    ran = edgeport("bench", artifacts / "base", "--samples", tmp_path / "wrong.npz", "--json", "-q")

    error = json.loads(ran.out)["error"]
    assert (ran.code, error["code"]) == (1, "SAMPLES_INVALID")
    assert asked in error["asked"]
    assert error["found"].startswith(found)
    assert "asked to" not in error["found"]
