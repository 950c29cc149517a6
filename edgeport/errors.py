"""Every error that Edgeport raises on purpose, in one tree.

::

    EdgeportError
    ├── UsageError                    wrong arguments                       exit 2
    │   └── RecipeError               wrong recipe
    ├── DependencyError               a package is missing; names the extra
    ├── SourceError                   the model could not be loaded
    │   └── UnsafeFileError           refused before anything was executed
    ├── ModelError                    the ONNX file itself
    │   ├── ModelFormatError          not a readable ONNX model
    │   ├── ModelLimitError           larger or deeper than is allowed
    │   └── AlreadyQuantizedError     carries Q/DQ or integer operators
    ├── ExportError                   PyTorch could not be exported
    │   ├── GraphBreakError           control flow that depends on data
    │   ├── DataDependentShapeError   a shape that depends on data
    │   ├── UnsupportedOperatorError  an operator ONNX has no words for
    │   └── DynamicShapeError         a second batch size was refused
    ├── TrainingError                 it diverged, or can't go on
    ├── VerificationError             the export computes something else
    ├── SamplesError                  calibration or evaluation data
    ├── CalibrationError              statistics or ranges
    ├── PruningError                  what can't be removed from a network
    ├── DistillationError             an objective that does not suit student, teacher or samples
    ├── PlanError                     a plan that does not fit its model
    ├── BackendError                  a runtime refused or failed
    │   ├── UnsupportedByBackend      it has no such operator or precision
    │   ├── BackendCrash              it died by a signal
    │   ├── PlacementMissed           too little ran as planned             exit 3
    │   └── WrongOutput               NaN, Inf or different numbers
    ├── IsolationError                the child that did the work
    │   ├── ChildTimeout              took longer than allowed
    │   ├── ResourceLimit             took more memory than allowed
    │   └── ChildCrash                died by a signal, or said nothing
    ├── DeviceError                   the target device
    │   ├── DeviceLost                stopped answering
    │   └── MeasurementError          measured, but not to be believed
    ├── StoreError                    the cache of finished work
    ├── OutputError                   the output folder
    └── ContractError                 stored JSON that does not fit its class

Each one says what was asked, what was found and what to do, and has a code that does not change
between releases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

__all__ = [
    "AlreadyQuantizedError",
    "BackendCrash",
    "BackendError",
    "CalibrationError",
    "ChildCrash",
    "ChildTimeout",
    "ContractError",
    "DataDependentShapeError",
    "DependencyError",
    "DeviceError",
    "DeviceLost",
    "DistillationError",
    "DynamicShapeError",
    "EdgeportError",
    "ExportError",
    "GraphBreakError",
    "IsolationError",
    "MeasurementError",
    "ModelError",
    "ModelFormatError",
    "ModelLimitError",
    "OutputError",
    "PlacementMissed",
    "PlanError",
    "PruningError",
    "RecipeError",
    "ResourceLimit",
    "SamplesError",
    "SourceError",
    "StoreError",
    "TrainingError",
    "UnsafeFileError",
    "UnsupportedByBackend",
    "UnsupportedOperatorError",
    "UsageError",
    "VerificationError",
    "WrongOutput",
    "did_you_mean",
    "error_from_dict",
    "require_known",
]


class EdgeportError(Exception):
    """Root of the tree.

    Args:
        asked: What the caller asked for ("load checkpoint model.pt").
        found: What was there instead ("a pickle that calls os.system").
        fix: The next step ("save it with safetensors.torch.save_file").
        details: Machine-readable facts, JSON values only.

    """

    code: ClassVar[str] = "ERROR"
    exit_code: ClassVar[int] = 1

    def __init__(self, *, asked: str, found: str, fix: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(asked, found, fix)
        self.asked = asked
        self.found = found
        self.fix = fix
        self.details: dict[str, object] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: asked to {self.asked}; found {self.found}; {self.fix}"

    @property
    def reason(self) -> str:
        """What was found and what to do, for where what was asked stands already: "it has no GPU; leave gpu unset"."""
        return f"{self.found.removeprefix('that ')}; {self.fix}"

    def to_dict(self) -> dict[str, object]:
        """The error as JSON values, as `--json` prints it and a child sends it to its parent."""
        return {"code": self.code, "asked": self.asked, "found": self.found, "fix": self.fix, "details": self.details}


class UsageError(EdgeportError):
    """Wrong arguments."""

    code = "USAGE"
    exit_code = 2


class RecipeError(UsageError):
    """A recipe with an unknown key, a wrong type, a missing file or an impossible budget."""

    code = "RECIPE_INVALID"


class DependencyError(EdgeportError):
    """A package that the asked work needs is not installed, or does not import."""

    code = "DEPENDENCY_MISSING"


class SourceError(EdgeportError):
    """The model could not be loaded from where it was said to be."""

    code = "SOURCE_INVALID"


class UnsafeFileError(SourceError):
    """A file that would run code, or reach outside its folder; nothing of it was executed."""

    code = "UNSAFE_FILE"


class ModelError(EdgeportError):
    """The ONNX model can't be used as it is."""

    code = "MODEL_INVALID"


class ModelFormatError(ModelError):
    """Not an ONNX model, or a damaged one."""

    code = "MODEL_FORMAT"


