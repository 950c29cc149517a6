"""Blocks of known architectures in int8: what really runs as integers, read back from each runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from edgeport.backends import onnxruntime, openvino
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.calibration.collect import collect
from edgeport.calibration.data.arrays import ArraySamples
from edgeport.calibration.plan import make_plan
from edgeport.contracts import ExecutionConfig, OnnxModel

BACKENDS = {"onnxruntime": onnxruntime.create_backend(), "openvino": openvino.create_backend()}
PRODUCTS = ("Conv", "Gemm", "MatMul", "LSTM")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A graph from x to y.

    Attributes:
        text: Its nodes, each called after its output.
        shape: Of x, behind the batch.
        constants: By name: a shape, of weights, or an array.
        floats: Products that OpenVINO keeps in float: attention is one kernel with its Softmax, and LSTM has none in
            integers.
        fused: Node to the product of whose integer kernel it is a part.

    """

    text: str
    shape: tuple[int, ...]
    constants: Mapping[str, tuple[int, ...] | np.ndarray]
    floats: frozenset[str] = frozenset()
    fused: Mapping[str, str] = field(default_factory=dict)


SAME = "kernel_shape=[3,3], pads=[1,1,1,1]"
ZERO, SIX = np.float32(0), np.float32(6)
TRANSFORMER = """
    n = LayerNormalization(x, ones, zeros)
    q = MatMul(n, wq)  k = MatMul(n, wk)  v = MatMul(n, wv)
    kt = Transpose<perm=[0,2,1]>(k)
    s = MatMul(q, kt)  d = Mul(s, scale)  p = Softmax<axis=-1>(d)
    o = MatMul(p, v)  a = MatMul(o, wo)  r = Add(a, x)
    m = LayerNormalization(r, ones, zeros)
    u = MatMul(m, wu)  ub = Add(u, bu)  g = Gelu(ub)  e = MatMul(g, we)  y = Add(e, r)
"""
PROJECTIONS = {**dict.fromkeys(("wq", "wk", "wv", "wo"), (32, 32)), "wu": (32, 64), "bu": (64,), "we": (64, 32)}
NORM = {"ones": np.ones(32, np.float32), "zeros": np.zeros(32, np.float32), "scale": np.float32(0.18)}
ATTENTION = frozenset({"s", "o"})

