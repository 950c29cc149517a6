from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.bundle import BundleContents, check_place, load_bundle, load_measured, verify_bundle, write_bundle
from edgeport.bundle.measured import write_measured
from edgeport.errors import ContractError, OutputError


def _flip(folder: Path) -> None:
    path = folder / "artifact" / "deep" / "factor.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lose(folder: Path) -> None:
    (folder / "run.py").unlink()


def _add(folder: Path) -> None:
    (folder / "artifact" / "plugin.so").write_bytes(b"\x7fELF")


def _link(folder: Path) -> None:
    path = folder / "run.py"
    path.rename(folder.parent / "elsewhere.py")
    path.symlink_to(folder.parent / "elsewhere.py")


def _link_folder(folder: Path) -> None:
    (folder / "artifact").rename(folder.parent / "elsewhere")
    (folder / "artifact").symlink_to(folder.parent / "elsewhere")


def _outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _damage(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def _drop_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _entry(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifact"]["entry"] = "../../../etc/passwd"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _lie(folder: Path) -> None:
    measured = json.loads((folder / "measured.json").read_text())
    measured["compile_ns"] = 1
    (folder / "measured.json").write_text(json.dumps(measured))


def _forget(folder: Path) -> None:
    (folder / "measured.json").unlink()


def _swap(folder: Path) -> None:
    measured = load_measured(folder)
    write_measured(replace(measured, identity="0" * 64), folder)


def _report(folder: Path) -> None:
    (folder / "report.html").write_text("<p>another</p>")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        pytest.param(_flip, "artifact/deep/factor.npy: changed", id="bit-flip"),
        pytest.param(_lose, "run.py: missing", id="lost"),
        pytest.param(_add, "artifact/plugin.so: not of this bundle", id="added"),
        pytest.param(_link, "run.py: reaches outside", id="link"),
        pytest.param(_link_folder, "artifact/deep/factor.npy: reaches outside", id="linked-folder"),
        pytest.param(_outside, "../secret: reaches outside", id="path-outside"),
        pytest.param(_damage, "manifest.json: damaged JSON", id="damaged-manifest"),
        pytest.param(_entry, "manifest.json: what is to be opened", id="entry-outside"),
        pytest.param(_lie, "measured.json: changed", id="changed-measurement"),
        pytest.param(_forget, "measured.json: no such file", id="no-measurement"),
        pytest.param(_swap, "measured.json: of another bundle", id="foreign-measurement"),
        pytest.param(_report, "report.html: not of this bundle", id="foreign-report"),
        pytest.param(_drop_manifest, "manifest.json: no manifest.json", id="no-manifest"),
    ],
)
def test_harm_is_named(contents: BundleContents, tmp_path: Path, harm: Callable[[Path], None], problem: str) -> None:
    folder = write_bundle(contents, tmp_path / "room" / "bundle").folder
    harm(folder)
    assert any(found.startswith(problem) for found in verify_bundle(folder)), verify_bundle(folder)


def test_loading_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no manifest\.json"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(ContractError, match="99"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("version", "release"), [pytest.param(1, "an older", id="older"), pytest.param(99, "a newer", id="newer")]
)
def test_a_bundle_of_another_schema_is_refused_by_its_number(
    contents: BundleContents, tmp_path: Path, version: int, release: str
) -> None:
    folder = write_bundle(contents, tmp_path / "bundle").folder
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))

    with pytest.raises(ContractError, match="this release of Edgeport reads") as caught:
        load_bundle(folder)
    assert caught.value.found == f"schema version {version}, which {release} release wrote"
    with pytest.raises(OutputError, match="remove that folder") as refused:
        check_place(folder)
    assert f"schema version {version}" in refused.value.found
    assert f"schema version {manifest['schema_version']}" in refused.value.asked
