"""The Python API: each step of the way as a function, and the whole way. The command line calls these.

Heavy packages load inside the functions; models from outside are parsed and run in child processes.
"""

from __future__ import annotations

from edgeport.api.artifacts import BundleCheck, calibrate, quantize, verify_bundle
from edgeport.api.compressing import prune, qat
from edgeport.api.devices import (
    add_device,
    clean_device,
    device_profiles,
    list_devices,
    prepare_device,
    probe_device,
    remove_device,
)
from edgeport.api.distilling import distill, distill_without_data, imitate
from edgeport.api.measuring import bench, compare, soak
from edgeport.api.models import ExportReport, export, verify
from edgeport.api.recipes import dry_run, init, quickstart, run
from edgeport.api.tuning import schedule, tune, tune_execution
from edgeport.options.bench import BenchOptions, CompareOptions, ExecuteOptions
from edgeport.options.distill import DistillOptions, WithoutDataOptions
from edgeport.options.export import ExportSettings, VerifyOptions
from edgeport.options.imitate import ImitateOptions
from edgeport.options.init import InitOptions
from edgeport.options.prune import PruneOptions
from edgeport.options.qat import QatOptions
from edgeport.options.quantize import CalibrateOptions, QuantizeOptions
from edgeport.options.tune import ExecutionTuneOptions, ScheduleOptions, TuneOptions

__all__ = [
    "BenchOptions",
    "BundleCheck",
    "CalibrateOptions",
    "CompareOptions",
    "DistillOptions",
    "ExecuteOptions",
    "ExecutionTuneOptions",
    "ExportReport",
    "ExportSettings",
    "ImitateOptions",
    "InitOptions",
    "PruneOptions",
    "QatOptions",
    "QuantizeOptions",
    "ScheduleOptions",
    "TuneOptions",
    "VerifyOptions",
    "WithoutDataOptions",
    "add_device",
    "bench",
    "calibrate",
    "clean_device",
    "compare",
    "device_profiles",
    "distill",
    "distill_without_data",
    "dry_run",
    "export",
    "imitate",
    "init",
    "list_devices",
    "prepare_device",
    "probe_device",
    "prune",
    "qat",
    "quantize",
    "quickstart",
    "remove_device",
    "run",
    "schedule",
    "soak",
    "tune",
    "tune_execution",
    "verify",
    "verify_bundle",
]
