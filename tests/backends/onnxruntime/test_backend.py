from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.constants import BROKEN_FUSION
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.backends.onnxruntime.session import open_session
from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.plan import dynamic_plan, float_plan
from edgeport.contracts import DataParallel, ExecutionConfig, Placement, Precision
from edgeport.errors import BackendError, PlanError, UnsupportedByBackend

backend = create_backend()


@pytest.fixture
def network(bench):
    """conv, relu, linear resize (which has no integer kernel), conv; ends with a float exponential."""
    scales = {"s": np.array([1, 1, 2, 2], dtype=np.float32)}
    weights = {"w1": bench.weight(8, 8, 3, 3), "w2": bench.weight(8, 8, 3, 3)}
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        bench.node("Conv", ["x", "w1"], ["c"], **same),
        bench.node("Relu", ["c"], ["r"]),
        bench.node("Resize", ["r", "", "s"], ["u"], mode="linear"),
        bench.node("Conv", ["u", "w2"], ["d"], **same),
        bench.node("Exp", ["d"], ["y"]),
    ]
    return bench.model(nodes, scales | weights, (1, 8, 6, 6), ["y"])


def compiled(bench, model, rules=None) -> Placement:
    plan = bench.quantize(model, rules).plan if rules else float_plan(model)
    return backend.placement(backend.compile(model, plan, ExecutionConfig(threads=1), bench.folder / "artifact"))


def test_placement_names_each_node_and_where_it_came_from(network, bench):
    placement = compiled(bench, network, x86_rules(vnni=True))
    seen = {node.origin: node for node in placement.nodes if node.precision}
    assert seen["n_c", "n_r"].precision == "int8"
    assert seen["n_c", "n_r"].operator == "QLinearConv"
    assert seen["n_d",].precision == "int8"
    assert seen["n_y",].precision == "fp32"
    assert seen["n_y",].reason == ""
    assert {node.device for node in placement.nodes} == {"CPUExecutionProvider"}


def test_placement_says_why_a_planned_node_stayed_float(network, bench, monkeypatch):
    """A plan that asks for more than there is: the linear Resize is taken for one that there is a kernel for."""
    rules = x86_rules(vnni=True)
    resize = dataclasses.replace(rules.operators["Resize"], only={})
    loose = dataclasses.replace(rules, operators={**rules.operators, "Resize": resize})
    monkeypatch.setattr("edgeport.backends.onnxruntime.backend.rules_for", lambda dialect, vnni: loose)
    placement = compiled(bench, network, loose)
    kernel = next(node for node in placement.nodes if node.operator == "Resize")
    assert kernel.precision == "fp32"
    assert "planned int8" in kernel.reason


def test_a_linear_resize_is_not_planned(network, bench):
    placement = compiled(bench, network, x86_rules(vnni=True))
    kernel = next(node for node in placement.nodes if node.operator == "Resize")
    assert (kernel.precision, kernel.reason) == ("fp32", "")


@pytest.fixture
def three_convolutions(bench):
    weights = {f"w{index}": bench.weight(8, 8, 3, 3) for index in range(3)}
    sources = ("x", "c0", "c1")
    nodes = [bench.node("Conv", [source, f"w{i}"], [f"c{i}"]) for i, source in enumerate(sources)]
    return bench.model(nodes, weights, (1, 8, 10, 10), ["c2"])


def test_a_convolution_that_is_kept_in_float_is_float(three_convolutions, bench):
    """Left alone, the runtime quantizes its weights by itself, and the node that hurts is integer again."""
    plan = bench.quantize(three_convolutions, x86_rules(vnni=True), exclude={"n_c1": "it hurts"}).plan
    artifact = backend.compile(three_convolutions, plan, ExecutionConfig(threads=1), bench.folder / "artifact")
    precisions = {node.origin: node.precision for node in backend.placement(artifact).nodes if node.precision}
    assert precisions == {("n_c0",): "int8", ("n_c1",): "fp32", ("n_c2",): "int8"}
    assert "WeightBiasQuantization" in artifact.settings["skip"]


