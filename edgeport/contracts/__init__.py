"""The data classes and protocols that the parts of Edgeport hand each other.

Frozen and keyword-only; validated when made; stored as JSON with a schema version.
"""

from edgeport.contracts.backend import Artifact, Backend, Call, Capabilities, NodePlacement, Placement, Session, Support
from edgeport.contracts.bundle import Bundle, Manifest, Measured, Provenance
from edgeport.contracts.candidate import Budget, Candidate, Refusal
from edgeport.contracts.device import Device, DeviceFacts, EvaluateJob, Job, TimeJob
from edgeport.contracts.execution import DataParallel, ExecutionConfig, Limits, SingleStream
from edgeport.contracts.kept import Kept, kept_nodes, kept_share
from edgeport.contracts.measurement import Measurement, ProcessTrace, TelemetrySample, TimerFacts
from edgeport.contracts.model import ModelSource, OnnxModel
from edgeport.contracts.plan import (
    ActivationQuantization,
    OperatorRule,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    QuantizedDtype,
    WeightQuantization,
)
from edgeport.contracts.progress import OnProgress, ProgressEvent, silent
from edgeport.contracts.recipe import (
    DataSpec,
    ExportSettings,
    Recipe,
    SamplesFile,
    SamplesFunction,
    Search,
    Statement,
    Target,
    TargetGroup,
)
from edgeport.contracts.result import Lack, NearCandidate, OutputDifference, RunResult, Verification, worst_of
from edgeport.contracts.samples import Array, Arrays, OpenModel, RunModel, Sample, SampleSet
from edgeport.contracts.serialise import digest_bytes, digest_file, digest_json, dump_json, load_json, to_jsonable
from edgeport.contracts.statistics import Calibration, TensorStatistics
from edgeport.contracts.tensors import DTYPES, Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.contracts.verdict import (
    AccuracyResult,
    Change,
    Comparison,
    Energy,
    Interval,
    LatencySummary,
    Outcome,
    Quantile,
    Roof,
    Roofline,
    Throughput,
    Work,
)

__all__ = [
    "DTYPES",
    "AccuracyResult",
    "ActivationQuantization",
    "Array",
    "Arrays",
    "Artifact",
    "Backend",
    "Budget",
    "Bundle",
    "Calibration",
    "Call",
    "Candidate",
    "Capabilities",
    "Change",
    "Comparison",
    "DataParallel",
    "DataSpec",
    "Device",
    "DeviceFacts",
    "Energy",
    "EvaluateJob",
    "ExecutionConfig",
    "ExportSettings",
    "Interval",
    "Job",
    "Kept",
    "Lack",
    "LatencySummary",
    "Limits",
    "Manifest",
    "Measured",
    "Measurement",
    "ModelSource",
    "NearCandidate",
    "NodePlacement",
    "OnProgress",
    "OnnxModel",
    "OpenModel",
    "OperatorRule",
    "Outcome",
    "OutputDifference",
    "Placement",
    "Precision",
    "Preprocessing",
    "PreprocessingFunction",
    "ProcessTrace",
    "ProgressEvent",
    "Provenance",
    "Quantile",
    "QuantizationPlan",
    "QuantizationRules",
    "QuantizedDtype",
    "Recipe",
    "Refusal",
    "Roof",
    "Roofline",
    "RunModel",
    "RunResult",
    "Sample",
    "SampleSet",
    "SamplesFile",
    "SamplesFunction",
    "Search",
    "Session",
    "SingleStream",
    "Statement",
    "Support",
    "Target",
    "TargetGroup",
    "TelemetrySample",
    "TensorSpec",
    "TensorStatistics",
    "Throughput",
    "TimeJob",
    "TimerFacts",
    "Verification",
    "WeightQuantization",
    "Work",
    "digest_bytes",
    "digest_file",
    "digest_json",
    "dump_json",
    "kept_nodes",
    "kept_share",
    "load_json",
    "silent",
    "to_jsonable",
    "worst_of",
]
