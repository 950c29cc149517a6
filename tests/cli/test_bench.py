"""`edgeport bench` and `compare` on artifacts whose speed is planted: the exit code is the verdict."""

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
            api.quantize(
                folder / "net.onnx",
                output=folder / name,
                options=api.QuantizeOptions(backend=f"planted:{name}", precision="int8-dynamic"),
            )
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
    assert found["reason"].startswith(("against faster: slower: ", "against faster: regressed: "))
    assert faster.code in (0, 4), faster.out  # 4 where the machine is so busy that latencies are in doubt
    assert json.loads(faster.out)["comparison"]["speedup"]["estimate"] > 1.0


def test_too_few_rounds_to_tell_end_with_4(against: Callable[..., Any]) -> None:
    ran = against("base", "faster", "--rounds", 3)

    found = json.loads(ran.out)
    assert (ran.code, found["outcome"]) == (4, "inconclusive")
    assert "from 3 pairs; 6 rounds or more are needed" in found["reason"]


def test_compare_ends_with_3_where_the_new_one_is_slower(edgeport: Any, artifacts: Path, tmp_path: Path) -> None:
    files = ("--junit", tmp_path / "found.xml", "--markdown", tmp_path / "found.md")
    options = ("--rounds", 6, "--duration", 0.05, "-q")

    slower = edgeport("compare", artifacts / "faster", artifacts / "base", *options, *files)

    assert slower.code == 3
    assert slower.out.splitlines()[-1] in ("SLOWER", "REGRESSED")
    assert "x the speed of the old one" in slower.out
    assert '<testcase classname="edgeport compare faster base" name="base: against faster"' in files[1].read_text()
    assert "**FAIL**" in files[3].read_text()


def test_a_budget_is_told_with_its_evidence(edgeport: Any, artifacts: Path, tmp_path: Path) -> None:
    ran = edgeport(
        "bench", artifacts / "base", "--rounds", 4, "--duration", 0.1, "--time", "4s", "-q",
        "--budget", "p50=1ms", "--budget", "size=1MB", "--save-baseline", tmp_path / "kept.json",
    )  # fmt: skip

    assert ran.code == 3, ran.out
    rows = {line.split("  ")[0]: line for line in ran.out.splitlines()}
    assert "FAIL" in rows["p50 at most 1 ms"]
    assert "calls over the limit" in " ".join(ran.out.split())  # wherever the cell is broken
    assert "PASS" in rows["size at most 1 MB"]
    assert ran.out.splitlines()[-1].startswith("FAIL: p50 at most 1 ms: ")
    assert any(line.startswith("p50 is known to ±") for line in ran.out.splitlines())
    assert (tmp_path / "kept.json").stat().st_size > 1000


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
