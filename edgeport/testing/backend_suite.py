"""What every backend must do. Subclass `BackendSuite` in a test module, name the backend, and pytest runs it.

::

    from edgeport.testing import BackendSuite

    class TestMine(BackendSuite):
        location = "my_package.backend:create_backend"
        runtime = ("my_runtime",)
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeport.backends.registry import backend
from edgeport.contracts import (
    Artifact,
    Backend,
    Calibration,
    Capabilities,
    DataParallel,
    ExecutionConfig,
    ModelParallel,
    OnnxModel,
    Placement,
    Precision,
    QuantizationPlan,
    load_json,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical
from edgeport.errors import BackendError, DependencyError, EdgeportError, PlanError, SamplesError, UnsupportedByBackend
from edgeport.module_files import standalone_source
from edgeport.testing.compile_worker import compile_artifact

CHANNELS, SIZE, CLASSES = 32, 12, 10
ONE_THREAD = ExecutionConfig(threads=1)


def images(count: int, seed: int) -> dict[str, np.ndarray]:
    """Smooth random images: float32 [count, 3, SIZE, SIZE]."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)
    return {"image": (noise + np.roll(noise, 1, axis=2) + np.roll(noise, 1, axis=3)) / 2}


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise ratio, 10 log10(sum x^2 / sum (x - y)^2)."""
    noise = float(np.square(reference - other, dtype=np.float64).sum())
    return float(10 * np.log10(np.square(reference, dtype=np.float64).sum() / max(noise, 1e-30)))


def write_network(path: Path) -> None:
    """A residual network with a Gemm at its end: image [batch, 3, S, S] to scores [batch, CLASSES]."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)

    def weight(name: str, *shape: int):
        fan_in = int(np.prod(shape[1:])) or 1
        return numpy_helper.from_array((rng.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32), name)

    weights = [weight("w0", CHANNELS, 3, 3, 3), weight("w1", CHANNELS, CHANNELS, 3, 3), weight("w2", CLASSES, CHANNELS)]
    weights += [weight(f"b{i}", size) for i, size in enumerate((CHANNELS, CHANNELS, CLASSES))]
    same: dict[str, Any] = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="stem", **same),
        helper.make_node("Relu", ["c0"], ["r0"], name="stem_relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="body", **same),
        helper.make_node("Add", ["c1", "r0"], ["a1"], name="residual"),
        helper.make_node("Relu", ["a1"], ["r1"], name="body_relu"),
        helper.make_node("GlobalAveragePool", ["r1"], ["p1"], name="pool"),
        helper.make_node("Flatten", ["p1"], ["f1"], name="flatten"),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["scores"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(proto.SerializeToString())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A model, its calibration and what float32 gives, made once."""

    model: OnnxModel
    calibration: Calibration
    feeds: dict[str, np.ndarray]
    scores: np.ndarray


def make_case(folder: Path) -> Case:
    """Writes the network, calibrates it and runs it by ONNX's own reference implementation."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data.arrays import ArraySamples
    from edgeport.onnx_files import open_onnx

    write_network(folder / "network.onnx")
    model = open_onnx(folder / "network.onnx")
    feeds = images(4, seed=1)
    scores: Any = ReferenceEvaluator(onnx.load(model.path)).run(["scores"], feeds)
    calibration = collect(model, ArraySamples(images(16, seed=2)), open_reference)
    return Case(model=model, calibration=calibration, feeds=feeds, scores=scores[0])


class BackendSuite:
    """The contract, as tests.

    Attributes:
        location: Name of the backend, or `pkg.mod:factory`.
        runtime: Modules of the runtime; hidden, the backend must say that it is not installed.
        least_sqnr_db: Of static int8 against float32.
        least_narrow_sqnr_db: Of weights of 4 bits.
        float_tolerance: Largest difference in fp32, relative to the largest score.

    """

    location: ClassVar[str]
    runtime: ClassVar[tuple[str, ...]]
    least_sqnr_db: ClassVar[float] = 25.0
    least_narrow_sqnr_db: ClassVar[float] = 15.0
    float_tolerance: ClassVar[float] = 1e-4

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, tmp_path_factory) -> Case:
        return make_case(tmp_path_factory.mktemp("case"))

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls) -> Backend:
        return backend(cls.location)

    @pytest.fixture(scope="class")
    @classmethod
    def known(cls, made) -> Capabilities:
        known = made.capabilities()
        if not known.installed:
            pytest.skip(f"{known.backend}: {known.reason}")
        return known

    @pytest.fixture
    def runs(self, known) -> None:
        if not known.can_run:
            pytest.skip(f"{known.backend}: {known.reason}")

    def plan(self, precision: Precision, case: Case, known: Capabilities) -> QuantizationPlan:
        """A plan in that precision, or a skip where the backend has it not."""
        from edgeport.calibration.plan import dynamic_plan, float8_plan, float_plan, make_plan
        from edgeport.calibration.weight_plan import weight_plan

        support = known.precisions[precision]
        if not support.available:
            pytest.skip(f"{known.backend} {precision}: {support.reason}")
        if precision.is_float:
            return float_plan(case.model, precision)
        assert known.rules is not None, "integers are offered, so there must be rules"
        if precision.weight_form is not None:
            try:
                return weight_plan(case.model, known.rules, precision)
            except PlanError as error:  # blocks that this small network has not
                pytest.skip(f"{known.backend} {precision}: {error.found}")
        if precision is Precision.FP8:
            return float8_plan(case.model, case.calibration, known.rules)
        if precision is Precision.INT8:
            return make_plan(case.model, case.calibration, known.rules)
        return dynamic_plan(case.model, known.rules)

    @pytest.fixture(params=list(Precision), ids=str)
    def artifact(self, request, case, made, known, tmp_path) -> Artifact:
        plan = self.plan(request.param, case, known)
        return made.compile(case.model, plan, ONE_THREAD, tmp_path / "artifact")

    # what it says of itself

    def test_says_what_it_can_for_every_precision(self, known):
        assert set(known.precisions) == set(Precision)
        assert all(support.available or support.reason for support in known.precisions.values())
        assert known.version
        assert known.can_run or known.reason

    def test_says_so_when_the_runtime_is_missing(self, made, monkeypatch):
        for name in [*self.runtime, *(name for name in sys.modules if name.partition(".")[0] in self.runtime)]:
            monkeypatch.setitem(sys.modules, name, None)
        told = made.capabilities()
        assert not told.installed
        assert "pip install" in told.reason
        assert not any(support.available for support in told.precisions.values())

    def test_compile_names_the_package_when_the_runtime_is_missing(self, case, made, monkeypatch, tmp_path):
        for name in [*self.runtime, *(name for name in sys.modules if name.partition(".")[0] in self.runtime)]:
            monkeypatch.setitem(sys.modules, name, None)
        plan = QuantizationPlan(dialect="float", model_digest=case.model.digest)
        with pytest.raises(DependencyError, match="pip install"):
            made.compile(case.model, plan, ONE_THREAD, tmp_path / "artifact")

    # compile

    def test_artifact_tells_the_truth(self, artifact):
        files = [path for path in artifact.folder.rglob("*") if path.is_file()]
        assert artifact.folder / artifact.entry in files
        assert artifact.size_bytes == sum(path.stat().st_size for path in files)
        assert not any(path.is_symlink() for path in artifact.folder.rglob("*"))

    def test_same_plan_same_digest(self, artifact, made, known, case, tmp_path):
        plan = self.plan(artifact.precision, case, known)
        again = made.compile(case.model, plan, ONE_THREAD, tmp_path / "elsewhere" / "again")
        assert again.digest == artifact.digest

    def test_other_settings_other_digest(self, made, known, case, tmp_path):
        plan = self.plan(Precision.FP32, case, known)
        digests = {
            made.compile(case.model, plan, ExecutionConfig(threads=threads), tmp_path / str(threads)).digest
            for threads in (1, 2)
        }
        assert len(digests) == 2

    def test_refuses_a_precision_it_has_not(self, made, known, case, tmp_path):
        missing = [p for p in Precision if p.is_float and not known.precisions[p].available]
        if not missing:
            pytest.skip(f"{known.backend} has every float precision here")
        plan = QuantizationPlan(dialect="float", model_digest=case.model.digest, default=missing[0])
        with pytest.raises(UnsupportedByBackend):
            made.compile(case.model, plan, ONE_THREAD, tmp_path / "artifact")
        assert_nothing_in(tmp_path)

    @pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8], ids=str)
    def test_refuses_the_plan_of_another_model(self, precision, made, known, case, tmp_path):
        plan = dataclasses.replace(self.plan(precision, case, known), model_digest="0" * 64)
        with pytest.raises(PlanError, match="0000"):
            made.compile(case.model, plan, ONE_THREAD, tmp_path / "artifact")
        assert_nothing_in(tmp_path)

    def test_refuses_the_plan_of_another_dialect(self, made, known, case, tmp_path):
        plan = dataclasses.replace(self.plan(Precision.INT8, case, known), dialect="klingon")
        with pytest.raises(PlanError, match="klingon"):
            made.compile(case.model, plan, ONE_THREAD, tmp_path / "artifact")
        assert_nothing_in(tmp_path)

    def test_writes_into_no_folder_that_has_something_in_it(self, made, known, case, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(EdgeportError):
            made.compile(case.model, self.plan(Precision.FP32, case, known), ONE_THREAD, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    # open, bind, run

    @pytest.mark.usefixtures("runs")
    def test_outputs_equal_the_reference(self, artifact, made, case):
        session = made.open(artifact)
        call = session.bind(case.feeds)
        call.run()
        scores = call.outputs()["scores"]
        session.close()
        assert scores.shape == case.scores.shape
        if artifact.precision is Precision.FP32:
            np.testing.assert_allclose(
                scores, case.scores, rtol=0, atol=self.float_tolerance * np.abs(case.scores).max()
            )
        else:
            form = artifact.precision.weight_form
            narrow = form is not None and form.stored == "int4"
            assert sqnr_db(case.scores, scores) > (self.least_narrow_sqnr_db if narrow else self.least_sqnr_db)

    @pytest.mark.usefixtures("runs")
    def test_streams_give_what_one_stream_gives(self, made, known, case, tmp_path):
        if "data-parallel" not in known.layouts:
            pytest.skip(f"{known.backend} runs one call after another")
        streams = ExecutionConfig(threads=1, batch=4, layout=DataParallel(streams=2))
        artifact = made.compile(case.model, self.plan(Precision.FP32, case, known), streams, tmp_path / "artifact")
        session = made.open(artifact)
        calls = [session.bind(case.feeds) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                list(pool.map(lambda call: call.run(), calls))
        found = [call.outputs()["scores"] for call in calls]
        session.close()
        for scores in found:
            np.testing.assert_allclose(
                scores, case.scores, rtol=0, atol=self.float_tolerance * np.abs(case.scores).max()
            )

    def test_a_layout_that_it_has_not_is_refused(self, made, known, case, tmp_path):
        layouts = (DataParallel(streams=2), ModelParallel(stages=2))
        missing = [layout for layout in layouts if layout.kind not in known.layouts]
        plan = self.plan(Precision.FP32, case, known)
        for layout in missing:
            with pytest.raises(UnsupportedByBackend, match=layout.kind):
                made.compile(case.model, plan, ExecutionConfig(layout=layout), tmp_path / "artifact")
        assert_nothing_in(tmp_path)

    @pytest.mark.usefixtures("runs")
    def test_any_batch_and_any_number_of_calls(self, artifact, made, case):
        session = made.open(artifact)
        one = {"image": case.feeds["image"][:1]}
        first, both = session.bind(one), session.bind(case.feeds)
        for call in (first, both, first):
            call.run()
            call.run()
        alone, among = first.outputs()["scores"], both.outputs()["scores"]
        session.close()
        assert alone.shape == (1, CLASSES)
        # a dynamic range is taken over the whole batch, so only fixed ranges give equal numbers
        if artifact.precision is not Precision.INT8_DYNAMIC:
            np.testing.assert_allclose(alone, among[:1], rtol=0, atol=0.02 * np.abs(case.scores).max())

    @pytest.mark.usefixtures("runs")
    def test_outputs_are_copies_and_feeds_are_kept(self, artifact, made, case):
        session = made.open(artifact)
        feeds = {name: array.copy() for name, array in case.feeds.items()}
        call = session.bind(feeds)
        call.run()
        before = call.outputs()["scores"]
        kept = before.copy()
        before[:] = 0
        np.testing.assert_array_equal(call.outputs()["scores"], kept)
        session.close()
        np.testing.assert_array_equal(feeds["image"], case.feeds["image"])

    @pytest.mark.usefixtures("runs")
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda feeds: {}, id="no input"),
            pytest.param(lambda feeds: {"picture": feeds["image"]}, id="wrong name"),
            pytest.param(lambda feeds: feeds | {"more": feeds["image"]}, id="one too many"),
            pytest.param(lambda feeds: {"image": feeds["image"].astype(np.float64)}, id="wrong dtype"),
            pytest.param(lambda feeds: {"image": feeds["image"][:, :2]}, id="wrong channels"),
            pytest.param(lambda feeds: {"image": feeds["image"][0]}, id="wrong rank"),
        ],
    )
    def test_feeds_that_do_not_fit(self, change, made, known, case, tmp_path):
        artifact = made.compile(case.model, self.plan(Precision.FP32, case, known), ONE_THREAD, tmp_path / "artifact")
        session = made.open(artifact)
        with pytest.raises(SamplesError):
            session.bind(change(dict(case.feeds)))
        session.close()

    @pytest.mark.usefixtures("runs")
    def test_closed_is_closed(self, made, known, case, tmp_path):
        artifact = made.compile(case.model, self.plan(Precision.FP32, case, known), ONE_THREAD, tmp_path / "artifact")
        session = made.open(artifact)
        session.close()
        session.close()
        with pytest.raises(BackendError):
            session.bind(case.feeds)

    @pytest.mark.parametrize("act", ["open", "placement"])
    def test_opens_nothing_that_changed(self, act, made, known, case, tmp_path):
        artifact = made.compile(case.model, self.plan(Precision.FP32, case, known), ONE_THREAD, tmp_path / "artifact")
        entry = artifact.folder / artifact.entry
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data)
        with pytest.raises(BackendError, match="compile it again"):
            getattr(made, act)(artifact)

    # placement

    def test_placement_says_what_ran(self, artifact, made, known):
        placement = made.placement(artifact)
        assert placement.nodes
        assert placement.source
        if not known.can_run:
            # Nothing ran, so no precision is known of what computes.
            assert {node.precision for node in placement.nodes} <= {"", "unknown"}
            assert all(node.reason for node in placement.nodes if node.precision)
        elif artifact.precision is Precision.INT8_DYNAMIC:
            # A runtime may keep a small product in float; then it says so.
            assert placement.share("int8") > 0 or any(node.reason for node in placement.nodes)
        elif (form := artifact.precision.weight_form) is not None:
            # A runtime may unpack a small weight when it compiles; then the node that holds the product says so.
            products = [node for node in placement.nodes if "head" in node.origin]
            assert products
            assert all(node.weights == form.stored or "planned" in node.reason for node in products)
        else:
            expected = str(artifact.precision)
            assert placement.share(expected) > (0.99 if expected == "fp32" else 0.5)

    # what ships, and what crosses processes

    def test_session_module_stands_alone(self, artifact):
        spec = importlib.util.find_spec(artifact.session)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(standalone_source(Path(spec.origin)), feature_version=(3, 8))
        allowed = {"numpy", "__future__", *self.runtime, *sys.stdlib_module_names}
        assert imported(tree) <= allowed

    def test_works_through_json(self, made, known, case, tmp_path):
        plan = self.plan(Precision.INT8, case, known)
        payload = {
            "backend": self.location,
            "model": to_jsonable(case.model),
            "plan": to_jsonable(plan),
            "execution": to_jsonable(ONE_THREAD),
            "folder": str(tmp_path / "child"),
        }
        artifact = read_back(Artifact, compile_artifact(payload))
        here = made.compile(case.model, plan, ONE_THREAD, tmp_path / "here")
        assert artifact.digest == here.digest
        placement = made.placement(artifact)
        assert read_back(Placement, to_jsonable(placement)) == placement
        assert read_back(Capabilities, to_jsonable(known)) == known


def read_back(cls, values):
    """The contract after a way through JSON."""
    return load_json(cls, canonical(values))


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of everything a module imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def assert_nothing_in(folder: Path) -> None:
    """A refusal leaves nothing behind."""
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert not left
