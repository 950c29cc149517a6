"""The TensorRT backend: builds engines wherever it can, runs them where their GPU is."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from edgeport.backends.artifacts import artifact_folder, check_artifact, make_artifact
from edgeport.backends.sessions import open_artifact
from edgeport.backends.tensorrt.capabilities import capabilities_here, target_for
from edgeport.backends.tensorrt.rules import DIALECT, rules
from edgeport.backends.tensorrt.runtime import find_gpu, load_tensorrt
from edgeport.backends.tensorrt.session import KEY_FILE
from edgeport.contracts import (
    Artifact,
    Capabilities,
    ExecutionConfig,
    NodePlacement,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    Session,
    SingleStream,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical
from edgeport.errors import PlanError, UnsupportedByBackend

__all__ = ["TensorRtBackend", "write_tensorrt"]

NAME = "tensorrt"
ENTRY = "model.engine"
SESSION = "edgeport.backends.tensorrt.session"


class TensorRtBackend:
    """TensorRT, or TensorRT-RTX where that is what is installed."""

    def capabilities(self) -> Capabilities:
        """See `Backend.capabilities`."""
        return capabilities_here()

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """See `Backend.compile`. The engine is for this GPU, or for `DEFAULT_TARGET` where it can't run here."""
        from edgeport.backends.tensorrt.build import EngineFromOnnx

        tensorrt = load_tensorrt()
        self._check(model, plan, execution)
        target = target_for(tensorrt, find_gpu())
        with artifact_folder(folder) as draft:
            with tempfile.TemporaryDirectory() as scratch:
                source = write_tensorrt(model, plan, Path(scratch) / "model.onnx")
                engine = EngineFromOnnx(tensorrt=tensorrt, target=target, batch=execution.batch)(source)
            key = {
                "runtime": tensorrt.name,
                "version": tensorrt.version,
                "compute_capability": target,
                "sha256": hashlib.sha256(engine.data).hexdigest(),
                "model": source.digest,
                "batch": execution.batch,
            }
            layers = [[layer.name, layer.operator, layer.dtype] for layer in engine.layers]
            (draft / ENTRY).write_bytes(engine.data)
            (draft / KEY_FILE).write_bytes(canonical({**key, "execution": to_jsonable(execution), "layers": layers}))
        return make_artifact(
            backend=NAME,
            folder=folder,
            entry=ENTRY,
            session=SESSION,
            settings={
                "device": 0,
                "engine": key,
                "inputs": [spec.name for spec in model.inputs],
                "outputs": [spec.name for spec in model.outputs],
            },
            precision=plan.precision,
            execution=execution,
        )

    def open(self, artifact: Artifact) -> Session:
        """See `Backend.open`.

        Raises:
            UnsupportedByBackend: Nothing here can run it.
            BackendError: The folder changed after it was compiled.

        """
        check_artifact(artifact)
        here = self.capabilities()
        if not here.can_run:
            raise UnsupportedByBackend(
                asked=f"run a TensorRT engine ({artifact.precision})",
                found=here.reason,
                fix="run it where a supported GPU is; until then it is built, not run",
            )
        return open_artifact(artifact)

    def placement(self, artifact: Artifact) -> Placement:
        """The layers of the network that was built; what each runs in is known only once it runs.

        Raises:
            BackendError: The folder changed after it was compiled.

        """
        layers = json.loads((check_artifact(artifact).parent / KEY_FILE).read_bytes())["layers"]
        nodes = tuple(_placed(name, operator, dtype, artifact) for name, operator, dtype in layers)
        return Placement(nodes=nodes, source="parsed network: built, not run")

    def _check(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig) -> None:
        integer = not plan.precision.is_float
        if plan.model_digest != model.digest or (integer and plan.dialect != DIALECT):
            raise PlanError(
                asked=f"compile {model.path.name} ({model.digest[:12]}) in the dialect {DIALECT!r}",
                found=f"a plan for a model of digest {plan.model_digest[:12]} in the dialect {plan.dialect!r}",
                fix="plan again for this model and this backend",
            )
        precisions = self.capabilities().precisions
        for precision in sorted({plan.default, *plan.nodes.values()}):
            if not precisions[precision].available:
                raise UnsupportedByBackend(
                    asked=f"compile in {precision} for TensorRT",
                    found=precisions[precision].reason,
                    fix="ask for a precision that `edgeport doctor` lists for this machine",
                )
        if integer and plan.default is not Precision.FP32:
            raise UnsupportedByBackend(
                asked=f"run integer nodes beside {plan.default} ones",
                found="that Edgeport writes int8 for TensorRT beside fp32 only",
                fix="leave the plan's default at fp32",
            )
        if not isinstance(execution.layout, SingleStream):
            raise UnsupportedByBackend(
                asked=f"compile for {execution.layout.kind} execution",
                found="that this backend runs one call after another",
                fix="leave the layout at single-stream",
            )


def write_tensorrt(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
    """The model as TensorRT's parser gets it: as it is, with Q/DQ, or with its floats halved.

    Raises:
        AlreadyQuantizedError, PlanError: See `write_plan`.
        UnsupportedByBackend: A weight that float16 can't hold.

    """
    if not plan.precision.is_float:
        from edgeport.backends.qdq.read_pairs import read_pairs_only
        from edgeport.backends.qdq.write import write_plan
        from edgeport.onnx_files import read_ir

        return write_plan(model, read_pairs_only(read_ir(model).graph, plan, rules()), rules(), path)
    if plan.default is Precision.FP16:
        from edgeport.backends.tensorrt.half import write_half

        return write_half(model, path)
    return model


def _placed(name: str, operator: str, dtype: str, artifact: Artifact) -> NodePlacement:
    """A layer without a precision: nothing ran, so nothing ran in one."""
    return NodePlacement(
        name=name,
        operator=operator,
        device="GPU",
        precision="",
        origin=(name,),
        reason="" if operator in _MOVES else f"built as {artifact.precision} (its output is {dtype}), not run",
    )


_MOVES = frozenset(
    ("CONSTANT", "QUANTIZE", "DEQUANTIZE", "SHUFFLE", "CAST", "IDENTITY", "SHAPE", "SLICE", "GATHER", "CONCATENATION")
)
