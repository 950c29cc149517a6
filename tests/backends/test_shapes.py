"""What people's networks are made of, in int8: close to float, and integer as far as the runtime has kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.registry import backend
from edgeport.calibration.collect import collect
from edgeport.calibration.data.arrays import ArraySamples
from edgeport.calibration.plan import make_plan
from edgeport.contracts import ExecutionConfig, kept_nodes
from edgeport.onnx_files import open_onnx, read_ir

SAME = "Conv<pads=[1,1,1,1]>"
IMAGE, SEQUENCE = (8, 12, 12), (12, 32)
CONV = {"w": (16, 8, 3, 3), "wb": (16,), "v": (8, 16, 3, 3), "vb": (8,)}
ENDS = f"c = {SAME}(x, w, wb)", f"y = {SAME}(t, v, vb)"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Nodes from x [batch, *shape] to y, and what each backend leaves in float (its `rules.py` says why).

    Weights are arrays, or the shapes of random ones; `result` is the shape of y.
    """

    id: str
    nodes: str
    weights: dict = field(default_factory=dict)
    shape: tuple[int, ...] = IMAGE
    dtype: str = "float"
    result: str = "batch,channels,height,width"
    onnxruntime: str = ""
    openvino: str = ""


def between(nodes: str) -> str:
    """Nodes from c to t, between two convolutions."""
    return f"{ENDS[0]} {nodes} {ENDS[1]}"


