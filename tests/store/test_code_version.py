from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import edgeport

_SAY = "import sys; sys.path.insert(0, sys.argv[1]); from edgeport.code_version import code_version as c; print(c())"


def _version(folder: Path) -> str:
    command = [sys.executable, "-S", "-P", "-c", _SAY, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _copy(folder: Path) -> Path:
    """A package as small as it can be; contracts/serialise.py needs nothing but the standard library."""
    package = folder / "edgeport"
    source = Path(edgeport.__file__).parent
    for name in ("__init__.py", "errors.py", "code_version.py", "contracts/serialise.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes((source / name).read_bytes())
    (package / "contracts" / "__init__.py").write_text("")
    return folder


def test_a_change_in_any_source_file_changes_it(tmp_path):
    one, two = _copy(tmp_path / "one"), _copy(tmp_path / "two")
    assert _version(one) == _version(two)
    assert _version(one).startswith(f"{edgeport.__version__}+")
    changed = two / "edgeport" / "errors.py"
    changed.write_text(changed.read_text() + "# more\n")
    assert _version(one) != _version(two)


def test_linked_folders_count_and_other_files_do_not(tmp_path):
    folder = _copy(tmp_path / "one")
    before = _version(folder)
    (folder / "edgeport" / "notes.txt").write_text("no code")
    assert _version(folder) == before
    (folder / "backends").mkdir()
    (folder / "backends" / "code.py").write_text("x = 1\n")
    (folder / "edgeport" / "backends").symlink_to("../backends")
    linked = _version(folder)
    assert linked != before
    (folder / "backends" / "code.py").write_text("x = 2\n")
    assert _version(folder) not in (before, linked)
