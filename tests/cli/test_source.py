"""SOURCE as people write it: what stands in a Python file may be named by the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeport.cli.options import source_of
from edgeport.errors import UsageError
from edgeport.options.source import SourceOptions

TEXT = "def create():\n    return None\n\n\ndef _hidden():\n    return None\n"


def test_a_file_and_a_function_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path.resolve() / "here"
    (here / "nets").mkdir(parents=True)
    (here / "nets" / "net.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(here)

    for spelled in ("nets/net.py:create", "nets/net.py", str(here / "nets" / "net.py:create")):
        source = source_of(spelled, SourceOptions())
        assert (source.location, source.search_path) == ("nets.net:create", here)

    monkeypatch.chdir(tmp_path / "here" / "nets")
    assert source_of("net.py:create", SourceOptions()).location == "net:create"


def test_a_file_elsewhere_is_imported_from_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "net.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")

    source = source_of("../net.py", SourceOptions())

    assert (source.location, source.search_path) == ("net:create", tmp_path.resolve())


def test_a_file_below_a_folder_with_a_dot_is_imported_from_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "v1.2" / "net.py").write_text(TEXT, encoding="utf-8")
    (tmp_path / "my.net.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    source = source_of("v1.2/net.py:create", SourceOptions())

    assert (source.location, source.search_path) == ("net:create", tmp_path.resolve() / "v1.2")
    with pytest.raises(UsageError, match=r"a dot in 'my.net', .*; rename it"):
        source_of("my.net.py:create", SourceOptions())


def test_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text("\ndef create(:\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=r"no Python: invalid syntax \(net.py, line 2\)"):
        source_of("net.py", SourceOptions())


def test_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match="no such file"):
        source_of("net.py:create", SourceOptions())
