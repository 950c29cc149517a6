"""Third-party backends whose speed and faults are known, as `module:factory`."""

import json

from edgeport.backends.artifacts import make_artifact
from edgeport.contracts import (
    Capabilities,
    NodePlacement,
    OperatorRule,
    Placement,
    Precision,
    QuantizationRules,
    Support,
)
from edgeport.onnx_files import read_ir

BASE_NS = 2_000_000
FLOATS = (Precision.FP32,)


class PlantedBackend:
    """One without `floats` has integers only, so that no baseline is added beside it."""

    def __init__(
        self,
        name,
        *,
        floats=(),
        float_ns=BASE_NS,
        bf16_ns=BASE_NS,
        integer_ns=BASE_NS,
        compile_crash=False,
        idle=False,
        **faults,
    ):
        self._idle = idle
        self._floats, self._bf16_ns = floats, bf16_ns
        self._name, self._float_ns, self._integer_ns = name, float_ns, integer_ns
        self._compile_crash, self._faults = compile_crash, faults

    def capabilities(self):
        return Capabilities(
            backend=self._name,
            version="1",
            installed=True,
            can_run=True,
            precisions={
                precision: Support(available=True)
                for precision in (*self._floats, Precision.INT8, Precision.INT8_DYNAMIC)
            },
            rules=QuantizationRules(
                dialect=self._name,
                activation_dtype="uint8",
                activation_symmetric=False,
                operators={"MatMul": OperatorRule(weight=1, weight_axis=1)},
                dynamic_operators=("MatMul",),
            ),
        )

    def compile(self, model, plan, execution, folder):
        if self._compile_crash and not plan.precision.is_float:
            import ctypes

            ctypes.string_at(0)
        weight = read_ir(model).graph.initializers["weight"].const_value.numpy()
        (folder / "weight.json").write_text(json.dumps(weight.tolist()), encoding="utf-8")
        is_float = plan.precision.is_float
        float_ns = self._bf16_ns if plan.precision is Precision.BF16 else self._float_ns
        settings = {"busy_ns": float_ns} if is_float else {"busy_ns": self._integer_ns, **self._faults}
        if self._idle:
            settings["idle"] = True
        return make_artifact(
            backend=self._name,
            folder=folder,
            entry="weight.json",
            session="planted_session",
            settings=settings,
            precision=plan.precision,
            execution=execution,
        )

    def open(self, artifact):
        raise NotImplementedError

    def placement(self, artifact):
        precision = "fp32" if artifact.precision.is_float else "int8"
        node = NodePlacement(name="scores", operator="MatMul", device="CPU", precision=precision)
        return Placement(nodes=(node,), source="planted")


def base():
    return PlantedBackend("base", floats=FLOATS)


def faster():
    return PlantedBackend("faster", integer_ns=BASE_NS * 7 // 10)


def slower():
    return PlantedBackend("slower", integer_ns=BASE_NS * 103 // 100)


def equal():
    return PlantedBackend("equal")


def crashing():
    return PlantedBackend("crashing", crash=True)


def crashing_while_compiling():
    return PlantedBackend("crashing_while_compiling", compile_crash=True)


def hanging():
    return PlantedBackend("hanging", hang=True)


def nan():
    return PlantedBackend("nan", integer_ns=BASE_NS // 2, nan=True)


def idle():
    return PlantedBackend("idle", floats=FLOATS, idle=True)


def brain():
    """Its bf16 is the fastest of all, its float32 the slowest."""
    return PlantedBackend(
        "brain",
        floats=(Precision.FP32, Precision.BF16),
        float_ns=BASE_NS * 3 // 2,
        bf16_ns=BASE_NS // 2,
        integer_ns=BASE_NS * 7 // 10,
    )


def unloadable():
    raise OSError("libplanted.so.1: cannot open shared object file")
