"""Latencies against what the device can do: what can't be true is INVALID, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport import api
from edgeport.contracts import (
    Candidate,
    ExecutionConfig,
    Interval,
    LatencySummary,
    Limits,
    ModelSource,
    NodePlacement,
    Outcome,
    Placement,
    Precision,
    Quantile,
    RunResult,
    TimeJob,
    Work,
    load_json,
)
from edgeport.contracts.recipe import SamplesFile, Target
from edgeport.devices.bandwidth_session import open_session
from edgeport.devices.local import LocalDevice
from edgeport.errors import EdgeportError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.benchmarking.peaks import Place, Product, Reading, Yardsticks
from edgeport.pipeline.benchmarking.roofline import measure_roof, with_rooflines
from edgeport.store import Store

WIDTH = 512
LIMITS = Limits(time_s=60.0, memory_bytes=4 << 30)
WORKS = {32: Work(operations=1e9, bytes=1e6), 16: Work(operations=1e9, bytes=5e5), 8: Work(operations=1e9, bytes=2.5e5)}


@pytest.fixture(autouse=True, scope="module")
def _same_code():
    """Though somebody may edit the code while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeport.store.code_version", lambda: "1")
        yield


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A product that no processor does in the time of an empty call: 512 x 512."""
    folder = tmp_path_factory.mktemp("wide")
    random = np.random.default_rng(0)
    weight = random.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    images = random.standard_normal((60, WIDTH)).astype(np.float32)
    np.savez(folder / "evaluation.npz", images=images, target=np.argmax(images @ weight, axis=1))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weight"], ["scores"], name="product")],
        "wide",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", WIDTH])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    return folder


def roofs_in(store):
    return len(list((store / "roof").glob("*.json")))


def numbers(candidate):
    return candidate.latency.roofline, candidate.latency.flags, candidate.artifact.compile_ns


@pytest.fixture(scope="module")
def wide_recipe(make_recipe, wide):
    recipe = make_recipe("base", precisions=(Precision.FP32,), rounds=6)
    return replace(
        recipe,
        source=ModelSource(location=str(wide / "model.onnx")),
        data=replace(recipe.data, evaluation=SamplesFile(path=wide / "evaluation.npz")),
        search=replace(recipe.search, screening_rounds=3),
    )


def test_a_runtime_that_does_nothing_is_invalid_and_the_float_ships(wide_recipe, tmp_path):
    idle = Target(backend="planted:idle", precisions=(Precision.FP32,))
    recipe = replace(wide_recipe, targets=(*wide_recipe.targets, idle))
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS)
    row = result.candidate("planted:idle fp32")
    assert row.outcome is Outcome.INVALID
    assert row.refusal.code == "LATENCY_INVALID"
    assert "too-fast" in row.latency.flags
    assert row.latency.roofline.share > 2.5
    assert row.latency.roofline.roof.source.startswith("onnxruntime ")  # its own word does not count
    assert result.best_float == result.chosen == "planted:base fp32"
    kept = load_json(RunResult, (tmp_path / "out" / "result.json").read_bytes()).candidate("planted:base fp32")
    assert 0 < kept.latency.roofline.share < 1
    assert kept.latency.roofline.work.operations == 2 * WIDTH * WIDTH
    assert kept.latency.roofline.work.bytes == 4 * (WIDTH * WIDTH + 2 * WIDTH)


def test_a_second_run_measures_no_roof_and_shows_the_same_compile_time(wide_recipe, tmp_path):
    def run():
        return run_recipe(wide_recipe, output=tmp_path / "out", store=tmp_path / "store", limits=LIMITS).candidates[0]

    first, there = run(), roofs_in(tmp_path / "store")
    assert there == 2  # a product and a reading
    assert first.artifact.compile_ns > 0
    second = run()
    assert numbers(second) == numbers(first)
    assert roofs_in(tmp_path / "store") == there


@pytest.mark.parametrize("backend", ["planted:idle", "onnxruntime"])
def test_bench_tells_what_does_nothing_from_what_works(wide, backend):
    found = api.bench(wide / "model.onnx", options=api.BenchOptions(backend=backend, rounds=3, duration_s=0.1))
    assert ("too-fast" in found.summary.flags) == (backend == "planted:idle")
    assert (found.outcome is Outcome.INVALID) == (backend == "planted:idle")
    assert found.summary.roofline.work.operations == 2 * WIDTH * WIDTH
    assert found.compile_ns > 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    device = LocalDevice(folder / "device")
    return Place(
        store=Store(folder / "store"), device=device, facts=device.facts(), scratch=folder / "scratch", limits=LIMITS
    )


class Unplugged:
    """A device on which nothing may run."""

    def push(self, path):
        return str(path)

    def run(self, job):
        raise EdgeportError(asked="run a job", found="that nothing may run here", fix="read the store")


def test_a_roof_is_measured_once_and_then_answered_by_the_store(place, tmp_path):
    asked = ("onnxruntime", Precision.FP32, ExecutionConfig(threads=1), 3e5)
    roof = measure_roof(place, *asked)
    assert roof.operations_per_s > 1e8
    assert roof.bytes_per_s > 1e8
    assert roof.source == "onnxruntime fp32 matrix product; 256 KiB read by 1 threads"
    again = replace(place, device=Unplugged(), scratch=tmp_path)
    assert measure_roof(again, *asked) == roof
    with pytest.raises(EdgeportError, match="nothing may run here"):
        measure_roof(again, "onnxruntime", Precision.FP32, ExecutionConfig(threads=2), 3e5)


def test_a_precision_that_the_runtime_has_not_is_no_peak(place):
    with pytest.raises(EdgeportError, match="measure the peak of onnxruntime fp16"):
        measure_roof(place, "onnxruntime", Precision.FP16, ExecutionConfig(threads=1), 3e5)


class Wrong:
    """A device whose outputs are never right."""

    def __init__(self, device):
        self._device = device

    def push(self, path):
        return self._device.push(path)

    def run(self, job):
        return replace(self._device.run(job), outputs_match=False)


def test_a_yardstick_that_computes_something_else_is_none(place, tmp_path):
    reading = Reading(size_bytes=1 << 20, threads=1)
    sticks = Yardsticks(replace(place, device=Wrong(place.device), scratch=tmp_path))
    sticks.measure([reading])
    assert sticks.rate(reading) is None
    assert "wrong" in sticks.reasons[reading]


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_reads_all_of_it_with_every_thread(threads):
    session = open_session("", {"size_bytes": 96 << 10, "passes": 2, "threads": threads})
    call = session.bind({})
    for part in session._parts:
        assert part.shape == (2, (96 << 10) // threads)
    assert session._largest == [0] * threads
    call.run()
    assert session._largest == [1] * threads
    assert call.outputs()["largest"].tolist() == [1]
    session.close()
    assert not any(thread.is_alive() for thread in session._threads)


def test_reading_takes_no_setting_that_it_does_not_know():
    with pytest.raises(ValueError, match="size_bites"):
        open_session("", {"size_bites": 1})


class Sticks:
    """Yardsticks whose rates are given: what the store knows of each, and what comes of measuring it."""

    stored: ClassVar = {}
    measured: ClassVar = {}
    log: ClassVar = []

    def __init__(self, place):
        self.reasons, self.fresh, self._tries, self.log = {}, set(), {}, Sticks.log

    def rate(self, stick):
        return max(self._tries.get(stick, ()), default=None)

    def tries(self, stick):
        return len(self._tries.get(stick, ()))

    def recall(self, sticks):
        self._tries = {stick: list(Sticks.stored.get(self._name(stick), ())) for stick in sticks}

    def measure(self, sticks, *, processes=1):
        for stick in sticks:
            self.log.append((self._name(stick), processes))
            rates = Sticks.measured.get(self._name(stick), [])
            if rates:
                self.fresh.add(stick)
                self._tries[stick].append(rates.pop(0))
            else:
                self.reasons[stick] = "it is not offered here"

    @staticmethod
    def _name(stick):
        return f"{stick.backend} {stick.precision}" if isinstance(stick, Product) else "reading"


@pytest.fixture
def rates(monkeypatch):
    """`rates(measured, stored)` sets the rates of yardsticks by name; the log of what was measured."""
    monkeypatch.setattr("edgeport.pipeline.benchmarking.roofline.Yardsticks", Sticks)

    def use(measured, stored=None):
        Sticks.measured = {"reading": [1e12, 1e12, 1e12]} | measured
        Sticks.stored, Sticks.log = stored or {}, []
        return Sticks.log

    return use


def timed(name, milliseconds, precision=Precision.FP32, *, ran="fp32", device="CPU"):
    """A candidate with a median latency, whose one kernel ran in `ran` on `device`."""
    at = milliseconds * 1e6
    return Candidate(
        name=name,
        backend=name.partition(" ")[0],
        precision=precision,
        placement=Placement(
            nodes=(NodePlacement(name="n", operator="MatMul", device=device, precision=ran),), source="test"
        ),
        latency=LatencySummary(
            quantiles=(Quantile(q=0.5, interval_ns=Interval(low=at, estimate=at, high=at)),),
            processes=6, calls=100, effective_calls=100.0, correlation_time=1.0, steady=1.0, load_ns=1.0,
            first_inference_ns=1.0, peak_memory_bytes=1, outcome=Outcome.PASS,
        ),
    )  # fmt: skip


def judged(place, *candidates):
    return with_rooflines(place, candidates, {one.name: WORKS for one in candidates})


def test_a_peak_that_was_low_by_chance_is_measured_again_before_anything_is_said(place, rates):
    log = rates({"onnxruntime fp32": [1e11, 1.5e12]})
    (one,), notes = judged(place, timed("onnxruntime fp32", 1.0))  # 1e12 operations per second
    assert one.latency.outcome is Outcome.PASS
    assert one.latency.roofline.share == pytest.approx(2 / 3)
    assert log == [("onnxruntime fp32", 1), ("reading", 1), ("onnxruntime fp32", 3), ("reading", 3)]
    assert notes == ()


def test_an_old_peak_of_a_busy_machine_is_measured_anew_before_anything_is_said(place, rates):
    log = rates({"onnxruntime fp32": [1.5e12]}, {"onnxruntime fp32": [1e11, 1e11], "reading": [1e12, 1e12]})
    (one,), _ = judged(place, timed("onnxruntime fp32", 1.0))
    assert one.latency.outcome is Outcome.PASS
    assert ("onnxruntime fp32", 3) in log


def test_an_impossible_latency_stays_impossible(place, rates):
    rates({"onnxruntime fp32": [1e11, 1.1e11]})
    (one,), _ = judged(place, timed("onnxruntime fp32", 1.0))
    assert one.latency.outcome is Outcome.INVALID
    assert "too-fast" in one.latency.flags


def test_what_the_store_knows_is_not_measured_again(place, rates):
    log = rates({}, {"onnxruntime fp32": [2e12], "reading": [1e12]})
    (one,), _ = judged(place, timed("onnxruntime fp32", 1.0))
    assert one.latency.roofline.share == pytest.approx(0.5)
    assert log == []


def test_another_runtimes_larger_peak_raises_the_roof(place, rates):
    rates({"onnxruntime int8": [2e11], "openvino int8": [1.5e12], "openvino fp32": [4e11]})
    candidates = [
        timed("onnxruntime int8", 1.0, Precision.INT8, ran="int8"),
        timed("openvino int8-dynamic", 2.0, Precision.INT8_DYNAMIC, ran="int8"),
        timed("openvino fp32", 10.0),
    ]
    found, _ = judged(place, *candidates)
    assert [one.latency.roofline.roof.operations_per_s for one in found] == [1.5e12, 1.5e12, 4e11]
    assert [one.latency.roofline.work.bytes for one in found] == [2.5e5, 2.5e5, 1e6]


def test_the_peak_of_a_wider_precision_makes_no_roof(place, rates):
    rates({"openvino fp32": [1e11]})
    found, notes = judged(place, timed("openvino fp32", 20.0), timed("openvino int8", 3.0, Precision.INT8, ran="int8"))
    assert found[0].latency.roofline is not None
    assert found[1].latency.roofline is None
    assert found[1].latency.outcome is Outcome.PASS
    assert notes == (
        "No roofline for openvino int8: the peak could not be measured with openvino: it is not offered here.",
    )


def test_integers_inside_a_float_plan_are_held_against_the_peak_of_integers(place, rates):
    rates({"onnxruntime int8": [1.5e12]})  # a quantized file that is timed as it is
    (one,), _ = judged(place, timed("onnxruntime fp32", 1.0, ran="int8"))
    assert one.latency.roofline.share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("ran", "device", "why"),
    [("fp16", "GPU", "peaks are measured of processors only"), ("int4", "CPU", "what it ran in is not known")],
)
def test_what_has_no_yardstick_says_so(place, rates, ran, device, why):
    log = rates({})
    (one,), notes = judged(place, timed("other x", 1.0, Precision.FP16, ran=ran, device=device))
    assert one.latency.roofline is None
    assert why in notes[0]
    assert log == []


def test_where_there_is_too_little_work_nothing_is_measured(place, rates):
    log = rates({})
    one = timed("onnxruntime fp32", 100_000.0)
    assert judged(place, one) == ([one], ())
    assert log == []


def test_a_bundles_own_count_serves_its_bench(place, rates, monkeypatch, tmp_path):
    from edgeport.pipeline.benchmarking import roofline

    rates({"openvino fp32": [1e13]})
    (known,), _ = judged(place, timed("openvino fp32", 1.0))
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    monkeypatch.setattr("edgeport.bundle.load_measured", lambda _: SimpleNamespace(latency=known.latency))
    fresh = timed("openvino fp32", 2.0)
    artifact = SimpleNamespace(
        backend="openvino", precision=Precision.FP32, execution=ExecutionConfig(), entry="x.xml", folder=Path()
    )
    rates({"openvino fp32": [1e13]})
    found = roofline.bench_roofline(place, fresh.latency, artifact, path=tmp_path, placement=None, feeds=tmp_path)
    assert found.roofline.work == known.latency.roofline.work


def test_jobs_of_yardsticks_are_jobs_as_models_have(place):
    sticks = Yardsticks(place)
    sticks._prepare([reading := Reading(size_bytes=1 << 16, threads=2, affinity=(0,))])
    job = sticks._ready[reading].job
    assert isinstance(job, TimeJob)
    assert json.loads(json.dumps(dict(job.settings)))["affinity"] == [0]
