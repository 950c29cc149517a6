"""A backend as another package has one: float32 and int8 on ONNX's own reference evaluator.

Tests install it by an entry point (`sample = "edgeport.testing.sample_backend:create_backend"`), to see that nothing is
kept for our own backends alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeport.backends.artifacts import artifact_folder, check_artifact, make_artifact, with_settings
from edgeport.backends.compile_checks import check_request
from edgeport.backends.qdq.graph import PRECISION_KEY
from edgeport.backends.qdq.operators import MOVES, operator_rules
from edgeport.backends.qdq.write import quantize_ir
from edgeport.backends.session_errors import open_artifact
from edgeport.contracts import (
    Accelerator,
    Artifact,
    Capabilities,
    ExecutionConfig,
    ExecutionSpace,
    NodePlacement,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    Session,
    Support,
)
from edgeport.errors import DependencyError, UnsupportedByBackend
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["NAME", "SampleBackend", "create_backend"]

NAME = "sample"
_ENTRY = "model.onnx"
_RULES = QuantizationRules(
    dialect=NAME,
    activation_dtype="uint8",
    activation_symmetric=False,
    operators=operator_rules(("Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool", *MOVES)),
    fused={"Conv": ("Relu",), "Add": ("Relu",)},
)


class SampleBackend:
    """What `Backend` asks for, and of what is optional: `Tunable`, `PlanReducing` and `Accelerated`."""

    def capabilities(self) -> Capabilities:
        """See `Backend.capabilities`."""
        no = Support(available=False, reason="it computes in float32 and int8")
        precisions = dict.fromkeys(Precision, no)
        try:
            import onnx.reference
        except ImportError as error:
            return Capabilities(backend=NAME, reason=f"{error}; pip install onnx", precisions=precisions)
        yes = Support(available=True)
        return Capabilities(
            backend=NAME,
            version=onnx.__version__,
            installed=True,
            can_run=True,
            precisions={**precisions, Precision.FP32: yes, Precision.INT8: yes},
            rules=_RULES,
            devices=("CPU", "chip"),
        )

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """See `Backend.compile`."""
        known = self.capabilities()
        if not known.installed:
            raise DependencyError(asked=f"compile for {NAME}", found=known.reason, fix="pip install onnx")
        check_request(model, plan, execution, known, name=NAME)
        if execution.runtime_device:
            raise UnsupportedByBackend(
                asked=f"run {model.path.name} on {execution.runtime_device}",
                found=f"that {NAME} computes on the CPU alone",
                fix="leave runtime_device unset",
            )
        graph = read_ir(model)
        if not plan.precision.is_float:
            quantize_ir(graph, self.effective_plan(model, plan), _RULES)
        with artifact_folder(folder) as draft:
            write_ir(graph, draft / _ENTRY)
        return make_artifact(
            backend=NAME,
            folder=folder,
            entry=_ENTRY,
            session="edgeport.testing.sample_session",
            settings=_settings(execution),
            precision=plan.precision,
            execution=execution,
        )

    def open(self, artifact: Artifact) -> Session:
        """See `Backend.open`."""
        return open_artifact(artifact)

    def placement(self, artifact: Artifact) -> Placement:
        """See `Backend.placement`."""
        import onnx_ir as ir

        placed = [
            NodePlacement(
                name=str(node.name),
                operator=node.op_type,
                device="CPU",
                precision="" if "Linear" in node.op_type else node.metadata_props.get(PRECISION_KEY, "fp32"),
                origin=(str(node.name),),
            )
            for node in ir.load(check_artifact(artifact)).graph
        ]
        return Placement(nodes=tuple(placed), source="the graph")

    def effective_plan(self, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
        """See `PlanReducing`: what the model gives is not rounded."""
        outputs = {value.name for value in read_ir(model).graph.outputs}
        return replace(plan, activations={name: one for name, one in plan.activations.items() if name not in outputs})

    def accelerators(self) -> Sequence[Accelerator]:
        """See `Accelerated`: one that is listed, and on which nothing opens."""
        return (Accelerator(listed="chip", runtime_device="CHIP", package="onnx", library="reference"),)

    def executions(self, artifact: Artifact, space: ExecutionSpace) -> Sequence[ExecutionConfig]:
        """See `Tunable`."""
        del artifact
        return [ExecutionConfig(batch=batch, threads=threads) for batch in space.batches for threads in (None, 1)]

    def with_execution(self, artifact: Artifact, execution: ExecutionConfig) -> Artifact:
        """See `Tunable`."""
        return with_settings(artifact, execution, ("threads",), _settings(execution))


def create_backend() -> SampleBackend:
    """For the entry point."""
    return SampleBackend()


def _settings(execution: ExecutionConfig) -> dict[str, object]:
    return {"threads": execution.threads}
