"""A bundle's sample is run in a child, by installed code only, and its outputs are compared with the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport import api
from edgeport.bundle import BundleContents, run_bundle, write_bundle
from edgeport.cli.app import run as command_line
from edgeport.contracts import Limits, Outcome, Precision

SHORT = Limits(time_s=20.0)


@dataclass(frozen=True, kw_only=True)
class Case:
    session: Callable[[str], str] = str
    outcome: Outcome
    says: str
    limits: Limits = SHORT


CASES = {
    "as recorded": Case(outcome=Outcome.PASS, says="equal to the recorded ones"),
    "other outputs": Case(
        session=lambda text: text.replace("self.x * self.factor", "self.x * self.factor + 2"),
        outcome=Outcome.FAIL,
        says="0.14 of the largest recorded one away; 0.05 is allowed",
    ),
    "NaN": Case(
        session=lambda text: text.replace("self.x * self.factor", "self.x * np.nan"), outcome=Outcome.FAIL, says="inf"
    ),
    "crash": Case(
        session=lambda text: text.replace(
            "def run(self):", "def run(self):\n        import ctypes; ctypes.string_at(0)"
        ),
        outcome=Outcome.FAIL,
        says="does not run: ",
    ),
    "hang": Case(
        session=lambda text: text.replace("def run(self):", "def run(self):\n        while True: pass"),
        outcome=Outcome.FAIL,
        says="does not run: ",
        limits=Limits(time_s=3.0),
    ),
    "no runtime": Case(
        session=lambda text: "import no_such_runtime\n" + text,
        outcome=Outcome.UNMEASURED,
        says="No module named 'no_such_runtime'; pip install -r bundle/requirements.txt",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_the_sample(contents: BundleContents, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    session = tmp_path / "modules" / "doubling_session.py"
    session.write_text(case.session(session.read_text()))
    folder = write_bundle(contents, tmp_path / "bundle").folder
    found = run_bundle(folder, limits=case.limits)
    assert found.outcome is case.outcome
    assert case.says in found.reason
    assert api.verify_bundle(folder, run=False).problems == (), "running it leaves nothing behind"


def test_code_that_is_not_installed_runs_only_where_it_is_trusted(contents: BundleContents, tmp_path: Path) -> None:
    session = tmp_path / "modules" / "doubling_session.py"
    mark = tmp_path / "was-run"
    session.write_text(f"open({str(mark)!r}, 'w').close()\n" + session.read_text())
    folder = write_bundle(contents, tmp_path / "bundle").folder
    session.write_text("# another release of it")
    mark.unlink(missing_ok=True)

    found = run_bundle(folder, limits=SHORT)
    assert found.outcome is Outcome.UNMEASURED
    assert "--trust-code" in found.reason
    assert not mark.exists()

    assert run_bundle(folder, limits=SHORT, trust_code=True).outcome is Outcome.PASS
    assert mark.exists()


def test_an_engine_is_code(contents: BundleContents, tmp_path: Path) -> None:
    (contents.artifact.folder / "net.engine").write_bytes(b"engine")
    artifact = replace(contents.artifact, entry="net.engine")
    folder = write_bundle(
        replace(contents, candidate=replace(contents.candidate, artifact=artifact)), tmp_path / "bundle"
    ).folder
    assert run_bundle(folder, limits=SHORT).outcome is Outcome.UNMEASURED


def test_data_outside_of_the_bundle_is_refused_before_a_runtime_opens_it(
    contents: BundleContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "real"
    source.mkdir()
    onnx.save(_doubling(), source / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(source / "model.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../../secret"
    (source / "model.onnx").write_bytes(model.SerializeToString())
    artifact = replace(
        contents.artifact,
        folder=source,
        entry="model.onnx",
        session="edgeport.backends.onnxruntime.session",
        settings={},
        precision=Precision.FP32,
    )
    folder = write_bundle(
        replace(contents, candidate=replace(contents.candidate, artifact=artifact)), tmp_path / "bundle"
    ).folder
    monkeypatch.setattr("edgeport.isolation.run_isolated", lambda *_, **__: pytest.fail("it was opened"))
    found = run_bundle(folder, limits=SHORT)
    assert found.outcome is Outcome.FAIL
    assert "../../secret" in found.reason


def _doubling() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["scores"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.full(3, 2, np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_tampered_bundle_is_never_run(contents: BundleContents, tmp_path: Path) -> None:
    folder = write_bundle(contents, tmp_path / "bundle").folder
    (folder / "session.py").write_text("raise SystemExit('was run')")
    found = api.verify_bundle(folder, trust_code=True)
    assert found.problems == ("session.py: changed since the bundle was written",)
    assert found.reproduced is None


@pytest.mark.parametrize(
    ("change", "arguments", "code"),
    [
        pytest.param("", [], 0, id="as-written"),
        pytest.param("wrong", [], 5, id="other-outputs"),
        pytest.param("wrong", ["--files-only"], 0, id="files-only"),
        pytest.param("foreign", [], 4, id="foreign-code"),
        pytest.param("foreign", ["--trust-code"], 0, id="trusted-code"),
        pytest.param("tampered", [], 5, id="tampered"),
    ],
)
def test_the_command_ends_with_its_code(
    contents: BundleContents,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    arguments: list[str],
    code: int,
) -> None:
    wrong = {"scores": contents.expected["scores"] + 2}
    bundle = write_bundle(replace(contents, expected=wrong) if change == "wrong" else contents, tmp_path / "bundle")
    if change == "foreign":
        (tmp_path / "modules" / "doubling_session.py").write_text("# another")
    if change == "tampered":
        (bundle.folder / "run.py").write_text("")
    assert command_line(["bundle", "verify", str(bundle.folder), "--json", *arguments]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is (code != 5)
    assert told["identity"] == bundle.identity
