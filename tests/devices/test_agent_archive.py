"""The agent, packed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeport.devices.agent_archive import build_agent
from edgeport.errors import DeviceError


def test_eight_that_pack_at_once_get_one_whole_archive(tmp_path):
    alone = build_agent(["edgeport.testing.fake_session"], tmp_path / "alone")
    start = threading.Barrier(8)

    def pack(_):
        start.wait()
        path = build_agent(["edgeport.testing.fake_session"], tmp_path / "together")
        return path, path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        packed = list(pool.map(pack, range(8)))
    assert packed == [(tmp_path / "together" / alone.name, alone.read_bytes())] * 8
    assert [path.name for path in (tmp_path / "together").iterdir()] == [alone.name]


def test_packages_around_a_session_are_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "explosive_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit(3)\n")
    (package / "session.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert build_agent(["explosive_package.session"], tmp_path / "agents").is_file()


def test_a_session_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DeviceError, match="no such module"):
        build_agent(["no_such_package.session"], tmp_path)
