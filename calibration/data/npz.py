"""Samples from a `.npz` file, read a batch at a time."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgeport.archives import check_archive
from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.rebatch import check_batch_size
from edgeport.contracts import Array, Sample
from edgeport.errors import SamplesError

__all__ = ["NpzSamples", "read_header"]


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One array in the file, as its header says."""

    name: str
    file: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])


class NpzSamples(DigestedSet):
    """The arrays of a file that `numpy.savez` or `numpy.savez_compressed` wrote; their names are the inputs' names.

    No more than one batch is in memory. Nothing is ever unpickled.

    Args:
        path: The file; each array has the samples along axis 0.
        target_key: Array that the metric compares with, or None.
        batch_size: Samples in a batch.

    Raises:
        SamplesError: Not such a file, damaged, with Python objects in it, or with arrays of different lengths.
        UnsafeFileError: An archive that unpacks to far more than it is, or whose entries overlap or share a name.

    """

    def __init__(self, path: Path | str, target_key: str | None = None, batch_size: int = 32) -> None:
        self._path = Path(path)
        self._batch_size = check_batch_size(batch_size)
        members = self._members()
        if target_key is not None and target_key not in members:
            raise self._wrong(f"no array {target_key!r} among {sorted(members)}", "name the array with the targets")
        self._target = members.pop(target_key) if target_key is not None else None
        self._feeds = members
        every = [*members.values()] if self._target is None else [*members.values(), self._target]
        lengths = {member.name: member.shape[0] if member.shape else None for member in every}
        if not members or len(set(lengths.values())) != 1 or None in lengths.values():
            found = f"arrays of lengths {lengths}" if members else "no arrays"
            raise self._wrong(found, "store one array per input, each with N samples")
        self._count = every[0].shape[0]
        if not self._count:
            raise self._wrong("arrays of length 0", "store at least one sample", problem="empty")

    def __iter__(self) -> Iterator[Sample]:
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self._path))
            streams = {}
            for member in (*self._feeds.values(), *([self._target] if self._target else [])):
                streams[member.file] = stack.enter_context(archive.open(member.file))
                read_header(streams[member.file])
            for start in range(0, self._count, self._batch_size):
                rows = min(self._batch_size, self._count - start)
                yield self._batch(streams, rows)  # not kept here: the next one is read when this one may be gone

    def __len__(self) -> int:
        return self._count

    def _batch(self, streams: Mapping[str, IO[bytes]], rows: int) -> Sample:
        feeds = {name: self._read(streams[member.file], member, rows) for name, member in self._feeds.items()}
        target = None if self._target is None else self._read(streams[self._target.file], self._target, rows)
        return Sample(feeds=feeds, target=target)

    def _read(self, stream: IO[bytes], member: _Member, rows: int) -> Array:
        size = rows * member.row_bytes
        try:
            data = stream.read(size)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
            raise self._wrong(f"a damaged array {member.name!r} ({error})", "write the file again") from error
        if len(data) != size:
            raise self._wrong(f"{len(data)} bytes where {member.name!r} needs {size}", "write the file again")
        return np.frombuffer(data, dtype=member.dtype).reshape(rows, *member.shape[1:])

    def _members(self) -> dict[str, _Member]:
        try:
            check_archive(self._path, asked=f"read samples from {self._path.name}", paths=False)
            with zipfile.ZipFile(self._path) as archive:
                return {
                    info.filename.removesuffix(".npy"): self._member(archive, info)
                    for info in archive.infolist()
                    if info.filename.endswith(".npy")
                }
        except OSError as error:
            found = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
            raise self._wrong(found, "give the path of an .npz file that you may read") from error
        except zipfile.BadZipFile as error:
            raise self._wrong(f"no .npz file ({error})", "write it with numpy.savez") from error
        except (zlib.error, ValueError, NotImplementedError, RuntimeError) as error:
            raise self._wrong(f"{type(error).__name__}: {error}", "write it with numpy.savez") from error

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as stream:
            shape, fortran, dtype = read_header(stream)
            header = stream.tell()
        if dtype.hasobject:
            raise self._wrong(
                f"Python objects in array {name!r}; they would have to be unpickled, which can run any code",
                "store numbers only",
                problem="pickle",
            )
        if fortran and len(shape) > 1:
            raise self._wrong(f"array {name!r} in column order", "store numpy.ascontiguousarray of it")
        if info.file_size != header + dtype.itemsize * math.prod(shape):
            raise self._wrong(f"array {name!r} of another size than its header says", "write the file again")
        return _Member(name=name, file=info.filename, dtype=dtype, shape=shape)

    def _wrong(self, found: str, fix: str, problem: str = "file") -> SamplesError:
        return SamplesError(
            asked=f"read samples from {self._path.name}", found=found, fix=fix, details={"problem": problem}
        )


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, column order and dtype; numpy limits the header's length and reads it without running code."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy format {version}")
