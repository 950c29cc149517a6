"""Zip files that would fill memory or disk, or mean different things to different readers. Nothing is unpacked."""

from __future__ import annotations

import io
import stat
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeport.archives import ArchiveLimits, check_archive
from edgeport.calibration.data import NpzSamples
from edgeport.errors import UnsafeFileError

SMALL = ArchiveLimits(entries=5, unpacked_bytes=4 << 20, ratio=100, free_bytes=64 << 10)


def _write(path: Path, entries: dict[str, bytes], *, packed: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _named(name: str) -> Callable[[Path], None]:
    return lambda path: _write(path, {name: b"x"})


def _link(path: Path) -> None:
    entry = zipfile.ZipInfo("weights")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")


def _doubled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", b"another")


def _overlapping(path: Path) -> None:
    """Two entries of the table of contents that share one body."""
    _write(path, {"a": b"1" * 100, "b": b"2" * 100})
    data = path.read_bytes()
    table = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", table + 4)
    path.write_bytes(data[: second + 42] + (0).to_bytes(4, "little") + data[second + 46 :])


def _encrypted(path: Path) -> None:
    _write(path, {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(bytes(data))


@dataclass(frozen=True, kw_only=True)
class Hostile:
    name: str
    make: Callable[[Path], None]
    found: str


HOSTILE = [
    Hostile(name="dots", make=_named("a/../../b"), found="lies outside"),
    Hostile(name="dots of another system", make=_named("a\\..\\..\\b"), found="lies outside"),
    Hostile(name="absolute", make=_named("/etc/x"), found="lies outside"),
    Hostile(name="drive", make=_named("C:x"), found="lies outside"),
    Hostile(name="link", make=_link, found="which is a link"),
    Hostile(name="one name twice", make=_doubled, found="two entries of the name 'x.npy'"),
    Hostile(name="overlapping", make=_overlapping, found="overlaps another"),
    Hostile(name="encrypted", make=_encrypted, found="encrypted"),
    Hostile(name="many", make=lambda path: _write(path, {str(i): b"" for i in range(6)}), found="6 entries"),
    Hostile(name="large", make=lambda path: _write(path, {"a": b"\1" * (5 << 20)}), found="more than 4194304"),
    Hostile(name="ratio", make=lambda path: _write(path, {"a": bytes(1 << 20)}, packed=True), found="100 times"),
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_archive_is_refused(hostile, tmp_path):
    hostile.make(tmp_path / "a.zip")
    with pytest.raises(UnsafeFileError, match="nothing was unpacked") as caught:
        check_archive(tmp_path / "a.zip", asked="load a.zip", paths=True, limits=SMALL)
    assert hostile.found in caught.value.found
    assert caught.value.asked == "load a.zip"


@pytest.mark.parametrize("name", ["a/b", "..a", "a..b/c", "a/...", "tensor: 0", "-rf"])
def test_a_plain_archive_passes(name, tmp_path):
    _write(tmp_path / "a.zip", {name: b"1" * 100, "other": b""})
    check_archive(tmp_path / "a.zip", asked="load a.zip", paths=True, limits=SMALL)


def test_what_is_small_may_be_packed_well(tmp_path):
    """Labels that are all zero, say."""
    _write(tmp_path / "a.zip", {"labels": bytes(60 << 10)}, packed=True)
    check_archive(tmp_path / "a.zip", asked="load a.zip", paths=True, limits=SMALL)


def test_names_of_arrays_are_no_paths(tmp_path):
    np.savez(tmp_path / "s.npz", **{"../x": np.ones((2, 3), np.float32), "/y": np.ones((2, 3), np.float32)})
    (sample,) = NpzSamples(tmp_path / "s.npz")
    assert set(sample.feeds) == {"../x", "/y"}


def _bomb(path: Path, name: str) -> None:
    """Some 300 MB of zeros in some 300 kB, with a header that tells the truth."""
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (75, 1 << 20)}
    np.lib.format.write_array_header_1_0(header, shape)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as file,
    ):
        file.write(header.getvalue())
        for _ in range(75):
            file.write(bytes(4 << 20))


def test_samples_that_unpack_to_far_more_are_refused_unread(tmp_path):
    _bomb(tmp_path / "s.npz", "x.npy")
    started = time.monotonic()
    with pytest.raises(UnsafeFileError, match="100 times as many"):
        NpzSamples(tmp_path / "s.npz")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
@pytest.mark.parametrize("hostile", [HOSTILE[0], HOSTILE[4], HOSTILE[5]], ids=lambda hostile: hostile.name)
def test_checkpoints_and_programs_are_looked_through_first(hostile, suffix, tmp_path):
    pytest.importorskip("torch", reason="the exporter needs the torch extra")
    from edgeport.exporter.checkpoint import read_state_dict
    from edgeport.exporter.loaders.pt2 import load_pt2

    path = tmp_path / f"model{suffix}"
    hostile.make(path)
    with pytest.raises(UnsafeFileError, match=hostile.found) as caught:
        (load_pt2 if suffix == ".pt2" else read_state_dict)(path)
    assert caught.value.code == "UNSAFE_FILE"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
