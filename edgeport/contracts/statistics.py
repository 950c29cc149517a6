"""What calibration saw: per tensor, in a form that merges exactly and that every range method reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.atomic import atomic_write
from edgeport.contracts.samples import Array
from edgeport.contracts.serialise import canonical, digest_bytes
from edgeport.errors import ContractError

__all__ = ["Calibration", "TensorStatistics"]

TensorStatistics = Mapping[str, Mapping[str, Array]]
"""Observer name ("extremes", "histogram", ...) to its state (arrays by field name)."""

_SEPARATOR = "\x1f"
_SCHEMA_VERSION = 1


_MAKE_ONE = "give the file that `edgeport calibrate model.onnx samples.npz` writes"


def _require_safetensors(path: Path) -> None:
    """Tells what else people take for a calibration, which safetensors would call a damaged header."""
    asked = f"read the calibration {path.name}"
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
        raise ContractError(asked=asked, found=found, fix=_MAKE_ONE) from error
    if begin == b"PK\x03\x04":
        raise ContractError(asked=asked, found="a zip file, such as an .npz of samples", fix=_MAKE_ONE)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Statistics of every activation of one model over one sample set; neutral: no target is named here.

    Attributes:
        model_digest: Of the (transformed) model that was run.
        samples_fingerprint: Of the sample set.
        sample_count: Number of samples.
        statistics: Tensor name to the state of each observer that watched it.
        transforms: Names of the transforms applied before (equalization, smoothing), in order.
        data_free: The samples were synthesised; every result that rests on this says so.

    """

    model_digest: str
    samples_fingerprint: str
    sample_count: int
    statistics: Mapping[str, TensorStatistics]
    transforms: tuple[str, ...] = ()
    data_free: bool = False
    schema_version: int = field(default=_SCHEMA_VERSION)

    def __post_init__(self) -> None:
        if self.sample_count < 1:
            raise ContractError(
                asked="keep a calibration", found=f"{self.sample_count} samples", fix="calibrate with at least one"
            )

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, over all of it."""
        arrays = self._arrays()
        parts = [canonical(self._record())]
        for key in sorted(arrays):
            array = arrays[key]
            parts += [key.encode(), str(array.dtype).encode(), str(array.shape).encode(), array.tobytes()]
        return digest_bytes(parts)

    def save(self, path: Path) -> None:
        """Writes one safetensors file, in one step; what is not an array is in its metadata."""
        from safetensors.numpy import save

        data = save(self._arrays(), metadata={"calibration": canonical(self._record()).decode()})
        atomic_write(path, data)  # save_file would make a file that its owner alone can read

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what `save` wrote.

        Raises:
            ContractError: Damaged, or of another schema version.

        """
        import json

        from safetensors import SafetensorError, safe_open

        _require_safetensors(path)
        try:
            with safe_open(path, framework="numpy") as file:
                record = json.loads((file.metadata() or {})["calibration"])
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            if record.pop("schema_version") != _SCHEMA_VERSION:
                raise KeyError("schema_version")
            statistics: dict[str, dict[str, dict[str, Array]]] = {}
            for key, array in arrays.items():
                tensor, observer, name = key.split(_SEPARATOR)
                statistics.setdefault(tensor, {}).setdefault(observer, {})[name] = array
            record["transforms"] = tuple(record["transforms"])
            return cls(statistics=statistics, **record)
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            foreign = isinstance(error, KeyError) and error.args == ("calibration",)
            raise ContractError(
                asked=f"read the calibration {path.name}",
                found="safetensors without a calibration in it, such as a model's weights"
                if foreign
                else f"a damaged file or another schema version ({error})",
                fix=_MAKE_ONE if foreign else f"calibrate again: {_MAKE_ONE}",
            ) from error

    def _record(self) -> dict[str, object]:
        return {
            "model_digest": self.model_digest,
            "samples_fingerprint": self.samples_fingerprint,
            "sample_count": self.sample_count,
            "transforms": list(self.transforms),
            "data_free": self.data_free,
            "schema_version": self.schema_version,
        }

    def _arrays(self) -> dict[str, Array]:
        return {
            _SEPARATOR.join((tensor, observer, name)): array
            for tensor, observers in self.statistics.items()
            for observer, state in observers.items()
            for name, array in state.items()
        }
