"""Sample sets, and checks of them before anything is calibrated or judged with them."""

from edgeport.calibration.data.array_roles import ArrayRole, sole, wanted
from edgeport.calibration.data.arrays import ArraySamples
from edgeport.calibration.data.cached import CachedSamples
from edgeport.calibration.data.check import Lint, check_disjoint, check_samples
from edgeport.calibration.data.checked import CheckedSamples
from edgeport.calibration.data.drift import Profile, lint_labels, lint_unlike
from edgeport.calibration.data.files import FolderSamples
from edgeport.calibration.data.folder import digest_folder, list_folder
from edgeport.calibration.data.function import FunctionSamples
from edgeport.calibration.data.npy import NpySamples
from edgeport.calibration.data.npz import NpzSamples
from edgeport.calibration.data.preprocessed import Preprocessed
from edgeport.calibration.data.rebatch import Rebatched, Subset, rebatch, subset
from edgeport.calibration.data.sequences import SequenceLayout, SequenceSamples
from edgeport.calibration.data.shard import Shard, shard_of
from edgeport.calibration.data.table import TableSamples, columns_of

__all__ = [
    "ArrayRole",
    "ArraySamples",
    "CachedSamples",
    "CheckedSamples",
    "FolderSamples",
    "FunctionSamples",
    "Lint",
    "NpySamples",
    "NpzSamples",
    "Preprocessed",
    "Profile",
    "Rebatched",
    "SequenceLayout",
    "SequenceSamples",
    "Shard",
    "Subset",
    "TableSamples",
    "check_disjoint",
    "check_samples",
    "columns_of",
    "digest_folder",
    "lint_labels",
    "lint_unlike",
    "list_folder",
    "rebatch",
    "shard_of",
    "sole",
    "subset",
    "wanted",
]