SQUEEZE = "g = GlobalAveragePool({0}) r = Conv(g, s1, s1b) {1} e = Conv({2}, s2, s2b) {3} t = Mul({0}, {4})"
SQUEEZE_WEIGHTS = CONV | {"s1": (4, 16, 1, 1), "s1b": (4,), "s2": (16, 4, 1, 1), "s2b": (16,)}
SHAPES = [
    # Two convolutions: OpenVINO writes the sum in place of its operand, which the last one must not read.
    Shape(id="residual add", weights=CONV | {"u": (16, 16, 3, 3)},
          nodes=between(f"r = Relu(c) d = {SAME}(r, u) q = Relu(d) e = {SAME}(q, u) a = Add(e, r) t = Relu(a)")),
    Shape(id="concat of branches with unlike ranges",
          weights=CONV | {"u": (8, 16, 1, 1), "k": np.full((8, 16, 1, 1), 30)},
          nodes=between("r = Relu(c) a = Conv(r, u) b = Conv(r, k) t = Concat<axis=1>(a, b)")),
    Shape(id="depthwise, relu6", weights=CONV | {"u": (16, 1, 3, 3), "low": np.zeros(()), "high": np.full((), 6.0)},
          nodes=between("r = Clip(c, low, high) d = Conv<pads=[1,1,1,1], group=16>(r, u) t = Clip(d, low, high)")),
    Shape(id="hard swish", weights=CONV, nodes=between("t = HardSwish(c)"), onnxruntime="HardSwish"),
    Shape(id="silu", weights=CONV, nodes=between("s = Sigmoid(c) t = Mul(c, s)")),
    Shape(id="max pool", weights=CONV, nodes=between("r = Relu(c) t = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)")),
    Shape(id="average pool", weights=CONV,
          nodes=between("r = Relu(c) t = AveragePool<kernel_shape=[2,2], strides=[2,2]>(r)")),
    Shape(id="nearest resize", weights=CONV | {"f": np.float32([1, 1, 2, 2])},
          nodes=between('r = Relu(c) t = Resize<mode="nearest">(r, , f)')),
    Shape(id="linear resize", weights=CONV | {"f": np.float32([1, 1, 2, 2])},
          nodes=between('r = Relu(c) t = Resize<mode="linear">(r, , f)'), onnxruntime="Resize", openvino="Resize"),
    Shape(id="transposed convolution", weights=CONV | {"u": (16, 16, 2, 2)},
          nodes=between("r = Relu(c) d = ConvTranspose<strides=[2,2]>(r, u) t = Relu(d)"),
          onnxruntime="ConvTranspose Relu"),
    Shape(id="grouped transposed convolution", weights=CONV | {"u": (16, 4, 2, 2)},
          nodes=between("r = Relu(c) d = ConvTranspose<strides=[2,2], group=4>(r, u) t = Relu(d)"),
          onnxruntime="ConvTranspose Relu", openvino="ConvTranspose Relu"),
    Shape(id="split", weights=CONV | {"u": (8, 8, 3, 3)},
          nodes=between("r = Relu(c) a, b = Split<axis=1, num_outputs=2>(r) "
                        f"d = {SAME}(a, u) t = Concat<axis=1>(d, b)")),
    Shape(id="squeeze and excitation, relu, sigmoid", weights=SQUEEZE_WEIGHTS, openvino="Mul",
          nodes=between("r0 = Relu(c) " + SQUEEZE.format("r0", "q = Relu(r)", "q", "h = Sigmoid(e)", "h"))),
    Shape(id="squeeze and excitation, relu, hard sigmoid", weights=SQUEEZE_WEIGHTS,
          onnxruntime="HardSigmoid", openvino="HardSigmoid Mul",
          nodes=between("r0 = Relu(c) " + SQUEEZE.format("r0", "q = Relu(r)", "q", "h = HardSigmoid(e)", "h"))),
    Shape(id="squeeze and excitation, silu", weights=SQUEEZE_WEIGHTS, openvino="Mul",
          nodes=between("s0 = Sigmoid(c) r0 = Mul(c, s0) "
                        + SQUEEZE.format("r0", "p = Sigmoid(r) q = Mul(r, p)", "q", "h = Sigmoid(e)", "h"))),
    Shape(id="pooled Gemm head", result="batch,10", weights=CONV | {"k": (10, 16), "kb": (10,)},
          nodes=f"{ENDS[0]} r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB=1>(f, k, kb)"),
    Shape(id="layer norm, MatMul", shape=SEQUENCE, result="batch,12,32",
          onnxruntime="LayerNormalization Gelu", openvino="LayerNormalization",
          weights={"one": np.ones(32), "zero": np.zeros(32), "k": (32, 64), "kb": (64,), "m": (64, 32), "mb": (32,)},
          nodes="n = LayerNormalization(x, one, zero) a = MatMul(n, k) b = Add(a, kb) h = Gelu(b) "
                "d = MatMul(h, m) y = Add(d, mb)"),
    Shape(id="softmax attention with a mask", shape=SEQUENCE, result="batch,12,8",
          onnxruntime="Add Softmax", openvino="MatMul Add Softmax MatMul",
          weights={"k": (32, 32), "m": (32, 32), "o": (32, 8), "mask": np.triu(np.full((12, 12), -1e4), 1)},
          nodes="q = MatMul(x, k) p = MatMul(x, m) pt = Transpose<perm=[0,2,1]>(p) a = MatMul(q, pt) b = Add(a, mask) "
                "s = Softmax(b) c = MatMul(s, x) y = MatMul(c, o)"),
    Shape(id="embedding", shape=(12,), dtype="int64", result="batch,12,8", onnxruntime="Gather", openvino="Gather",
          weights={"table": (50, 32), "k": (32, 64), "kb": (64,), "m": (64, 8)},
          nodes="e = Gather(table, x) a = MatMul(e, k) b = Add(a, kb) r = Relu(b) y = MatMul(r, m)"),
    Shape(id="where", weights=CONV | {"zero": np.zeros(())}, onnxruntime="Greater Where", openvino="Greater Where",
          nodes=between("g = Greater(c, zero) t = Where(g, c, zero)")),
    Shape(id="LSTM", shape=SEQUENCE, result="12,batch,8",
          onnxruntime="Transpose LSTM Squeeze", openvino="Transpose LSTM Squeeze",
          weights={"k": (1, 64, 32), "h": (1, 64, 16), "m": (16, 8), "axes": np.array([1])},
          nodes="t = Transpose<perm=[1,0,2]>(x) l, h1, c1 = LSTM<hidden_size=16>(t, k, h) s = Squeeze(l, axes) "
                "y = MatMul(s, m)"),
    # Bodies stay float, with the weights that they share with integer nodes outside; all around them is integer.
    Shape(id="If", weights=CONV | {"u": (16, 16, 3, 3), "zero": np.zeros(())},
          onnxruntime="ReduceMax Greater If", openvino="ReduceMax Greater If",
          nodes=between(f"r = Relu(c) d = {SAME}(r, u) p = ReduceMax<keepdims=0>(d) g = Greater(p, zero) "
                        f"t = If(g) <then_branch = a () => (float[batch,16,12,12] at) {{ at = {SAME}(d, u) }}, "
                        "else_branch = b () => (float[batch,16,12,12] bt) { bt = Neg(d) }>")),
    Shape(id="Loop", weights=CONV | {"u": (16, 16, 3, 3), "times": np.array(3)},
          onnxruntime="Loop", openvino="Loop",
          nodes=between(f"r = Relu(c) d = {SAME}(r, u) t = Loop(times, , d) <body = l (int64 i, bool k, "
                        "float[batch,16,12,12] s) => (bool k1, float[batch,16,12,12] s1) "
                        f"{{ k1 = Identity(k) s1 = {SAME}(s, u) }}>")),
    Shape(id="Scan", shape=SEQUENCE, result="12,batch,8", weights={"k": (32, 32), "m": (32, 8)},
          onnxruntime="Scan", openvino="Scan",
          nodes="a = MatMul(x, k) t = Transpose<perm=[1,0,2]>(a) s = Scan<num_scan_inputs=1, body = l "
                "(float[batch,32] e) => (float[batch,32] o) { o = MatMul(e, k) }>(t) y = MatMul(s, m)"),
]  # fmt: skip


