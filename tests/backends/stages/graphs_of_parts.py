"""Graphs of any shape, with seeded weights, and what a runtime gives for them, whole or stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 6


class GraphOfParts:
    """Float values [batch, 6]; each method returns the name of what it computes."""

    def __init__(self, seed: int = 0, inputs: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [f"in_{index}" for index in range(inputs)]
        self.functions: list[Any] = []

    def constant(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"const_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self) -> str:
        return self.constant(self._random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5)

    def node(self, operator: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        name = f"{operator.lower()}_{len(self.nodes)}"
        names = [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def pair(self, value: str, scale: float = 0.05) -> str:
        """Rounded to int8 and back."""
        parameters = [self.constant(np.float32(scale)), self.constant(np.int8(0))]
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, *parameters), *parameters)

    def branch(self, condition: str, then: str, otherwise: str, *reads: str) -> str:
        """An If whose branches read values from outside: `then` and `otherwise` are operators of two of them."""
        graphs = [
            helper.make_graph(
                [helper.make_node(operator, list(reads), [f"inner_{operator}_{len(self.nodes)}"])],
                operator,
                [],
                [helper.make_tensor_value_info(f"inner_{operator}_{len(self.nodes)}", TensorProto.FLOAT, None)],
            )
            for operator in (then, otherwise)
        ]
        return self.node("If", condition, then_branch=graphs[0], else_branch=graphs[1])

    def save(self, path: Path, outputs: list[str], **kinds: int) -> Path:
        def info(name: str) -> Any:
            return helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), ["batch", WIDTH])

        graph = helper.make_graph(
            self.nodes, "parts", [info(name) for name in self.inputs], [info(name) for name in outputs], self.weights
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=self.functions)
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString())
        return path

    def feeds(self, batch: int = 3) -> dict[str, np.ndarray]:
        return {name: self._random.standard_normal((batch, WIDTH)).astype(np.float32) for name in self.inputs}


def run(path: Path, feeds: dict[str, np.ndarray], *, fused: bool = False) -> dict[str, np.ndarray]:
    """Every node as it stands, unless fused."""
    from edgeport.backends.onnxruntime.session import open_session

    settings = {"threads": 1, "optimization": "all" if fused else "none"}
    call = open_session(path, settings).bind(feeds)
    call.run()
    return call.outputs()


def run_in_a_row(
    paths: list[Path], feeds: dict[str, np.ndarray], outputs: list[str], *, fused: bool = False
) -> dict[str, np.ndarray]:
    """Each stage is fed from what was given and what earlier stages gave."""
    from edgeport.onnx_files import open_onnx

    known = dict(feeds)
    for path in paths:
        wanted = [spec.name for spec in open_onnx(path).inputs]
        known.update(run(path, {name: known[name] for name in wanted}, fused=fused))
    return {name: known[name] for name in outputs}
