"""Compiles for ONNX Runtime, opens, and tells what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.backends.artifacts import artifact_folder, make_artifact, with_settings
from edgeport.backends.compile_checks import check_opset
from edgeport.backends.onnxruntime.constants import (
    BROKEN_FUSION,
    ENTRY,
    FAST_BF16,
    LEVELS,
    LOWEST_VERSION,
    NAME,
    OWN_DOMAINS,
    QUANTIZED_BY_RUNTIME,
    SESSION,
    SLOW_FUSION,
    WEIGHT_QUANTIZER,
)
from edgeport.backends.onnxruntime.execution_options import SETTINGS, execution_settings, executions, places_of
from edgeport.backends.onnxruntime.rules import arm_rules, rules_for, x86_rules
from edgeport.backends.qdq.model_match import check_fits
from edgeport.backends.session_errors import open_artifact
from edgeport.contracts import (
    Accelerator,
    Artifact,
    Capabilities,
    ExecutionConfig,
    ExecutionSpace,
    ModelParallel,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    Session,
    Support,
)
from edgeport.errors import DependencyError, UnsupportedByBackend
from edgeport.hardware import cpu_flags, has_vnni, is_arm64, is_elsewhere
from edgeport.isolation.memory import give_back_of
from edgeport.isolation.protocol import is_out_of_memory

__all__ = ["OnnxRuntimeBackend"]

_CUDA = Accelerator(
    listed="CUDAExecutionProvider",
    runtime_device="CUDA",
    package="onnxruntime",
    library="capi/*onnxruntime_providers_cuda.*",  # its setup.py: lib*.so, or *.dll
)


class OnnxRuntimeBackend:
    """See `Backend`."""

    def capabilities(self) -> Capabilities:
        """What this machine's ONNX Runtime can do; never raises."""
        try:
            ort = _import_runtime()
            precisions = _precisions()
            providers = _providers()
        except DependencyError as error:
            return Capabilities(backend=NAME, reason=error.reason)
        return Capabilities(
            backend=NAME,
            version=ort.__version__,
            installed=True,
            can_run=True,
            precisions=precisions,
            rules=default_rules(),
            devices=tuple(providers),
            unusable=_unusable(),
            layouts=("single-stream", "data-parallel", "model-parallel"),
            highest_opset=_highest_opset(),
        )

    def compile(self, model: OnnxModel, plan: QuantizationPlan, execution: ExecutionConfig, folder: Path) -> Artifact:
        """Writes `folder`: `model.onnx`, and its external data where it is large.

        Raises:
            UnsupportedByBackend: A precision, dialect, layout or operator that this runtime has not, or a node that it
                refuses.
            BackendError: It does not open what was written.
            ModelError: It can't be cut into so many stages.
            PlanError, AlreadyQuantizedError: The plan does not fit the model.
            DependencyError: ONNX Runtime is not installed.
            OutputError: `folder` is not empty.

        """
        _import_runtime()
        precision = plan.precision
        known = _precisions()
        for one in dict.fromkeys((precision, plan.default, *plan.nodes.values())):
            if not known[one].available:
                raise UnsupportedByBackend(
                    asked=f"compile {model.path.name} in {one} for ONNX Runtime",
                    found=known[one].reason,
                    fix="choose another precision, or a backend that has this one",
                )
        check_fits(model, plan)
        check_opset(model, _highest_opset(), name="ONNX Runtime")
        _require_one_float(model, plan)
        layout = execution.layout
        places = places_of(execution)
        with artifact_folder(folder) as draft:
            give_back_of(model.path)
            skip = _write(model, plan, draft / ENTRY)
            give_back_of(model.path)  # before the runtime holds what was written
            settings = dict(_settings(plan.default, execution, skip))
            if not all(places):
                settings |= _opening(draft / ENTRY, skip, model)
            if isinstance(layout, ModelParallel):
                from edgeport.backends.onnxruntime.pipeline_stages import write_pipeline

                settings = write_pipeline(draft / ENTRY, model, execution, settings, places)
            elif len(places) > 1:
                settings["places"] = [dict(place) for place in places]
            else:
                settings |= places[0]
        return make_artifact(
            backend=NAME,
            folder=folder,
            entry=entry_of(settings, ENTRY),
            session=SESSION,
            settings=settings,
            precision=precision,
            execution=execution,
        )

    def open(self, artifact: Artifact) -> Session:
        """Opens it in this process.

        Raises:
            BackendError: The folder changed after it was compiled, or the runtime refused it.

        """
        _import_runtime()
        return open_artifact(artifact)

    def placement(self, artifact: Artifact) -> Placement:
        """What runs where, read back from the runtime's own optimised graph.

        Raises:
            BackendError: The folder changed after it was compiled, or the runtime refused it.

        """
        _import_runtime()
        from edgeport.backends.onnxruntime.placement import read_placement

        return read_placement(artifact)

    def packed(self, artifact: Artifact, form: str, folder: Path) -> tuple[Artifact, Placement]:
        """See `Packing`; the forms are those of `ort_format.FORMS`."""
        from edgeport.backends.onnxruntime.ort_format import pack

        return pack(artifact, form, folder)

    def placement_told(self, artifact: Artifact, told: Path) -> Placement:
        """See `PlacementElsewhere`.

        Raises:
            BackendError: The folder changed after it was compiled, or it holds something else.

        """
        from edgeport.backends.onnxruntime.placement import told_placement

        return told_placement(artifact, told)

    def effective_plan(self, model: OnnxModel, plan: QuantizationPlan) -> QuantizationPlan:
        """See `PlanReducing`: products that floats follow give floats."""
        from edgeport.backends.onnxruntime.passes.float_outputs import leave_ends_float
        from edgeport.onnx_files import read_ir

        return leave_ends_float(read_ir(model).graph, plan)

    def accelerators(self) -> Sequence[Accelerator]:
        """See `Accelerated`."""
        return (_CUDA,)

    def peak_execution(self, execution: ExecutionConfig) -> ExecutionConfig:
        """See `ProcessorPeak`."""
        return ExecutionConfig(threads=execution.threads, affinity=execution.affinity, spinning=execution.spinning)

    def executions(self, artifact: Artifact, space: ExecutionSpace) -> Sequence[ExecutionConfig]:
        """See `Tunable`; of a model in stages nothing, for other stages are other files, nor of replicas on devices."""
        return () if {"stages", "places"} & set(artifact.settings) else executions(space)

    def with_execution(self, artifact: Artifact, execution: ExecutionConfig) -> Artifact:
        """See `Tunable`.

        Raises:
            UnsupportedByBackend: A setting that it has not, stages, or streams in several places.

        """
        if "stages" in artifact.settings or isinstance(execution.layout, ModelParallel):
            raise UnsupportedByBackend(
                asked=f"run {artifact.entry} with {execution}",
                found="a model in stages, which are files of their own",
                fix="compile it again",
            )
        if "places" in artifact.settings:
            raise UnsupportedByBackend(
                asked=f"run {artifact.entry} with {execution}",
                found=f"streams with a place each ({artifact.execution.runtime_device})",
                fix="compile it again",
            )
        execution = replace(execution, runtime_device=artifact.execution.runtime_device)
        return with_settings(artifact, execution, SETTINGS, execution_settings(execution))