def test_the_reference_runs_in_float_what_a_plan_leaves_in_float(bench):
    """Left alone, the runtime rounds these weights to integers, which the smaller ones do not survive."""
    weights = {f"w{i}": bench.weight(16, 16) for i in range(3)}
    weights["w1"] *= np.geomspace(1e-4, 1.0, 16, dtype=np.float32)[:, None]
    nodes = [bench.node("Gemm", [source, f"w{i}"], [f"g{i}"]) for i, source in enumerate(("x", "g0", "g1"))]
    model = bench.model(nodes, weights, (4, 16), ["g2"])
    rules = x86_rules(vnni=True)
    plan = bench.quantize(model, rules, exclude={"n_g1": "it hurts"}).plan
    written = write_plan(model, plan, rules, bench.folder / "mixed.onnx")
    feeds = bench.batch(model)
    plain = open_session(written.path, {"optimization": "none"}).bind(feeds)
    plain.run()
    with open_reference(written.path) as run:
        np.testing.assert_allclose(run(feeds)["g2"], plain.outputs()["g2"], atol=1e-6)


def test_weights_of_a_transposed_convolution_are_not_dequantized_in_every_call(bench):
    weights = {"w0": bench.weight(8, 8, 3, 3), "w1": bench.weight(8, 8, 2, 2), "w2": bench.weight(8, 8, 3, 3)}
    nodes = [bench.node("Conv", ["x", "w0"], ["c"]), bench.node("ConvTranspose", ["c", "w1"], ["d"], strides=[2, 2])]
    nodes += [bench.node("Conv", ["d", "w2"], ["y"])]
    model = bench.model(nodes, weights, (1, 8, 8, 8), ["y"])
    operators = [node.operator for node in compiled(bench, model, x86_rules(vnni=True)).nodes]
    assert operators.count("ConvTranspose") == 1
    assert operators.count("DequantizeLinear") == 2, "before the ConvTranspose, and at the end"


def test_conversions_are_shown_and_compute_nothing(network, bench):
    placement = compiled(bench, network, x86_rules(vnni=True))
    pairs = [node for node in placement.nodes if node.operator in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 4, "at the input, on both sides of the float resize, before the float end"
    assert {node.precision for node in pairs} == {""}
    assert all("converts" in node.reason for node in pairs)


def test_what_a_device_told_may_be_anything_and_a_fault_of_ours_is_not_its(network, bench, monkeypatch, tmp_path):
    artifact = backend.compile(network, float_plan(network), ExecutionConfig(threads=1), bench.folder / "artifact")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "providers.json").write_text("[1]")
    (tmp_path / "0" / "optimised.onnx").write_bytes(b"nonsense")
    with pytest.raises(BackendError, match="not what a session writes"):
        backend.placement_told(artifact, tmp_path)
    monkeypatch.delattr("edgeport.backends.onnxruntime.placement._place")
    with pytest.raises(NameError):
        backend.placement(artifact)


def test_float_placement_finds_what_was_fused(network, bench):
    placement = compiled(bench, network)
    assert placement.share("fp32") == 1.0
    assert ("n_c", "n_r") in {node.origin for node in placement.nodes}


def test_dynamic_placement_is_int8(bench):
    nodes = [bench.node("MatMul", ["x", "w"], ["y"])]
    model = bench.model(nodes, {"w": bench.weight(16, 8)}, (4, 16), ["y"])
    plan = dynamic_plan(model, x86_rules(vnni=True))
    artifact = backend.compile(model, plan, ExecutionConfig(), bench.folder / "artifact")
    placement = backend.placement(artifact)
    assert [(node.operator, node.precision) for node in placement.nodes] == [("DynamicQuantizeMatMul", "int8")]


def test_scores_leave_the_last_product_in_float(bench):
    nodes = [bench.node("Gemm", ["x", "w"], ["h"], transB=1), bench.node("Relu", ["h"], ["r"])]
    nodes += [bench.node("Gemm", ["r", "v"], ["y"], transB=1)]
    model = bench.model(nodes, {"w": bench.weight(32, 16), "v": bench.weight(8, 32)}, (4, 16), ["y"])
    operators = [node.operator for node in compiled(bench, model, x86_rules(vnni=True)).nodes]
    assert operators == ["QuantizeLinear", "QGemm", "QGemm"]


