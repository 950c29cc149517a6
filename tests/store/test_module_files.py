"""Source files of modules, found without running anything."""

import importlib.util
import sys
import zipfile

import pytest

from edgeport.module_files import module_file


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
