"""Samples from a folder of images or WAV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeport.calibration.data.array_roles import ArrayRole
from edgeport.calibration.data.audio import read_sound
from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.folder import FolderFile, class_indices, list_folder
from edgeport.calibration.data.images import read_image
from edgeport.calibration.data.rebatch import batched, check_batch_size
from edgeport.contracts import Array, PreprocessingFunction, Sample
from edgeport.errors import SamplesError

__all__ = ["FolderSamples"]


class FolderSamples(DigestedSet):
    """The files of a folder in the order of their names; no more than one batch is in memory.

    Images are uint8 [N, H, W, C] where preprocessing follows, and have to be of one size where none does: then they
    are as they are stored, 0..255 in the dtype of the input. Sounds are float32 [N, n], or [N, 1, n] where the input
    has an axis of one channel. The target is the index of a file's class folder, int64 [N].

    Args:
        path: The folder.
        want: What it is read for.
        classes: Class names by index; else class folders are counted in the order of their names.
        sample_rate: In Hz, of every sound; None for whatever it is, the same in all.
        batch_size: Samples in a batch.

    Attributes:
        classes: As they were given.

    Raises:
        SamplesError: The folder or a class's name is not as it should be; while it is walked, a file.

    """

    def __init__(
        self,
        path: Path,
        want: ArrayRole,
        *,
        classes: Sequence[str] = (),
        sample_rate: int | None = None,
        batch_size: int = 32,
    ) -> None:
        self._folder = list_folder(path)
        self._want = want
        self._batch_size = check_batch_size(batch_size)
        self.classes = tuple(classes)
        self._indices = class_indices(self._folder, classes)
        self._rate = sample_rate

    @property
    def class_folders(self) -> tuple[str, ...]:
        """Their names in order, also of empty ones."""
        return self._folder.labels

    @property
    def sample_rate(self) -> int | None:
        """In Hz, of every sound; None for images."""
        return read_sound(self._folder.files[0].path, self._folder.files[0].name)[1] if self._sounds else None

    @property
    def _sounds(self) -> bool:
        return self._folder.kind == "sounds"

    def __iter__(self) -> Iterator[Sample]:
        return batched(self._rows(), self._batch_size)

    def __len__(self) -> int:
        return len(self._folder.files)

    def _rows(self) -> Iterator[Sample]:
        rate, first = self._rate, None
        for file in self._folder.files:
            if self._sounds:
                array, own = read_sound(file.path, file.name)
                rate = own if rate is None else rate
                if own != rate:
                    raise self._other_rate(file, own, rate)
            else:
                array = read_image(file.path, file.name, self._want.channels)
            first = first or (file.name, array.shape)
            yield Sample(feeds={self._want.name: self._fed(file, array, first)[None]}, target=self._target(file))

    def _target(self, file: FolderFile) -> Array | None:
        return np.array([self._indices[file.label]], np.int64) if file.label else None

    def _fed(self, file: FolderFile, array: Array, first: tuple[str, tuple[int, ...]]) -> Array:
        """As the input takes it, where nothing is done afterwards."""
        spec, declared = self._want.spec, self._want.preprocessing
        if declared is not None:
            if self._sounds and not isinstance(declared, PreprocessingFunction):
                raise self._unfit(file, "a sound, where images are preprocessed", "preprocess sounds by a function")
            return array
        if array.shape != first[1]:
            what = "samples" if self._sounds else "pixels [H, W, C]"
            raise self._unfit(
                file, f"{list(array.shape)} {what}, and {list(first[1])} in {first[0]!r}", self._declare(spec.name)
            )
        if self._sounds:
            return array[None] if len(spec.shape) == 3 and spec.shape[1] == 1 else array
        fits = len(spec.shape) == 4 and all(
            isinstance(want, str) or want == size for want, size in zip(spec.shape[1:], array.shape, strict=True)
        )
        if not fits or spec.dtype not in ("uint8", "float32"):
            shape = f"[{', '.join(map(str, spec.shape))}]"
            raise self._unfit(
                file,
                f"pixels uint8 {list(array.shape)}, where input {spec.name!r} takes {spec.dtype} {shape}",
                self._declare(spec.name),
            )
        return array.astype(spec.dtype)

    def _declare(self, name: str) -> str:
        if self._sounds:
            return f'cut or pad them in a function: [inputs.{name}.preprocess] function = "pkg.mod:fn"'
        return (
            f"declare how pixels become the input: [inputs.{name}.preprocess] with resize or crop, scale, mean, std "
            'and layout ("NCHW" or "NHWC")'
        )

    def _other_rate(self, file: FolderFile, own: int, rate: int) -> SamplesError:
        of = "as [data] sample_rate says" if self._rate is not None else f"as in {self._folder.files[0].name!r}"
        fix = "resample the files to one rate, that which the model was trained with"
        return self._unfit(file, f"{own} Hz, not {rate} {of}", fix, problem="sample-rate")

    def _unfit(self, file: FolderFile, found: str, fix: str, problem: str = "shape") -> SamplesError:
        return SamplesError(
            asked=f"use the file {file.name!r} as a sample", found=found, fix=fix, details={"problem": problem}
        )
