"""Small models, dialects and the runtime that runs them, for every test of calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeport.calibration.graph import constant_of
from edgeport.contracts import (
    Array,
    Arrays,
    Calibration,
    OnnxModel,
    OpenModel,
    OperatorRule,
    QuantizationPlan,
    QuantizationRules,
    RunModel,
    WeightQuantization,
)
from edgeport.onnx_files import read_ir


@contextmanager
def _open_model(path: Path) -> Iterator[RunModel]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Arrays) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    yield run


def _random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _dialect(
    *operators: str, symmetric: bool = False, fused: Sequence[str] = ("Relu", "Clip"), per_channel: bool = True
) -> QuantizationRules:
    one, moved, every = OperatorRule(), OperatorRule(same_scale=True), OperatorRule(inputs=(-1,))
    known = {
        "Conv": OperatorRule(weight=1, weight_axis=0, bias=2),
        "Gemm": OperatorRule(weight=1, weight_axis=0, bias=2),
        "MatMul": OperatorRule(inputs=(0, 1), weight=1, weight_axis=-1),
        **dict.fromkeys(("Add", "Mul", "Concat"), every),
        **dict.fromkeys(("Sigmoid", "GlobalAveragePool"), one),
        **dict.fromkeys(("Reshape", "MaxPool", "Flatten", "Transpose", "Gather"), moved),
        "Split": OperatorRule(outputs=(-1,), same_scale=True),
    }
    return QuantizationRules(
        dialect="test",
        activation_dtype="int8" if symmetric else "uint8",
        activation_symmetric=symmetric,
        weight_per_channel=per_channel,
        operators={name: known[name] for name in operators or known},
        fused=dict.fromkeys(("Conv", "Gemm", "MatMul", "Add"), tuple(fused)),
        dynamic_operators=("MatMul", "Gemm"),
    )


def _assert_fits(plan: QuantizationPlan, model: OnnxModel) -> None:
    graph = read_ir(model).graph
    tensors = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    tensors |= {value.name: value for node in graph for value in node.outputs}
    assert plan.model_digest == model.digest
    assert set(plan.nodes) <= {node.name for node in graph}
    assert set(plan.activations) <= set(tensors)
    assert set(plan.weights) <= set(graph.initializers)
    for name, weight in plan.weights.items():
        array = constant_of(tensors[name])
        assert array is not None
        assert weight.axis is None or 0 <= weight.axis < array.ndim


@pytest.fixture(scope="session")
def assert_fits() -> Callable[[QuantizationPlan, OnnxModel], None]:
    """`assert_fits(plan, model)`: all that the plan names is in the model."""
    return _assert_fits


@pytest.fixture(scope="session")
def open_model() -> OpenModel:
    """ONNX Runtime, one thread."""
    return _open_model


@pytest.fixture(scope="session")
def random() -> Callable[..., Array]:
    """`random(*shape, seed=0)`: float32, normal."""
    return _random


@pytest.fixture(scope="session")
def dialect() -> Callable[..., QuantizationRules]:
    """`dialect(*operators, symmetric=False, ...)`: rules like ONNX Runtime's, cut down to the operators."""
    return _dialect


@pytest.fixture
def model_text(tmp_path: Path) -> Callable[..., OnnxModel]:
    """`model_text(graph, weights)`: a model from ONNX text (https://onnx.ai/onnx/repo-docs/Syntax.html).

    A node is called after its first output, "c:Conv"; no type of an inner tensor is written down.
    """

    def write(graph: str, weights: Mapping[str, Array] | None = None) -> OnnxModel:
        import onnx

        from edgeport.onnx_files import open_onnx

        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "other": 1]> g {graph}')
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in (weights or {}).items())
        for node in proto.graph.node:
            node.name = f"{node.output[0]}:{node.op_type}"
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}.onnx"
        path.write_bytes(proto.SerializeToString())
        return open_onnx(path)

    return write


def _noise(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture
def graph(model_text: Callable[..., OnnxModel]) -> Callable[..., OnnxModel]:
    """`graph(nodes)`: a model of the given nodes from x float [batch, *shape] to z.

    `Conv3` stands for a padded convolution; w, v and u are weights for it.
    """
    weights = {name: _noise(4, 4, 3, 3) for name in "wvu"}

    def write(nodes: str, constants: Mapping[str, Array] | None = None, shape: Sequence[int] = (4, 6, 6)) -> OnnxModel:
        sizes = ",".join(map(str, shape))
        free = ",".join(f"n{i}" for i in range(len(shape)))
        known = {name: array for name, array in weights.items() if f" {name} = " not in f" {nodes}"} | dict(
            constants or {}
        )
        used = {name: array for name, array in known.items() if f"{name})" in nodes or f"{name}," in nodes}
        nodes = nodes.replace("Conv3(", "Conv<pads=[1,1,1,1]>(")
        return model_text(f"(float[batch,{sizes}] x) => (float[batch,{free}] z) {{ {nodes} }}", used)

    return write


def _calibration_of(model: OnnxModel, **values: object) -> Calibration:
    from edgeport.calibration.collect import watchable
    from edgeport.calibration.observers import OBSERVERS

    statistics = {}
    for index, name in enumerate(watchable(model)):
        observers = {key: observer() for key, observer in OBSERVERS.items()}
        for observer in observers.values():
            observer.update(np.array(values.get(name, (-1.0 - index, 1.0 + index)), np.float32))
        statistics[name] = {key: observer.state() for key, observer in observers.items()}
    return Calibration(model_digest=model.digest, samples_fingerprint="f", sample_count=2, statistics=statistics)


@pytest.fixture(scope="session")
def calibration_of() -> Callable[..., Calibration]:
    """Statistics of every tensor, from two values each: -1 - i and 1 + i for the i-th, or what `values` says."""
    return _calibration_of


def _as_text(weights: Mapping[str, WeightQuantization]) -> str:
    return " ".join(f"{n}/{w.axis}" + ("" if w.dtype == "int8" else f"/{w.dtype}") for n, w in weights.items())


@pytest.fixture(scope="session")
def as_text() -> Callable[..., str]:
    """Weights of a plan as "name/axis", with the type where it is not int8."""
    return _as_text
