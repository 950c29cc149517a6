"""The OpenVINO backend: what it can do here, and how a plan becomes an IR that ships."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from edgeport.backends.artifacts import artifact_folder, make_artifact, with_settings
from edgeport.backends.compile_checks import check_request
from edgeport.backends.openvino.capabilities import capabilities_here
from edgeport.backends.openvino.convert import IrFromOnnx
from edgeport.backends.openvino.execution_options import SETTINGS, device_of, execution_settings, executions
from edgeport.backends.openvino.float_nodes import FloatNodes, hinted_float
from edgeport.backends.openvino.load_errors import not_compiled
from edgeport.backends.openvino.rules import rules_for
from edgeport.backends.session_errors import open_artifact
from edgeport.contracts import (
    Artifact,
    Capabilities,
    ExecutionConfig,
    ExecutionSpace,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    Session,
)
from edgeport.errors import BackendError, DependencyError
from edgeport.onnx_files import read_ir

__all__ = ["OpenVinoBackend"]

NAME = "openvino"
SESSION = "edgeport.backends.openvino.session"
ENTRY = "model.xml"

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16"}

GROUP_SIZE = 32
"""Values along the reduced axis that share a scale where activations become int8 while it runs; the runtime's own
default, said aloud."""


class _Described(TypedDict):
    """An artifact but for its folder."""

    backend: str
    entry: str
    session: str
    settings: Mapping[str, object]
    precision: Precision
    execution: ExecutionConfig


class OpenVinoBackend:
    """OpenVINO on its CPU plugin, or on another of its devices where one is named."""

    def capabilities(self) -> Capabilities:
        """See `Backend.capabilities`."""
        return capabilities_here()

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """See `Backend.compile`.

        The IR keeps its batch axis open; the session makes it static for the batch of `execution`, which is faster,
        and compiles again for another one. The model is opened once here, so that what OpenVINO can't run is known.
        """
        device = self._check(model, plan, execution)
        planned = [name for name, precision in plan.nodes.items() if not precision.is_float]
        with artifact_folder(folder) as draft:
            with tempfile.TemporaryDirectory() as scratch:
                source = _write(model, plan, Path(scratch) / "model.onnx") if planned else model
                IrFromOnnx(source, planned, FloatNodes.of(plan))(draft / ENTRY)
            described: _Described = {
                "backend": NAME,
                "entry": ENTRY,
                "session": SESSION,
                "settings": _settings(model, plan, execution, device),
                "precision": plan.precision,
                "execution": execution,
            }
            artifact = make_artifact(folder=draft, **described)
            try:
                open_artifact(artifact).close()
            except BackendError as error:
                told = not_compiled(error, read_ir(model).graph.all_nodes(), model.path.name)
                if told is error:
                    raise
                raise told from error
        return make_artifact(folder=folder, **described)

    def open(self, artifact: Artifact) -> Session:
        """See `Backend.open`."""
        return open_artifact(artifact)

    def placement(self, artifact: Artifact) -> Placement:
        """See `Backend.placement`."""
        from edgeport.backends.openvino.placement import read_placement

        return read_placement(artifact)

    def effective_plan(self, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
        """See `PlanReducing`."""
        from edgeport.backends.qdq.qdq_pruning import read_pairs_only

        return read_pairs_only(read_ir(model).graph, plan, rules_for())

    def peak_execution(self, execution: ExecutionConfig) -> ExecutionConfig:
        """See `ProcessorPeak`."""
        return ExecutionConfig(threads=execution.threads, affinity=execution.affinity)

    def executions(self, artifact: Artifact, space: ExecutionSpace) -> Sequence[ExecutionConfig]:
        """See `Tunable`."""
        return executions(space, str(artifact.settings.get("device", "CPU")))

    def with_execution(self, artifact: Artifact, execution: ExecutionConfig) -> Artifact:
        """See `Tunable`.

        Raises:
            UnsupportedByBackend: A setting that it has not.

        """
        execution = replace(execution, runtime_device=artifact.execution.runtime_device)
        return with_settings(artifact, execution, SETTINGS, execution_settings(execution))

    def _check(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig) -> str:
        """The device; raises where the plan or the execution is not for this backend on this machine."""
        known = self.capabilities()
        if not known.installed:
            raise DependencyError(
                asked="compile for OpenVINO", found=known.reason, fix="pip install 'edgeport[openvino]'"
            )
        check_request(model, plan, execution, known, name="OpenVINO")
        hinted_float(plan)
        execution_settings(execution)  # refuses what it has not, before anything is written
        return device_of(execution.runtime_device, known.devices)


def _write(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
    from edgeport.backends.openvino.dialect import write_openvino

    return write_openvino(model, plan, path)


def _settings(model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, device: str) -> dict[str, object]:
    """What `session.open_session` is handed; see there."""
    return {
        "device": device,
        "precision": _HINTS[hinted_float(plan)],
        **execution_settings(execution),
        "config": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP_SIZE if _may_round(plan) else 0)},
        "inputs": [spec.name for spec in model.inputs],
        "outputs": [spec.name for spec in model.outputs],
    }


def _may_round(plan: QuantizationPlan) -> bool:
    """Whether OpenVINO may turn the activations of products with integer weights into int8 while it runs.

    It may for 4-bit weights too, as it does by itself. Weights of 8 bits alone with such activations are what
    `int8-dynamic` is here, so in `int8-weights` they stay float. The setting is one for the whole model.
    """
    weights_of = {precision.weight_form for precision in plan.nodes.values() if precision.weight_form is not None}
    return Precision.INT8_DYNAMIC in plan.nodes.values() or any(form.stored == "int4" for form in weights_of)
