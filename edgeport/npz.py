"""Named arrays in an `.npz` whose bytes depend on nothing but them, whatever the arrays are called."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeport.contracts import Array

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GrowingArray", "load_npz", "made_of", "save_npy", "save_npz"]

_MADE = b"edgeport.made="
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that zip knows


class GrowingArray:
    """An array [N, ...] that is written batch by batch; no more than one batch is in memory.

    Args:
        folder: Where its bytes wait, in a file without a name, until it is saved.
        free: Indices of the axes (0 counts samples) whose sizes may differ; samples are padded with zeros then, and
            `shapes` has what they were.

    Text may be of another width in each batch: the widest counts.

    """

    def __init__(self, folder: Path, free: frozenset[int] = frozenset()) -> None:
        self._free = free
        self._parts: list[tuple[tuple[int, ...], int, np.dtype[Any]]] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this object is)
        self._dtype: np.dtype[Any] | None = None
        self._rest: tuple[int, ...] = ()
        self._count = 0

    def add(self, rows: Array) -> None:
        """Appends rows [n, ...].

        Raises:
            TypeError: They are of another dtype than those before, or hold Python objects.
            ValueError: They are of another shape.

        """
        import numpy as np

        if rows.dtype.hasobject:
            raise TypeError("Python objects")
        if self._dtype is None:
            self._dtype, self._rest = rows.dtype, rows.shape[1:]
        is_text = self._dtype.kind == rows.dtype.kind and rows.dtype.kind in "US"
        if self._dtype != rows.dtype and not is_text:
            raise TypeError(f"dtype {rows.dtype} after {self._dtype}")
        if not self._fits(rows.shape[1:]):
            raise ValueError(f"shape {list(rows.shape[1:])} after {list(self._rest)}")
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._parts.append((rows.shape[1:], len(rows), rows.dtype))
        self._dtype = max(self._dtype, rows.dtype, key=lambda dtype: dtype.itemsize)
        self._count += len(rows)

    def _fits(self, rest: tuple[int, ...]) -> bool:
        return len(rest) == len(self._rest) and all(
            size == known or index in self._free
            for index, (size, known) in enumerate(zip(rest, self._rest, strict=True), start=1)
        )

    @property
    def shapes(self) -> Array | None:
        """int64 [N, axes]: the shape of each sample; None where all have one."""
        import numpy as np

        if len({shape for shape, _, _ in self._parts}) <= 1:
            return None
        return np.concatenate([np.tile(np.asarray(shape, np.int64), (count, 1)) for shape, count, _ in self._parts])

    def __len__(self) -> int:
        return self._count

    def write_to(self, file: IO[bytes]) -> None:
        """Writes the whole as `.npy`.

        Raises:
            ValueError: Nothing was added.

        """
        import numpy as np

        if self._dtype is None:
            raise ValueError("no rows")
        shapes = self.shapes
        rest = self._rest if shapes is None else tuple(int(size) for size in shapes.max(axis=0))
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count, *rest),
        }
        np.lib.format.write_array_header_1_0(file, header)
        self._file.seek(0)
        if shapes is None and len({dtype for _, _, dtype in self._parts}) == 1:
            shutil.copyfileobj(self._file, file, 1 << 20)
            return
        for shape, count, dtype in self._parts:
            values = self._file.read(count * math.prod(shape) * dtype.itemsize)
            part = np.zeros((count, *rest), self._dtype)
            if values:  # text of no letters takes no bytes
                part[(slice(None), *(slice(0, size) for size in shape))] = np.frombuffer(values, dtype).reshape(
                    count, *shape
                )
            file.write(part.tobytes())

    def close(self) -> None:
        """Frees the disk space."""
        self._file.close()


def save_npz(path: Path, arrays: Mapping[str, Array | GrowingArray], *, made: str = "") -> None:
    """Writes an `.npz`. Unlike `numpy.savez` it takes every name ("file" too), in the order of the mapping.

    Args:
        path: Of the file.
        arrays: By name.
        made: How samples were made up, if they are no real data ("generator"); the file says so ever after, in the
            archive's comment, and `made_of` reads it.

    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = _MADE + made.encode() if made else b""
        for name, array in arrays.items():
            with _entry(archive, f"{name}.npy") as file:
                save_npy(file, array)


def load_npz(path: Path | str) -> dict[str, Array]:
    """All arrays of an `.npz`, by name; none of Python objects.

    Raises:
        OSError, ValueError, EOFError: No such file, or something else in it.

    """
    import numpy as np

    with Path(path).open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
            if not hasattr(found, "files"):
                raise ValueError("one array without a name")
            with found:
                return {name: found[name] for name in found.files}
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from error


def made_of(path: Path) -> str:
    """How the samples in an `.npz` were made up; empty for data, and for whatever is no readable `.npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
    except (OSError, zipfile.BadZipFile):
        return ""
    return comment.removeprefix(_MADE).decode(errors="replace") if comment.startswith(_MADE) else ""


def save_npy(file: IO[bytes], array: Array | GrowingArray) -> None:
    """Writes one array as `.npy`; one of Python objects is refused."""
    if isinstance(array, GrowingArray):
        array.write_to(file)
    else:
        import numpy as np

        np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


@contextmanager
def _entry(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as file:
        yield file
