"""Reads a bundle and checks that it is what was written."""

from __future__ import annotations

import json
from pathlib import Path

from edgeport.bundle.measured import MEASURED, REPORT, measured_problems
from edgeport.contracts import Bundle, Manifest, digest_file, load_json
from edgeport.errors import ContractError, OutputError

__all__ = ["MANIFEST", "files_of", "load_bundle", "verify_bundle"]

MANIFEST = "manifest.json"
_LARGEST_MANIFEST_BYTES = 16 << 20


def load_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`; its files are not looked at, see `verify_bundle`.

    Raises:
        OutputError: There is no bundle.
        ContractError: Its manifest is damaged, or of another schema version.

    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_MANIFEST_BYTES:
        raise OutputError(
            asked=f"read the bundle {folder.name}",
            found=f"no {MANIFEST} in it, or none that can be one",
            fix="name the folder that `edgeport run` or `edgeport bundle` wrote",
        )
    data = path.read_bytes()
    _require_schema(folder, data)
    return Bundle(folder=folder, manifest=load_json(Manifest, data))


def _require_schema(folder: Path, data: bytes) -> None:
    try:
        found = json.loads(data)["schema_version"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return  # `load_json` says what is wrong
    needed = Manifest.schema_version
    if isinstance(found, int) and found != needed:
        older = found < needed
        raise ContractError(
            asked=f"read the bundle {folder.name} of schema version {needed}, which this release of Edgeport reads",
            found=f"schema version {found}, which {'an older' if older else 'a newer'} release wrote",
            fix="run the recipe again with this release, into another folder, or remove this bundle first"
            if older
            else "use the release that wrote it, or a newer one",
            details={"schema_version": found, "needed": needed},
        )


def verify_bundle(folder: Path) -> list[str]:
    """Everything that is wrong with a bundle, a sentence each; empty where it is as it was written.

    Every file must be there with its bytes, be a file of its own (no link), and be named in the manifest.
    """
    try:
        manifest = load_bundle(folder).manifest
    except (OutputError, ContractError) as error:
        return [f"{MANIFEST}: {error.found}"]
    problems = []
    for name, digest in sorted(manifest.files.items()):
        path = folder / name
        if not _inside(folder, name):
            problems.append(f"{name}: reaches outside the bundle, or is a link")
        elif not path.is_file():
            problems.append(f"{name}: missing")
        elif digest_file(path) != digest:
            problems.append(f"{name}: changed since the bundle was written")
    if f"artifact/{manifest.artifact.entry}" not in manifest.files:
        problems.append(f"{MANIFEST}: what is to be opened, {manifest.artifact.entry!r}, is no file of this bundle")
    problems += measured_problems(folder, digest_file(folder / MANIFEST))
    known = {*manifest.files, MANIFEST, MEASURED, REPORT}
    problems += [f"{name}: not of this bundle" for name in files_of(folder) if name not in known]
    return problems


def files_of(folder: Path) -> list[str]:
    """Relative paths ("a/b") of everything in a folder that is not a plain folder, sorted; links are not followed."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def _inside(folder: Path, name: str) -> bool:
    """No part of the path is a link, and it leads nowhere but down."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    here = folder
    for part in path.parts:
        here = here / part
        if here.is_symlink():
            return False
    return True