def default_rules() -> QuantizationRules:
    """The dialect for this machine's processor."""
    return arm_rules() if is_arm64() else x86_rules(vnni=has_vnni())


def _require_one_float(model: OnnxModel, plan: QuantizationPlan) -> None:
    """Raises where a node is to run in another float than the rest: which one it is, is a setting of the session.

    Or where float16 is to stand beside integers: no kernel takes both.
    """
    if plan.default is Precision.FP16 and not plan.precision.is_float:
        raise UnsupportedByBackend(
            asked=f"run what is not integer in {model.path.name} in fp16",
            found="that ONNX Runtime's integer kernels take and give float32",
            fix="leave the rest in fp32",
        )
    other = next(((name, one) for name, one in plan.nodes.items() if one.is_float and one is not plan.default), None)
    if other is not None:
        raise UnsupportedByBackend(
            asked=f"run node {other[0]!r} of {model.path.name} in {other[1]} beside others in {plan.default}",
            found=f"that ONNX Runtime's CPU provider has one float for a whole session: float32 on x86, on ARM64 also "
            f"bfloat16 products ({FAST_BF16})",
            fix=f"choose {plan.default} for the node, or {other[1]} for the rest; OpenVINO has both side by side",
        )


def entry_of(settings: Mapping[str, object], whole: str) -> str:
    """The file that is opened: the first of the stages, or the whole."""
    stages = settings.get("stages")
    return str(stages[0]["entry"]) if isinstance(stages, list) else whole


def _write(model: OnnxModel, plan: QuantizationPlan, path: Path) -> tuple[str, ...]:
    """Float models as they are, integer ones in our dialect; the runtime optimises both when it opens them.

    Nothing is optimised ahead. What the runtime would save below its extended level is what it makes of the file in
    a few milliseconds anyway; what it would save above is bound to its version and to this machine's instructions.

    Returns:
        Optimizers of the runtime that would undo what the plan says, or slow it down.

    """
    from edgeport.backends.onnxruntime.dialect import write_onnxruntime
    from edgeport.onnx_files import read_ir, refuse_custom_operators, write_ir

    graph = read_ir(model)
    asked = f"compile {model.path.name} for ONNX Runtime"
    refuse_custom_operators(graph, asked=asked, runtime="ONNX Runtime", known=OWN_DOMAINS)
    skip: tuple[str, ...] = (SLOW_FUSION,)
    if plan.default is Precision.FP16:
        from edgeport.backends.float_precision import write_floats

        write_floats(model, path, plan.default, plan.nodes)
        return skip
    if not plan.precision.is_float:
        rules = rules_for(plan.dialect, vnni=has_vnni())
        products = [node for node in graph.graph if node.op_type in QUANTIZED_BY_RUNTIME]
        if any(plan.nodes.get(node.name or "", plan.default).is_float for node in products):
            skip = (SLOW_FUSION, WEIGHT_QUANTIZER)
        write_onnxruntime(graph, plan, rules)
    write_ir(graph, path)
    return skip


