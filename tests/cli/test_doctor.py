"""The doctor answers on any machine, whatever is missing or broken there."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeport import doctor
from edgeport.backends.registry import backend
from edgeport.cli.render_steps import draw_diagnosis
from edgeport.contracts import Capabilities, Precision, Support, to_jsonable
from edgeport.errors import BackendError, ChildCrash

CRASH = ChildCrash(asked="probe", found="the child died by signal 11 (SIGSEGV)", fix="reinstall the runtime")


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory: pytest.TempPathFactory) -> doctor.Diagnosis:
    return doctor.diagnose(store=tmp_path_factory.mktemp("store"))


def test_this_machine_is_described(diagnosis: doctor.Diagnosis) -> None:
    backends = {backend.backend: backend for backend in diagnosis.backends}

    assert backends["onnxruntime"].can_run
    assert backends["onnxruntime"].precisions[Precision.INT8].available
    assert diagnosis.device.cores >= 1
    assert {package.name for package in diagnosis.packages if package.version} >= {"onnx", "onnxruntime"}


def test_nothing_is_loaded_in_this_process(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys\nfrom pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    from edgeport.doctor import diagnose\n"
        f"    diagnose(store=Path({str(tmp_path)!r}))\n"
        "    print([name for name in ('torch', 'onnxruntime', 'openvino') if name in sys.modules])\n"
    )
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=True, timeout=120
    )

    assert ended.stdout == "[]\n"


def test_it_answers_where_every_runtime_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn: Any) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "_probed", lambda name: Capabilities(backend=name, reason="not installed"))
    monkeypatch.setattr(importlib.metadata, "version", missing)

    found = doctor.diagnose(store=tmp_path)
    text = drawn(lambda console: draw_diagnosis(console, found), width=140)

    assert not any(package.version for package in found.packages)
    assert any("PyTorch is missing" in problem for problem in found.problems)
    assert any("no runtime can run models here" in problem for problem in found.problems)
    assert 'pip install "edgeport[openvino]"' in text


def test_a_runtime_that_crashes_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise CRASH

    monkeypatch.setattr("edgeport.pipeline.compilation.probe.run_isolated", crash)

    found = doctor._probed("onnxruntime")

    assert not found.can_run
    assert "SIGSEGV" in found.reason


def test_a_backend_that_says_nothing_sensible_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.pipeline.compilation.probe.run_isolated", lambda *_, **__: {"capabilities": None})

    found = doctor._probed("odd")

    assert (found.installed, found.can_run) == (False, False)
    assert found.reason.startswith("what it says of itself is no Capabilities")


def test_a_device_that_is_listed_and_does_not_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError(asked="open it", found="no GPU", fix="none")

    listed = ("CUDAExecutionProvider", "CPUExecutionProvider")
    told = Capabilities(backend="onnxruntime", installed=True, can_run=True, devices=listed)
    known = [to_jsonable(one) for one in backend("onnxruntime").accelerators()]
    answer = {"capabilities": to_jsonable(told), "accelerators": known}
    monkeypatch.setattr("edgeport.pipeline.compilation.probe.run_isolated", lambda *_, **__: answer)
    monkeypatch.setattr("edgeport.pipeline.compilation.accelerators.run_isolated", fail)

    found = doctor._probed("onnxruntime")

    assert found.devices == ("CPUExecutionProvider",)
    assert found.unusable == {"CUDAExecutionProvider": "no GPU"}


def test_the_command_prints_json_and_fails_only_where_nothing_runs(
    edgeport: Any, diagnosis: doctor.Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setattr(doctor, "diagnose", lambda **_: diagnosis)
    ran = edgeport("doctor", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["edgeport"] == diagnosis.edgeport

    nothing = Capabilities(backend="b", precisions={Precision.BF16: Support(available=False, reason="no such CPU")})
    monkeypatch.setattr(doctor, "diagnose", lambda **_: replace(diagnosis, backends=(nothing,)))
    ran = edgeport("doctor", "-q")
    assert ran.code == 1
    assert "bf16: no such CPU" in ran.out


def test_forms_that_differ_in_their_block_alone_are_told_once(
    edgeport: Any, diagnosis: doctor.Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    yes, no = Support(available=True), Support(available=False, reason="no zero points")
    stored = [one for one in Precision if one.weight_form is not None]
    precisions = {one: no if str(one).startswith("u") else yes for one in stored}
    told = Capabilities(backend="b", installed=True, can_run=True, precisions=precisions)
    monkeypatch.setattr(doctor, "diagnose", lambda **_: replace(diagnosis, backends=(told,)))
    monkeypatch.setenv("COLUMNS", "300")  # no cell of the table is broken
    out = " ".join(edgeport("doctor", "-q").out.split())
    assert "int8-weights yes int4-weights-32/64/128 yes uint4-weights-32/64/128 no" in out
    assert out.count("no zero points") == 1
    assert "uint4-weights-32/64/128: no zero points" in out


def test_what_is_installed_and_can_not_be_used_is_told(
    edgeport: Any, diagnosis: doctor.Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    why = "that the package does not import: OSError: no library"
    told = Capabilities(backend="b", installed=True, can_run=True, unusable={"onnxruntime_ep_mine": why})
    monkeypatch.setattr(doctor, "diagnose", lambda **_: replace(diagnosis, backends=(told,)))
    out = " ".join(edgeport("doctor", "-q").out.split())
    assert f"b: onnxruntime_ep_mine can't be asked for: found {why}" in out