def model_of(case, path):
    rng = np.random.default_rng(3)
    weights = {}
    for name, value in case.weights.items():
        if isinstance(value, tuple):
            weights[name] = np.float32(rng.standard_normal(value) * (2 / max(1, int(np.prod(value[1:])))) ** 0.5)
        else:
            weights[name] = value if name in ("axes", "times") else np.float32(value)
    sizes = ",".join(map(str, case.shape))
    text = f"g ({case.dtype}[batch,{sizes}] x) => (float[{case.result}] y)"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text} {{ {case.nodes} }}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    for node in proto.graph.node:
        node.name = f"{node.output[0]}:{node.op_type}"
    path.write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())
    return open_onnx(path)


def samples_of(case, count):
    rng = np.random.default_rng(7)
    if case.dtype == "int64":
        return {"x": rng.integers(0, 50, (count, *case.shape))}
    return {"x": np.clip(rng.standard_normal((count, *case.shape)), -3, 3).astype(np.float32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each model, its calibration, and what float32 gives: once for both backends."""
    known = {}

    def make(case):
        if case.id not in known:
            model = model_of(case, tmp_path_factory.mktemp("shape") / "model.onnx")
            feeds = {"x": samples_of(case, 24)["x"][:8]}
            with open_reference(model.path) as run:
                expected = run(feeds)["y"]
            known[case.id] = model, collect(model, ArraySamples(samples_of(case, 24)), open_reference), feeds, expected
        return known[case.id]

    return make


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("case", SHAPES, ids=lambda case: case.id)
def test_int8_is_close_and_as_planned(case, runtime, made, tmp_path):
    there = backend(runtime)
    known = there.capabilities()
    if not known.can_run:
        pytest.skip(f"{runtime}: {known.reason}")
    model, calibration, feeds, expected = made(case)
    plan = make_plan(model, calibration, known.rules)
    left = [node.op_type for node in read_ir(model).graph if node.name not in plan.nodes]
    assert " ".join(left) == getattr(case, runtime)

    artifact = there.compile(model, plan, ExecutionConfig(threads=1, batch=8), tmp_path / "artifact")
    session = there.open(artifact)
    call = session.bind(feeds)
    call.run()
    error = call.outputs()["y"] - expected
    session.close()
    sqnr_db = 10 * np.log10(np.square(expected).sum() / np.square(error).sum())
    assert sqnr_db > 25, f"{sqnr_db:.1f} dB"

    kept = kept_nodes(plan, there.placement(artifact))
    assert kept.lost == ()
    assert kept.share == 1.0