def test_streams_reach_the_session_and_leave_the_placement_as_it_is(network, bench):
    execution = ExecutionConfig(threads=1, layout=DataParallel(streams=2, cores=((0,), (0,))))
    artifact = backend.compile(network, float_plan(network), execution, bench.folder / "artifact")
    assert (artifact.settings["streams"], artifact.settings["cores"]) == (2, [[0], [0]])
    alone = backend.compile(network, float_plan(network), ExecutionConfig(threads=1), bench.folder / "alone")
    # Nodes that the runtime adds are numbered and stand as it happens.
    kernels = [
        sorted((node.operator, node.precision, node.origin) for node in backend.placement(one).nodes)
        for one in (artifact, alone)
    ]
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize(
    ("flags", "available", "reason"),
    [
        pytest.param({"bf16", "asimddp"}, True, "", id="with bfloat16"),
        pytest.param({"asimddp"}, False, "no bfloat16 instructions", id="without"),
    ],
)
def test_arm_has_bf16_where_the_processor_has(flags, available, reason, monkeypatch, bench):
    import edgeport.backends.onnxruntime.backend as module

    monkeypatch.setattr(module, "is_arm64", lambda: True)
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(flags))
    known = backend.capabilities()
    assert known.rules.dialect == "onnxruntime-arm"
    assert known.precisions[Precision.BF16].available is available
    assert reason in known.precisions[Precision.BF16].reason
    if available:
        network = bench.model([bench.node("MatMul", ["x", "w"], ["y"])], {"w": bench.weight(4, 4)}, (2, 4), ["y"])
        plan = float_plan(network, Precision.BF16)
        artifact = backend.compile(network, plan, ExecutionConfig(), bench.folder / "artifact")
        assert artifact.settings["config"] == {"mlas.enable_gemm_fastmath_arm64_bfloat16": "1"}


def test_float16_is_written_where_there_are_kernels(network, bench, monkeypatch):
    """Here it is cast to float32 and back, so the numbers are those of float16 all the same."""
    monkeypatch.setattr("edgeport.backends.onnxruntime.kernels.missing_kernel", lambda dtype: "")
    assert backend.capabilities().precisions[Precision.FP16].available
    plans = [float_plan(network), float_plan(network, Precision.FP16)]
    whole, half = (
        backend.compile(network, plan, ExecutionConfig(threads=1), bench.folder / str(plan.default)) for plan in plans
    )
    proto = onnx.load(half.folder / half.entry)
    weights = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4]  # scales of a Resize stay
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    assert {port.type.tensor_type.elem_type for port in proto.graph.input} == {onnx.TensorProto.FLOAT}
    feeds, found = bench.batch(network), []
    for artifact in (whole, half):
        session = backend.open(artifact)
        call = session.bind(feeds)
        call.run()
        found.append(call.outputs())
        session.close()
    for name, array in found[0].items():
        assert found[1][name].dtype == np.float32
        assert 0 < np.abs(found[1][name] - array).max() < 0.01 * np.abs(array).max()
    beside = dataclasses.replace(bench.quantize(network, x86_rules(vnni=True)).plan, default=Precision.FP16)
    with pytest.raises(UnsupportedByBackend, match="integer kernels take and give float32"):
        backend.compile(network, beside, ExecutionConfig(), bench.folder / "beside")


def test_float16_is_not_offered_where_it_is_only_cast(monkeypatch):
    from edgeport.backends.onnxruntime.kernels import missing_kernel

    reason = missing_kernel("float16")
    if not reason:
        pytest.skip("this build has float16 kernels on this CPU")
    assert "casts float16 to float32" in reason
    assert not backend.capabilities().precisions[Precision.FP16].available


def test_an_old_runtime_is_named(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "__version__", "1.21.3")
    known = backend.capabilities()
    assert not known.installed
    assert "1.21.3" in known.reason
    assert "upgrade" in known.reason