def _opening(path: Path, skip: tuple[str, ...], model: OnnxModel) -> dict[str, object]:
    """Settings with which the runtime opens what was written, where it does not as it is.

    A fusion may break a graph; the fewest are left out. Where memory runs out no other settings are tried: that says
    nothing of the graph.

    Raises:
        UnsupportedByBackend: It opens at no level, for it has no such operator; the node is named.
        BackendError: The same, for another reason; or memory ran out.

    """
    from edgeport.backends.onnxruntime.load_errors import not_opened
    from edgeport.backends.onnxruntime.session_support.runtime_session import inference_session, session_options
    from edgeport.onnx_files import read_ir

    others: list[dict[str, object]] = [{}, {"skip": [*skip, BROKEN_FUSION]}]
    others += [{"optimization": level} for level in LEVELS[1:]]
    said: list[Exception] = []
    for other in others:
        settings: dict[str, object] = {"optimization": LEVELS[0], "skip": list(skip), **other}
        options = session_options({**settings, "threads": 1})
        try:
            inference_session(path, options, settings)
        except Exception as error:  # what is wrong with the file as it is, is said below
            if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
                raise not_opened(error, (), model.path.name) from error
            said.append(error)
            continue
        return other
    if is_elsewhere():  # where it is to run it may open
        return {}
    raise not_opened(said[0], read_ir(model).graph.all_nodes(), model.path.name) from said[0]


def _settings(floats: Precision, execution: ExecutionConfig, skip: tuple[str, ...]) -> Mapping[str, object]:
    """What `session.open_session` is told."""
    settings: dict[str, object] = {"optimization": "all"}
    if skip:
        settings["skip"] = list(skip)
    settings |= execution_settings(execution)
    if floats is Precision.BF16:
        settings["config"] = {FAST_BF16: "1"}
    return settings


def _precisions() -> dict[Precision, Support]:
    from edgeport.backends.onnxruntime.kernels import missing_float8, missing_int16, missing_kernel, missing_weights

    yes = Support(available=True)
    eight, four = (_if_nothing_misses(missing_weights(bits)) for bits in (8, 4))
    return {
        Precision.FP32: yes,
        Precision.BF16: _bf16(missing_kernel("bfloat16")),
        Precision.FP16: _fp16(missing_kernel("float16")),
        Precision.INT8: yes,
        Precision.INT8_DYNAMIC: yes,
        **{one: eight if one is Precision.INT8_WEIGHTS else four for one in Precision if one.weight_form is not None},
        Precision.FP8: _if_nothing_misses(missing_float8()),
        Precision.INT16: _if_nothing_misses(missing_int16()),
    }


def _providers() -> Sequence[str]:
    from edgeport.backends.onnxruntime.session_support.providers import known_providers

    return known_providers()


def _unusable() -> Mapping[str, str]:
    from edgeport.backends.onnxruntime.session_support.providers import unusable_plug_ins

    return unusable_plug_ins()


def _highest_opset() -> int | None:
    from edgeport.backends.onnxruntime.kernels import highest_opset

    return highest_opset()


def _if_nothing_misses(missing: str) -> Support:
    return Support(available=not missing, reason=missing)


def _fp16(missing: str) -> Support:
    """The runtime is asked for kernels, and only that of this machine can be."""
    if is_elsewhere():
        return Support(available=False, reason="only on the processor itself ONNX Runtime tells of its float16 kernels")
    return _if_nothing_misses(missing)


def _bf16(missing: str) -> Support:
    """On ARM64 float32 products can be computed in bfloat16; elsewhere there is no such switch."""
    if not is_arm64():
        return Support(
            available=False, reason=missing or "ONNX Runtime computes float32 models in bfloat16 on ARM64 only"
        )
    if "bf16" not in cpu_flags():
        return Support(available=False, reason="this processor has no bfloat16 instructions (no bf16 in /proc/cpuinfo)")
    return Support(available=True)


def _import_runtime() -> Any:
    """ONNX Runtime, in a version that this code knows.

    Raises:
        DependencyError: Not installed, too old, or it does not import.

    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise DependencyError(
            asked="use ONNX Runtime", found=f"that it does not import ({error})", fix="pip install onnxruntime"
        ) from error
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if version < LOWEST_VERSION:
        raise DependencyError(
            asked="use ONNX Runtime",
            found=f"version {ort.__version__}; this needs {'.'.join(map(str, LOWEST_VERSION))} or later",
            fix="pip install --upgrade onnxruntime",
        )
    return ort