class ModelLimitError(ModelError):
    """Larger or deeper than the limits allow."""

    code = "MODEL_LIMIT"


class AlreadyQuantizedError(ModelError):
    """The model carries Q/DQ pairs or integer operators; quantizing again would compound the error."""

    code = "ALREADY_QUANTIZED"


class ExportError(EdgeportError):
    """PyTorch could not export the model."""

    code = "EXPORT_FAILED"


class GraphBreakError(ExportError):
    """Python control flow depends on the value of a tensor."""

    code = "EXPORT_GRAPH_BREAK"


class DataDependentShapeError(ExportError):
    """A shape depends on the value of a tensor."""

    code = "EXPORT_DATA_DEPENDENT_SHAPE"


class UnsupportedOperatorError(ExportError):
    """An operator has no translation to ONNX."""

    code = "EXPORT_UNSUPPORTED_OPERATOR"


class DynamicShapeError(ExportError):
    """An axis that was declared dynamic is fixed by the model."""

    code = "EXPORT_DYNAMIC_SHAPE"


class TrainingError(EdgeportError):
    """A training diverged, or its checkpoint is damaged or of another training."""

    code = "TRAINING_FAILED"


class VerificationError(EdgeportError):
    """The exported model computes something else than the PyTorch model."""

    code = "VERIFY_FAILED"


class SamplesError(EdgeportError):
    """Calibration or evaluation samples that do not fit the model or each other."""

    code = "SAMPLES_INVALID"


class CalibrationError(EdgeportError):
    """Statistics that can't be collected, merged or turned into ranges."""

    code = "CALIBRATION_FAILED"


class PruningError(EdgeportError):
    """Nothing that can be removed from the network, or a criterion that has no answer for it."""

    code = "PRUNING_FAILED"


class DistillationError(EdgeportError):
    """An objective that does not suit the student, the teacher or the samples."""

    code = "DISTILLATION_FAILED"


class PlanError(EdgeportError):
    """A quantization plan that does not fit its model or dialect."""

    code = "PLAN_INVALID"


class BackendError(EdgeportError):
    """A runtime refused the model, or failed while it ran."""

    code = "BACKEND_FAILED"


class UnsupportedByBackend(BackendError):
    """The runtime, or this build of it on this hardware, has no such operator or precision."""

    code = "BACKEND_UNSUPPORTED"


class BackendCrash(BackendError):
    """The runtime's process died by a signal."""

    code = "BACKEND_CRASH"


class PlacementMissed(BackendError):
    """Fewer nodes ran as planned than was asked for."""

    code = "PLACEMENT"
    exit_code = 3


class WrongOutput(BackendError):
    """The runtime returned NaN, Inf or numbers that differ from the reference."""

    code = "WRONG_OUTPUT"


class IsolationError(EdgeportError):
    """Work in a child process did not come back."""

    code = "CHILD_FAILED"


class ChildTimeout(IsolationError):
    """The child took longer than it was given."""

    code = "TIMEOUT"


class ResourceLimit(IsolationError):
    """The child took more memory than it was given."""

    code = "RESOURCE_LIMIT"


class ChildCrash(IsolationError):
    """The child died by a signal, or ended without a result."""

    code = "CHILD_CRASH"


class DeviceError(EdgeportError):
    """The target device can't be used."""

    code = "DEVICE_FAILED"


class DeviceLost(DeviceError):
    """The device stopped answering in the middle of a job."""

    code = "DEVICE_LOST"


class MeasurementError(DeviceError):
    """A measurement that must not be believed."""

    code = "MEASUREMENT_INVALID"


class StoreError(EdgeportError):
    """The store of finished work can't be read or written."""

    code = "STORE_FAILED"


class OutputError(EdgeportError):
    """The output can't be written where it was asked for."""

    code = "OUTPUT_REFUSED"


class ContractError(EdgeportError):
    """Values that a contract does not allow, or stored JSON of another shape or version."""

    code = "CONTRACT_INVALID"


def _classes(root: type[EdgeportError]) -> Iterator[type[EdgeportError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def error_from_dict(data: Mapping[str, object]) -> EdgeportError:
    """The error that `EdgeportError.to_dict` described; an unknown code becomes the root class."""
    code = str(data.get("code", "ERROR"))
    by_code = {cls.code: cls for cls in _classes(EdgeportError)}
    details = data.get("details")
    return by_code.get(code, EdgeportError)(
        asked=str(data.get("asked", "")),
        found=str(data.get("found", "")),
        fix=str(data.get("fix", "")),
        details=dict(details) if isinstance(details, Mapping) else None,
    )


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, cutoff: float = 0.6) -> str:
    """The next step where a name is unknown: the known one that comes nearest to it, or `otherwise`.

    Args:
        name: As it was typed.
        known: Names that there are.
        otherwise: Advice where none of them is near.
        cutoff: Least similarity, 0..1 (see `difflib.get_close_matches`).

    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise


def require_known(asked: str, name: str, known: Iterable[str]) -> None:
    """Refuses a name that is not among the known ones.

    Raises:
        UsageError: It is not; `asked` and the name say what for.

    """
    names = list(known)
    if name not in names:
        raise UsageError(
            asked=f"{asked} {name!r}",
            found=f"that there are {', '.join(names)}",
            fix=did_you_mean(name, names, "use one of them"),
        )
