"""The agent as a device runs it: a plain Python, the archive, two files."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgeport.devices.agent
from edgeport.backends.artifacts import artifact_digest as host_digest
from edgeport.contracts import to_jsonable
from edgeport.devices.agent.digest import artifact_digest
from edgeport.devices.agent.sessions import packed_name
from edgeport.devices.agent_archive import build_agent
from edgeport.errors import DeviceError

SOURCES = sorted(Path(edgeport.devices.agent.__file__).parent.glob("*.py"))


def _run(agent, job, folder):
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(agent), str(folder / "job.json"), str(folder / "result.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    result = folder / "result.json"
    return ended, json.loads(result.read_text()) if result.exists() else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_agent_is_python_3_8_and_imports_nothing_else_of_ours(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    allowed = set(sys.stdlib_module_names) | {"numpy"}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            assert name.split(".")[0] in allowed or name.startswith("edgeport.devices.agent"), name


def test_a_job_runs_without_edgeport_being_installed(tmp_path, time_job):
    agent = build_agent(["edgeport.testing.fake_session"], tmp_path / "agents")
    job = to_jsonable(time_job()) | {"kind": "facts"}
    script = (
        "import runpy, sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)];"
        f"sys.argv = ['agent', 'job.json', 'result.json']; runpy.run_path({str(agent)!r}, run_name='__main__')"
    )
    (tmp_path / "job.json").write_text(json.dumps(job))
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "result.json").read_text())["value"]["cores"] >= 1


def test_an_error_is_a_result_with_the_runtimes_traceback(tmp_path, time_job):
    agent = build_agent(["edgeport.testing.fake_session"], tmp_path)
    ended, result = _run(agent, to_jsonable(time_job({"fail": "raise"})), tmp_path)
    assert ended.returncode == 1
    assert result["error"]["code"] == "BACKEND_FAILED"
    lines = result["error"]["details"]["traceback"]
    assert any(str(agent) in line and "fake_session" in line for line in lines)
    assert not any("site-packages/edgeport" in line for line in lines)


def test_wrong_arguments_are_a_usage_error(tmp_path):
    agent = build_agent([], tmp_path)
    ended = subprocess.run([sys.executable, str(agent)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "JOB.json RESULT.json" in ended.stderr


def test_the_digest_is_the_hosts(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, content in {"b.bin": b"2", "a.onnx": b"1" * 3_000_000, "deep/ä.txt": b"", "deep.x": b"3"}.items():
        (tmp_path / name).write_bytes(content)
    settings = {"threads": None, "x": [1, 2.5], "ü": "ß"}
    digest = artifact_digest(tmp_path, settings)
    assert digest == host_digest(tmp_path, settings)
    assert digest != artifact_digest(tmp_path, settings | {"threads": 1})
    (tmp_path / "deep.x").write_bytes(b"4")
    assert digest != artifact_digest(tmp_path, settings)


def test_equal_agents_are_equal_bytes(tmp_path):
    first = build_agent(["edgeport.testing.fake_session", "edgeport.testing.slow_import_session"], tmp_path / "a")
    second = build_agent(["edgeport.testing.slow_import_session", "edgeport.testing.fake_session"], tmp_path / "b")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert build_agent(["edgeport.testing.fake_session"], tmp_path / "a").name != first.name


def test_a_damaged_agent_is_built_again(tmp_path):
    agent = build_agent(["edgeport.testing.fake_session"], tmp_path)
    content = agent.read_bytes()
    agent.write_bytes(content[:-10])
    assert build_agent(["edgeport.testing.fake_session"], tmp_path).read_bytes() == content


def test_packing_does_not_import_the_session(tmp_path):
    sys.modules.pop("edgeport.testing.slow_import_session", None)
    build_agent(["edgeport.testing.slow_import_session"], tmp_path)
    assert "edgeport.testing.slow_import_session" not in sys.modules


@pytest.mark.parametrize("name", ["no_such.session", "sys", "edgeport.devices.nothing", ""])
def test_a_session_that_can_not_be_packed_is_named(tmp_path, name):
    with pytest.raises(DeviceError) as caught:
        build_agent([name], tmp_path)
    assert caught.value.asked == f"pack the session module {name}"


def test_the_archive_holds_the_agent_the_sessions_and_nothing_else(tmp_path):
    agent = build_agent(["edgeport.testing.fake_session"], tmp_path)
    names = set(zipfile.ZipFile(agent).namelist())
    own = {f"edgeport/devices/agent/{path.name}" for path in SOURCES}
    assert names == own | {
        "__main__.py",
        "edgeport/__init__.py",
        "edgeport/devices/__init__.py",
        f"{packed_name('edgeport.testing.fake_session')}.py",
    }


@pytest.mark.skipif(shutil.which("python3.8") is None or os.name == "nt", reason="no Python 3.8 with numpy here")
def test_the_agent_starts_on_python_3_8(tmp_path):
    probe = subprocess.run(["python3.8", "-c", "import numpy"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no Python 3.8 with numpy here")
    agent = build_agent([], tmp_path)
    ended = subprocess.run(["python3.8", str(agent)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
