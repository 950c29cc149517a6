"""Source files of modules, found without running anything."""

import importlib.util
import sys
import zipfile

import pytest

from edgeport.module_files import module_file, standalone_source


@pytest.fixture
def project(tmp_path):
    files = {
        "loud/__init__.py": "print('imported'); raise SystemExit(3)\n",
        "loud/inner/__init__.py": "import time; time.sleep(3600)\n",
        "loud/inner/leaf.py": "x = 1\n",
        "bare/leaf.py": "x = 1\n",
        "lone.py": "1 / 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lone", "lone.py"),
        ("loud", "loud/__init__.py"),
        ("loud.inner", "loud/inner/__init__.py"),
        ("loud.inner.leaf", "loud/inner/leaf.py"),
        ("bare.leaf", "bare/leaf.py"),
        ("bare", None),
        ("loud.missing", None),
        ("missing.leaf", None),
        ("lone.leaf", None),
        ("", None),
        ("sys", None),
    ],
)
@pytest.mark.parametrize("how", ["search path", "import path"])
def test_files_are_found_and_nothing_is_imported(project, monkeypatch, capsys, name, file, how):
    if how == "import path":
        monkeypatch.syspath_prepend(str(project))
    found = module_file(name, project if how == "search path" else None)
    assert found == (None if file is None else project / file)
    assert not {"loud", "lone", "bare"} & set(sys.modules)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["json", "json.decoder", "numpy.linalg", "edgeport.devices.local"])
def test_it_agrees_with_the_import_system(name):
    assert str(module_file(name)) == importlib.util.find_spec(name).origin


def test_the_search_path_comes_first_and_stays_out_of_the_import_path(project, monkeypatch):
    before = list(sys.path)
    (project / "json.py").write_text("")
    assert module_file("json", project) == project / "json.py"
    assert sys.path == before


def test_what_lies_in_an_archive_has_no_file(project, monkeypatch):
    with zipfile.ZipFile(project / "a.zip", "w") as archive:
        archive.writestr("zipped_module.py", "x = 1\n")
    monkeypatch.syspath_prepend(str(project / "a.zip"))
    assert module_file("zipped_module") is None


AFFINITY = "from edgeport.backends.session_support.affinity import keep_to\n"


def test_a_module_that_imports_nothing_of_ours_ships_as_it_is(tmp_path):
    source = '# nothing of edgeport.contracts\r\nimport numpy\n\x0c\n"\N{GREEK SMALL LETTER MU}"\n'.encode()
    (tmp_path / "session.py").write_bytes(source)
    assert standalone_source(tmp_path / "session.py") == source


def test_what_is_imported_of_ours_stands_in_place_of_the_import(tmp_path):
    file = tmp_path / "session.py"
    calls = "from edgeport.backends.session_support.concurrent_calls import map_ahead\n"
    file.write_text(f"from __future__ import annotations\n\n{AFFINITY}{calls}{AFFINITY}\nKEEP = keep_to\n")
    source = standalone_source(file)
    assert b"edgeport" not in source
    assert [source.count(part) for part in (b"def keep_to", b"def map_ahead", b"from __future__", b"__all__")] == [
        1,
        1,
        1,
        0,
    ]
    scope: dict[str, object] = {"__name__": "session"}
    exec(compile(source, "session.py", "exec"), scope)
    assert scope["KEEP"] is scope["keep_to"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("import edgeport.backends.artifacts\n", "line 1: not of the form", id="another form"),
        pytest.param("from edgeport.contracts import Artifact\n", "line 1: not of the form", id="a package"),
        pytest.param("from edgeport.no_such.module import name\n", "line 1: not of the form", id="no module"),
        pytest.param(AFFINITY.replace("keep_to", "keep_to as pin"), "line 1: not of the form", id="another name"),
        pytest.param(f"def inner():\n    {AFFINITY}", "an inner block", id="in a function"),
        pytest.param(f"{AFFINITY}def keep_to(): ...\n", "affinity.py defines keep_to", id="one name twice"),
        pytest.param(f"{AFFINITY}keep_to: int = (\n", "session.py: ", id="no Python"),
    ],
)
def test_what_can_not_ship_as_one_file_is_said(tmp_path, text, says):
    (tmp_path / "session.py").write_text(text)
    with pytest.raises(ValueError, match=says):
        standalone_source(tmp_path / "session.py")