BLOCKS = {
    "cnn": Block(
        text=f"a = Conv<{SAME}>(x, w, b) r = Relu(a) c = Conv<{SAME}>(r, v) s = Add(c, r) t = Relu(s) y = Conv(t, u)",
        shape=(16, 8, 8),
        constants={"w": (16, 16, 3, 3), "b": (16,), "v": (16, 16, 3, 3), "u": (8, 16, 1, 1)},
        fused={"r": "a"},
    ),
    "depthwise, clip": Block(
        text=f"e = Conv(x, w) f = Clip(e, zero, six) d = Conv<{SAME}, group=32>(f, v) c = Clip(d, zero, six) "
        "y = Conv(c, u)",
        shape=(16, 8, 8),
        constants={"w": (32, 16, 1, 1), "v": (32, 1, 3, 3), "u": (16, 32, 1, 1), "zero": ZERO, "six": SIX},
        fused={"f": "e", "c": "d"},
    ),
    "depthwise, hard-swish": Block(
        text=f"e = Conv(x, w) f = HardSwish(e) d = Conv<{SAME}, group=32>(f, v) c = HardSwish(d) y = Conv(c, u)",
        shape=(16, 8, 8),
        constants={"w": (32, 16, 1, 1), "v": (32, 1, 3, 3), "u": (16, 32, 1, 1)},
    ),
    "squeeze and excitation": Block(
        text=f"d = Conv<{SAME}, group=16>(x, v) r = Relu(d) g = GlobalAveragePool(r) f = Conv(g, w1) h = Relu(f) "
        "i = Conv(h, w2) s = Sigmoid(i) m = Mul(r, s) y = Conv(m, u)",
        shape=(16, 8, 8),
        constants={"v": (16, 1, 3, 3), "w1": (8, 16, 1, 1), "w2": (16, 8, 1, 1), "u": (16, 16, 1, 1)},
        fused={"r": "d"},
    ),
    "vision transformer": Block(
        text="c = Conv<kernel_shape=[4,4], strides=[4,4]>(image, wp) h = Reshape(c, flat) "
        f"x = Transpose<perm=[0,2,1]>(h) {TRANSFORMER}",
        shape=(3, 16, 16),
        constants={**PROJECTIONS, **NORM, "wp": (32, 3, 4, 4), "flat": np.array([0, 32, -1])},
        floats=ATTENTION,
    ),
    "transformer": Block(text=TRANSFORMER, shape=(8, 32), constants={**PROJECTIONS, **NORM}, floats=ATTENTION),
    "lstm": Block(
        text="i = MatMul(x, w) t = Transpose<perm=[1,0,2]>(i) l, h, c = LSTM<hidden_size=16>(t, wi, wr) "
        "s = Squeeze(l, one) y = MatMul(s, u)",
        shape=(8, 32),
        constants={"w": (32, 32), "wi": (1, 64, 32), "wr": (1, 64, 16), "u": (16, 8), "one": np.array([1])},
        floats=frozenset({"l"}),
    ),
    "detector: resize, concat": Block(
        text=f"a = Conv<{SAME}>(x, w) r = Relu(a) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) "
        f'd = Conv<{SAME}>(p, v) e = Relu(d) z = Resize<mode="nearest">(e, , sizes) n = Concat<axis=1>(z, r) '
        "f = Conv(n, u) y = Sigmoid(f)",
        shape=(16, 8, 8),
        constants={
            "w": (16, 16, 3, 3),
            "v": (16, 16, 3, 3),
            "u": (8, 32, 1, 1),
            "sizes": np.array([1, 1, 2, 2], np.float32),
        },
        fused={"r": "a", "e": "d"},
    ),
}


def written(block: Block, path) -> OnnxModel:
    import onnx

    from edgeport.onnx_files import open_onnx

    entry = "image" if "(image" in block.text else "x"
    sizes = ",".join(map(str, block.shape))
    output = ",".join(f"n{axis}" for axis in range(4 if len(block.shape) == 3 and entry == "x" else 3))
    text = f"g (float[1,{sizes}] {entry}) => (float[{output}] y) {{ {block.text} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    random = np.random.default_rng(0)
    for name, given in block.constants.items():
        array = np.asarray(given)
        if isinstance(given, tuple):
            fan_in = max(array.prod() // given[0], 1) if len(given) == 4 else given[-2] if len(given) > 1 else 1
            array = (random.standard_normal(given) / np.sqrt(fan_in)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, path)
    return open_onnx(path)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_product_runs_as_integers(block, backend, tmp_path):
    known = backend.capabilities()
    if not known.can_run:
        pytest.skip(known.reason)
    model = written(block, tmp_path / "block.onnx")
    entry = model.inputs[0].name
    samples = ArraySamples({entry: np.random.default_rng(1).standard_normal((16, *block.shape)).astype(np.float32)})
    plan = make_plan(model, collect(model, samples, open_reference), known.rules)
    artifact = backend.compile(model, plan, ExecutionConfig(threads=1), tmp_path / "artifact")
    kernels = [node for node in backend.placement(artifact).nodes if node.precision]
    import onnx

    products = {node.name for node in onnx.load(model.path).graph.node if node.op_type in PRODUCTS}
    aside = block.floats if known.backend == "openvino" else frozenset()
    ran = {name: kernel.precision for kernel in kernels for name in kernel.origin if name in products}
    assert {name: ran.get(name) for name in products - aside} == dict.fromkeys(products - aside, "int8")
    assert {ran.get(name, "fp32") for name in aside} <= {"fp32"}
    for name, product in block.fused.items():
        apart = [kernel.operator for kernel in kernels if name in kernel.origin and product not in kernel.origin]
        assert not apart
