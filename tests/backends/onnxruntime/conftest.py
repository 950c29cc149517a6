"""Graphs that are planned by Edgeport's own planner and read back from ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeport.contracts import OnnxModel, QuantizationPlan, QuantizationRules


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, outputs, name=f"n_{outputs[0]}", **attributes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantized:
    """A float model and its integer form.

    Attributes:
        operators: What ONNX Runtime made of it, in order.
        sqnr_db: Of the first output, over one random batch.
        plan: What was planned.

    """

    operators: tuple[str, ...]
    sqnr_db: float
    plan: QuantizationPlan


class Workbench:
    """Builds, plans, quantizes and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = np.random.default_rng(11)

    node = staticmethod(_node)

    def weight(self, *shape: int) -> np.ndarray:
        return (self.random.standard_normal(shape) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5).astype(np.float32)

    def model(
        self,
        nodes: Sequence[onnx.NodeProto],
        constants: Mapping[str, np.ndarray],
        shape: Sequence[int | str],
        outputs: Sequence[str],
    ) -> OnnxModel:
        from edgeport.onnx_files import open_onnx

        graph = onnx.helper.make_graph(
            list(nodes),
            "main",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        path = self.folder / "float.onnx"
        path.write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())
        return open_onnx(path)

    def batch(self, model: OnnxModel) -> dict[str, np.ndarray]:
        return {"x": self.random.standard_normal(model.inputs[0].shape).astype(np.float32)}

    def quantize(
        self,
        model: OnnxModel,
        rules: QuantizationRules,
        *,
        dynamic: bool = False,
        exclude: Mapping[str, str] | None = None,
    ) -> Quantized:
        """What becomes of the model in this dialect.

        On x86 ONNX Runtime fuses int8 activations only when it is told that they are meant; on ARM it always does.
        """
        import onnxruntime as ort

        from edgeport.backends.onnxruntime.dialect import write_onnxruntime
        from edgeport.backends.onnxruntime.reference import open_reference
        from edgeport.calibration.collect import collect
        from edgeport.calibration.data.arrays import ArraySamples
        from edgeport.calibration.plan import dynamic_plan, make_plan
        from edgeport.onnx_files import read_ir, write_ir

        feeds = self.batch(model)
        if dynamic:
            plan = dynamic_plan(model, rules)
        else:
            plan = make_plan(model, collect(model, ArraySamples(feeds), open_reference), rules, exclude=exclude)
        graph = read_ir(model)
        write_onnxruntime(graph, plan, rules)
        written = write_ir(graph, self.folder / "int8.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(self.folder / "optimised.onnx")
        if rules.activation_dtype == "int8":
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        session = ort.InferenceSession(written.path, options, providers=["CPUExecutionProvider"])
        result = session.run(None, feeds)[0]
        with open_reference(model.path) as run:
            reference = run(feeds)[model.outputs[0].name]
        noise = float(np.square(reference - result).sum())
        return Quantized(
            operators=tuple(node.op_type for node in onnx.load(self.folder / "optimised.onnx").graph.node),
            sqnr_db=float(10 * np.log10(np.square(reference).sum() / max(noise, 1e-30))),
            plan=plan,
        )


@pytest.fixture
def bench(tmp_path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def summed(bench):
    """Makes three convolutions with activations, and a sum that reaches over each cut: x float32 [batch, 8, 10, 10]."""

    def make(batch: int | str) -> OnnxModel:
        same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes, value = [], "x"
        for index in range(3):
            nodes += [bench.node("Conv", [value, f"w{index}"], [f"c{index}"], **same)]
            nodes += [bench.node("Relu", [f"c{index}"], [f"r{index}"])]
            value = f"r{index}"
        nodes += [bench.node("Add", ["r0", "r2"], ["y"])]
        weights = {f"w{index}": bench.weight(8, 8, 3, 3) for index in range(3)}
        return bench.model(nodes, weights, (batch, 8, 10, 10), ["y", "r1"])

    return make
