"""The four folders at the root are `edgeport.NAME`, by links in a checkout, and never anything else."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import edgeport

PACKAGE = Path(edgeport.__file__).parent
ROOT = PACKAGE.parent
FOLDERS = ("backends", "calibration", "devices", "exporter")


@pytest.mark.parametrize("name", FOLDERS)
def test_links_point_where_they_should(name):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("an installed wheel has no links")
    assert (PACKAGE / name).readlink() == Path("..", name)
    assert (PACKAGE / name / "__init__.py").samefile(ROOT / name / "__init__.py")


def test_setup_names_every_package_that_has_an_init():
    if not (ROOT / "setup.py").exists():
        pytest.skip("not a checkout")
    found = {
        ".".join(("edgeport", *path.parent.relative_to(PACKAGE).parts))
        for path in PACKAGE.rglob("__init__.py")
        if not set(path.relative_to(PACKAGE).parts) & set(FOLDERS)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **arguments: None)
        patch.chdir(ROOT)
        own = runpy.run_path("setup.py")["OWN"]
    assert set(own) == found
    assert list(own) == sorted(own)


def test_no_public_name_is_a_module_too():
    """Importing such a module would put it in the place of the function."""
    modules = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not set(edgeport.__all__) & modules


_IMPORT_ALL = """
import importlib, pkgutil, sys
import edgeport
for module in pkgutil.walk_packages(edgeport.__path__, "edgeport."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print([name for name in sys.argv[1:] if name in sys.modules])
print(sum(name.startswith("edgeport.") for name in sys.modules))
"""


def test_no_bare_name_is_imported_by_any_module():
    """A plain `import backends` would work from the root of a checkout, and take a user's own module elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *FOLDERS], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    bare, count = done.stdout.splitlines()
    assert bare == "[]"
    assert int(count) > 50


def test_no_bare_name_is_imported_by_these_tests():
    assert [name for name in FOLDERS if name in sys.modules] == []


def test_the_licence_is_the_whole_text():
    if not (ROOT / "LICENSE").exists():
        pytest.skip("not a checkout")
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


def test_every_folder_has_a_readme():
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    packages = {path.parent for name in (*FOLDERS, "edgeport") for path in (ROOT / name).rglob("__init__.py")}
    missing = [
        str(folder.relative_to(ROOT))
        for folder in (*packages, *(ROOT / name for name in ("tests", "benchmarks", "examples", "docs")))
        if not (folder / "README.md").exists() and not (folder / "index.md").exists()
    ]
    assert sorted(missing) == []
