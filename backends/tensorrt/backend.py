"""The TensorRT backend: builds engines wherever it can, runs them where their GPU is."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from edgeport.backends.artifacts import artifact_folder, check_artifact, make_artifact
from edgeport.backends.compile_checks import check_request
from edgeport.backends.session_errors import open_artifact
from edgeport.backends.tensorrt.capabilities import (
    capabilities_here,
    capabilities_of_all,
    check_float8,
    device_of,
    target_for,
)
from edgeport.backends.tensorrt.engine_options import EngineOptions, engine_options
from edgeport.backends.tensorrt.placement import placement_of_engine, placement_of_network
from edgeport.backends.tensorrt.rules import rules
from edgeport.backends.tensorrt.runtime import Gpu, TensorRt, find_gpu, load_tensorrt
from edgeport.backends.tensorrt.session import KEY_FILE, MODEL_FILE, digests_of, inspect_engine
from edgeport.contracts import (
    Artifact,
    Capabilities,
    ExecutionConfig,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    Session,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["TensorRtBackend", "write_tensorrt"]

NAME = "tensorrt"
ENTRY = "model.engine"
SESSION = "edgeport.backends.tensorrt.session"


class TensorRtBackend:
    """TensorRT, or TensorRT-RTX where that is what is installed."""

    def capabilities(self) -> Capabilities:
        """See `Backend.capabilities`."""
        return capabilities_of_all()

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """See `Backend.compile`. The engine is for this GPU, or for `DEFAULT_TARGET` where it can't run here.

        What it is built from ships beside it, so that it can be built again where it is foreign.
        """
        from edgeport.backends.tensorrt.build import EngineFromOnnx

        if execution.huge_pages:
            raise UnsupportedByBackend(
                asked=f"run {model.path.name} with huge pages on TensorRT",
                found="that what it computes with lies in the GPU's memory",
                fix="leave huge_pages unset for this backend",
            )
        tensorrt = load_tensorrt()
        options = engine_options(execution.runtime_device, tensorrt)
        if options.device:  # of the first, the next line says what there is
            _gpu_for(tensorrt, options.device)
        check_request(model, plan, execution, capabilities_here(options.device), name="TensorRT")
        about = _about(tensorrt, options, plan)
        with artifact_folder(folder) as draft:
            with tempfile.TemporaryDirectory() as scratch:
                source = write_tensorrt(model, plan, Path(scratch) / "model.onnx")
                build = EngineFromOnnx(
                    tensorrt=tensorrt,
                    target=str(about["compute_capability"]),
                    batch=execution.batch,
                    axes=options.axes,
                    flags=options.flags,
                    about=about,
                )
                with tensorrt.building_for(options.device):
                    engine = build(source)
                write_ir(read_ir(source), draft / MODEL_FILE)
            key = {
                **about,
                "sha256": hashlib.sha256(engine.data).hexdigest(),
                "model": source.digest,
                "source": digests_of(draft / MODEL_FILE),
                "profiles": [
                    {name: [list(shape) for shape in shapes] for name, shapes in profile.items()}
                    for profile in engine.profiles
                ],
            }
            layers = [[layer.name, layer.operator, layer.takes] for layer in engine.layers]
            (draft / ENTRY).write_bytes(engine.data)
            (draft / KEY_FILE).write_bytes(canonical({**key, "execution": to_jsonable(execution), "layers": layers}))
        return make_artifact(
            backend=NAME,
            folder=folder,
            entry=ENTRY,
            session=SESSION,
            settings={
                "device": options.device,
                "engine": key,
                "inputs": [spec.name for spec in model.inputs],
                "outputs": [spec.name for spec in model.outputs],
            },
            precision=plan.precision,
            execution=execution,
        )

    def effective_plan(self, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
        """See `PlanReducing`."""
        from edgeport.backends.qdq.qdq_pruning import read_pairs_only

        return read_pairs_only(read_ir(model).graph, plan, rules())

    def open(self, artifact: Artifact) -> Session:
        """See `Backend.open`.

        Raises:
            UnsupportedByBackend: Nothing here can run it.
            BackendError: The folder changed after it was compiled.

        """
        check_artifact(artifact)
        here = capabilities_here(device_of(artifact))
        if not here.can_run:
            raise UnsupportedByBackend(
                asked=f"run a TensorRT engine ({artifact.precision})",
                found=here.reason,
                fix="run it where a supported GPU is; until then it is built, not run",
            )
        return open_artifact(artifact)

    def placement(self, artifact: Artifact) -> Placement:
        """The engine's kernels where it can be opened, else the layers that it was built from.

        Raises:
            BackendError: The folder changed after it was compiled, or TensorRT refused the engine.

        """
        entry = check_artifact(artifact)
        if not capabilities_here(device_of(artifact)).can_run:
            return placement_of_network(entry.parent)
        try:
            return placement_of_engine(inspect_engine(str(entry), artifact.settings))
        except (RuntimeError, ImportError) as error:
            raise BackendError(
                asked=f"read what TensorRT made of {artifact.precision}",
                found=str(error),
                fix="compile it again; `edgeport doctor` tells which runtimes work here",
            ) from error


def _about(tensorrt: TensorRt, options: EngineOptions, plan: QuantizationPlan) -> dict[str, object]:
    """What an engine that is built here is bound to; one that is built without a GPU is for none in particular.

    Raises:
        UnsupportedByBackend: No GPU of the number that is asked for, or one that does not have what the plan needs.

    """
    gpu = _gpu_for(tensorrt, options.device)
    bound = gpu if isinstance(gpu, Gpu) and not tensorrt.needs_no_gpu else None
    target = options.flags.get("capabilities", target_for(tensorrt, gpu, plan.precision))
    if plan.precision is Precision.FP8:
        check_float8(target)
    return {
        "runtime": tensorrt.name,
        "version": tensorrt.version,
        "compute_capability": target,
        "gpu": bound.name if bound else "",
        "driver": bound.driver if bound else "",
        "flags": dict(options.flags),
    }


def _gpu_for(tensorrt: TensorRt, device: int) -> Gpu | str:
    """The GPU of that number, or why there is none, where engines are built without one, too.

    Raises:
        UnsupportedByBackend: There is none, and it builds on its GPU only.

    """
    gpu = find_gpu(device)
    if isinstance(gpu, str) and not tensorrt.needs_no_gpu:
        raise UnsupportedByBackend(
            asked=f"build an engine for GPU {device}", found=gpu, fix="name one that is there (GPU:device=0)"
        )
    return gpu


def write_tensorrt(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
    """The model as TensorRT's parser gets it: as it is, with Q/DQ, with narrow weights, and every node's float in it.

    Raises:
        AlreadyQuantizedError, PlanError: See `write_plan`.
        UnsupportedByBackend: A number that a float can't hold, or a graph that can't be retyped.

    """
    if not plan.precision.is_float:
        from edgeport.backends.qdq.qdq_pruning import read_pairs_only
        from edgeport.backends.qdq.write import write_plan

        model = write_plan(model, read_pairs_only(read_ir(model).graph, plan, rules()), rules(), path)
    floats = {plan.default, *(one for one in plan.nodes.values() if one.is_float)}
    if floats == {Precision.FP32}:
        return model
    from edgeport.backends.float_precision import write_floats

    typed = path if plan.precision.is_float else path.with_name(f"typed-{path.name}")
    return write_floats(model, typed, plan.default, plan.nodes)