def test_a_file_that_is_newer_than_the_runtime_is_refused_before_work(network, bench):
    highest = backend.capabilities().highest_opset
    assert highest is not None
    newer = dataclasses.replace(network, opset=highest + 1)
    with pytest.raises(UnsupportedByBackend, match=f"opset {highest + 1} .* files up to opset {highest}"):
        backend.compile(newer, float_plan(newer), ExecutionConfig(), bench.folder / "artifact")
    assert not (bench.folder / "artifact").exists()
    backend.compile(
        dataclasses.replace(network, opset=highest), float_plan(network), ExecutionConfig(), bench.folder / "a"
    )


def test_execution_settings_reach_the_session(network, bench):
    execution = ExecutionConfig(threads=2, spinning=False, affinity=(0,), huge_pages=True)
    artifact = backend.compile(network, float_plan(network), execution, bench.folder / "artifact")
    told = {"threads": 2, "spinning": False, "affinity": [0], "huge_pages": True}
    assert artifact.settings == {"optimization": "all", "skip": ["SkipLayerNormFusion"], **told}
    assert dataclasses.replace(artifact).execution == execution


def test_a_plan_for_a_kernel_that_there_is_not_is_refused(network, bench):
    """The planner leaves a linear Resize in float; a plan from elsewhere is checked when it is written."""
    plan = bench.quantize(network, x86_rules(vnni=True)).plan
    asked = dataclasses.replace(plan, nodes={**plan.nodes, "n_u": Precision.INT8})
    with pytest.raises(PlanError, match="no integer Resize like it"):
        backend.compile(network, asked, ExecutionConfig(), bench.folder / "artifact")


def test_a_move_that_was_taken_out_is_not_the_work_of_its_neighbour(bench):
    """A Transpose between a convolution and a LayerNormalization goes with the runtime's own change of layout."""
    weights = {"w": bench.weight(8, 8, 3, 3), "one": bench.weight(8), "zero": bench.weight(8)}
    nodes = [bench.node("Conv", ["x", "w"], ["c"]), bench.node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1])]
    nodes += [bench.node("LayerNormalization", ["t", "one", "zero"], ["y"])]
    model = bench.model(nodes, weights, (1, 8, 8, 8), ["y"])
    origins = {node.operator: node.origin for node in compiled(bench, model, x86_rules(vnni=True)).nodes}
    assert origins["LayerNormalization"] == ("n_y",)


class TestAFusionThatBreaksTheGraph:
    """Of two grouped convolutions with biases, whose sum and first result are outputs, 1.32 loses that result."""

    @pytest.fixture
    def broken(self, bench):
        weights = {f"w{i}": bench.weight(8, 1, 3, 3) for i in range(2)} | {f"b{i}": bench.weight(8) for i in range(2)}
        nodes = [bench.node("Conv", ["x", f"w{i}", f"b{i}"], [f"c{i}"], group=4, pads=[1] * 4) for i in range(2)]
        return bench.model([*nodes, bench.node("Add", ["c0", "c1"], ["s"])], weights, (1, 4, 8, 8), ["c0", "s"])

    def test_is_left_out_and_said(self, broken, bench):
        artifact = backend.compile(broken, float_plan(broken), ExecutionConfig(threads=1), bench.folder / "artifact")
        session = backend.open(artifact)
        call = session.bind({"x": np.ones((1, 4, 8, 8), np.float32)})
        call.run()
        with open_reference(broken.path) as run:
            expected = run({"x": np.ones((1, 4, 8, 8), np.float32)})
        for name, values in call.outputs().items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5)
        assert BROKEN_FUSION in artifact.settings["skip"]
        assert f"without {BROKEN_FUSION}" in backend.placement(artifact).source

    def test_or_all_of_its_level(self, broken, bench, monkeypatch):
        monkeypatch.setattr("edgeport.backends.onnxruntime.backend.BROKEN_FUSION", "NoSuchFusion")
        artifact = backend.compile(broken, float_plan(broken), ExecutionConfig(threads=1), bench.folder / "artifact")
        assert artifact.settings["optimization"] == "extended"
        assert "at its level extended" in backend.placement(artifact).source

    def test_what_opens_keeps_all_of_them(self, network, bench):
        artifact = backend.compile(network, float_plan(network), ExecutionConfig(threads=1), bench.folder / "artifact")
        assert (artifact.settings["optimization"], BROKEN_FUSION in artifact.settings["skip"]) == ("all", False)
