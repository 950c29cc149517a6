"""A graph that takes uint8 computes what the float graph computes from preprocessed images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import OpenModel, Preprocessing, TensorSpec
from edgeport.errors import ExportError
from edgeport.exporter.passes.preprocessing import fold_preprocessing
from edgeport.onnx_files import open_onnx, read_ir, write_ir
from edgeport.preprocessing import Preprocessor, apply, outside_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NCHW, NHWC = ("batch", 3, 6, 8), ("batch", 6, 8, 3)


def write_model(path: Path, shape: tuple, dtype: int = TensorProto.FLOAT, extra: tuple[str, ...] = ()) -> Path:
    """`y = -image`, and the image itself where `extra` asks for it as an output too."""
    names = [("image", "y"), *(("image", name) for name in extra)]
    nodes = [helper.make_node("Neg", [one], [other], name=f"negate_{other}") for one, other in names]
    graph = helper.make_graph(
        nodes,
        "negation",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, shape) for _, name in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    declared: Preprocessing
    nodes: list[str]
    shape: tuple = NCHW
    dtype: str = "float32"
    fed: tuple = NHWC
    tolerance: float = 1e-6
    extra: tuple[str, ...] = field(default=())


CASES = [
    Case(
        id="per-channel",
        declared=Preprocessing(scale=1 / 255, mean=MEAN, std=STD, fold="NHWC"),
        nodes=["Transpose", "Cast", "BatchNormalization"],
    ),
    Case(
        id="mean-alone",
        declared=Preprocessing(mean=(1.0, 2.0, 3.0), fold="NHWC"),
        nodes=["Transpose", "Cast", "BatchNormalization"],
    ),
    Case(
        id="shared",
        declared=Preprocessing(scale=1 / 127.5, mean=(1.0,), fold="NHWC"),
        nodes=["Transpose", "Cast", "Mul", "Add"],
    ),
    Case(id="scale-alone", declared=Preprocessing(scale=1 / 255, fold="NHWC"), nodes=["Transpose", "Cast", "Mul"]),
    Case(id="nothing-but-layout", declared=Preprocessing(fold="NHWC"), nodes=["Transpose", "Cast"]),
    Case(
        id="fed-as-nchw",
        declared=Preprocessing(scale=1 / 255, mean=MEAN, std=STD, fold="NCHW"),
        nodes=["Cast", "BatchNormalization"],
        fed=NCHW,
    ),
    Case(
        id="nhwc-model",
        declared=Preprocessing(scale=1 / 255, mean=MEAN, std=STD, layout="NHWC", fold="NHWC"),
        nodes=["Cast", "Mul", "Add"],
        shape=NHWC,
    ),
    Case(
        id="nhwc-model-fed-as-nchw",
        declared=Preprocessing(scale=1 / 255, layout="NHWC", fold="NCHW"),
        nodes=["Transpose", "Cast", "Mul"],
        shape=NHWC,
        fed=NCHW,
    ),
    Case(
        id="bgr-and-resized-outside",
        declared=Preprocessing(resize=(6, 8), color="BGR", scale=1 / 255, mean=MEAN, std=STD, fold="NHWC"),
        nodes=["Transpose", "Cast", "BatchNormalization"],
    ),
    Case(
        id="float16",
        declared=Preprocessing(scale=1 / 255, mean=MEAN, std=STD, fold="NHWC"),
        nodes=["Transpose", "Cast", "BatchNormalization", "Cast"],
        dtype="float16",
        tolerance=2e-3,
    ),
    Case(
        id="two-readers",
        declared=Preprocessing(scale=1 / 255, fold="NHWC"),
        nodes=["Transpose", "Cast", "Mul"],
        extra=("z",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_outputs_are_those_of_the_unfolded_model(case: Case, tmp_path: Path, open_model: OpenModel) -> None:
    dtype = TensorProto.FLOAT16 if case.dtype == "float16" else TensorProto.FLOAT
    path = write_model(tmp_path / "float.onnx", case.shape, dtype, case.extra)
    spec = TensorSpec(name="image", dtype=case.dtype, shape=case.shape, preprocessing=case.declared)
    graph = read_ir(path)

    assert fold_preprocessing(graph, [spec]) == ["image"]

    model = write_ir(graph, tmp_path / "folded.onnx")
    added = [node for node in graph.graph if node.op_type != "Neg"]
    assert [node.op_type for node in added] == case.nodes
    assert {node.metadata_props["edgeport.module"] for node in added} == {"preprocess"}
    (given,) = model.inputs
    assert (given.name, given.dtype, given.shape) == ("image", "uint8", case.fed)
    assert (given.dtype, given.shape) == (outside_of(spec).dtype, outside_of(spec).shape)
    onnx.checker.check_model(onnx.load(model.path), full_check=True)

    size = (9, 13) if case.declared.resize else (6, 8)
    raw = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    fed = Preprocessor([outside_of(spec)])({"image": raw})
    with open_model(model.path) as run, open_model(path) as run_float:
        ours, its = run(fed), run_float({"image": apply(case.declared, raw, dtype=case.dtype)})
    assert ours.keys() == its.keys()
    for name, array in its.items():
        np.testing.assert_allclose(ours[name], array, rtol=case.tolerance, atol=case.tolerance * np.abs(array).max())


def test_inputs_that_do_not_ask_for_it_stay(tmp_path: Path) -> None:
    graph = read_ir(write_model(tmp_path / "float.onnx", NCHW))
    before = ir.to_proto(graph).SerializeToString()
    plain = TensorSpec(name="image", dtype="float32", shape=NCHW, preprocessing=Preprocessing(scale=2.0))
    assert fold_preprocessing(graph, [plain, TensorSpec(name="other", dtype="int64", shape=(1,))]) == []
    assert ir.to_proto(graph).SerializeToString() == before


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "says"),
    [
        ("pixels", NCHW, TensorProto.FLOAT, "a model with inputs 'image'"),
        ("image", ("batch", 3), TensorProto.FLOAT, r"that it takes FLOAT of shape \['batch', '3'\]"),
        ("image", NCHW, TensorProto.INT8, "that it takes INT8"),
    ],
    ids=["name", "axes", "dtype"],
)
def test_a_model_that_takes_no_such_image_is_refused(tmp_path: Path, name: str, shape: tuple, dtype: int, says: str):
    graph = read_ir(write_model(tmp_path / "float.onnx", shape, dtype))
    declared = Preprocessing(scale=1 / 255, fold="NHWC")
    spec = TensorSpec(name=name, dtype="float32", shape=NCHW, preprocessing=declared)
    with pytest.raises(ExportError, match=says):
        fold_preprocessing(graph, [spec])


def test_the_folded_file_is_the_same_each_time(tmp_path: Path) -> None:
    spec = TensorSpec(name="image", dtype="float32", shape=NCHW, preprocessing=CASES[0].declared)
    digests = set()
    for name in ("one", "two"):
        graph = read_ir(write_model(tmp_path / "float.onnx", NCHW))
        fold_preprocessing(graph, [spec])
        digests.add(write_ir(graph, tmp_path / f"{name}.onnx").path.read_bytes())
    assert len(digests) == 1
    assert open_onnx(tmp_path / "one.onnx").inputs[0].dtype == "uint8"
