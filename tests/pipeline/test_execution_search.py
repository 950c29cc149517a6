"""The search for an execution, on measurements whose truth is known, and on a small model of ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from edgeport import api
from edgeport.backends.registry import backend
from edgeport.contracts import Artifact, ExecutionConfig, Outcome, load_json, silent
from edgeport.errors import DeviceLost, UsageError
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.engine.time_budget import Spending
from edgeport.pipeline.output.artifact_folder import load_artifact, save_tuned
from edgeport.pipeline.search import execution, execution_variants
from edgeport.pipeline.search.execution import ExecutionAsked, _Search
from edgeport.pipeline.search.execution_variants import gives_huge_pages, in_huge_pages, without_huge_pages
from edgeport.pipeline.search.successive_halving import Goal, choose, halve, is_last, leaders, refine, scores
from edgeport.store import Store
from edgeport.testing.synthetic import SyntheticSession, simulate

LATENCY, THROUGHPUT = Goal(of="latency"), Goal(of="throughput")


def arm(ms, *, streams=1, processes=10, seed=0, flags=()):
    """A simulated arm whose calls take that long, so many at once."""
    one = simulate(SyntheticSession(median_ns=ms * 1e6, process_sd=0.003), processes=processes, calls=120, seed=seed)
    traces = tuple(
        replace(trace, samples=streams * len(trace.latency_ns), elapsed_ns=sum(trace.latency_ns), flags=flags)
        for trace in one.traces
    )
    return replace(one, traces=traces)


def test_a_surely_better_one_takes_the_default_s_place():
    found = choose({"default": arm(1.0), "fast": arm(0.9, seed=1), "slow": arm(1.2, seed=2)}, ["default"], LATENCY)
    assert (found.arm, found.default, found.outcome) == ("fast", "default", Outcome.PASS)
    assert 1.08 < found.gain.low < found.gain.high < 1.15


def test_what_can_not_be_told_apart_leaves_the_default():
    found = choose({"default": arm(1.0), "same": arm(0.999, seed=1)}, ["default"], LATENCY)
    assert found.arm == "default"
    assert found.gain.low <= 1.0
    assert "surely better" in found.reason


def test_too_few_rounds_prove_nothing():
    few = {"default": arm(1.0, processes=3), "fast": arm(0.5, processes=3, seed=1)}
    assert choose(few, ["default"], LATENCY).arm == "default"


def test_throughput_counts_samples_not_calls():
    found = choose({"default": arm(1.0), "two": arm(1.5, streams=2, seed=1)}, ["default"], THROUGHPUT)
    assert found.arm == "two"
    assert found.gain.estimate == pytest.approx(4 / 3, rel=0.02)


def test_a_bound_rules_out_what_is_faster():
    bound = Goal(of="throughput", p99_ns=1.3e6)
    arms = {"default": arm(1.0), "four": arm(3.0, streams=4, seed=1), "two": arm(1.2, streams=2, seed=2)}
    left = halve(arms, bound, ["default"])
    assert left == ("two", "default")
    found = choose({name: arms[name] for name in left}, ["default"], bound)
    assert found.tails["default"] is Outcome.PASS
    assert found.arm in ("two", "default")


def test_where_nothing_keeps_to_the_bound_nothing_is_chosen():
    found = choose({"default": arm(1.0), "two": arm(1.5, streams=2)}, ["default"], Goal(of="throughput", p99_ns=1e5))
    assert (found.arm, found.outcome) == ("", Outcome.FAIL)
    assert "over" in found.reason


def test_what_computes_something_else_is_out():
    wrong = arm(0.2, seed=1)
    wrong = replace(wrong, traces=tuple(replace(one, outputs_match=False) for one in wrong.traces))
    assert halve({"default": arm(1.0), "wrong": wrong}, LATENCY, ["default"]) == ("default",)
    assert choose({"default": arm(1.0), "wrong": wrong}, ["default"], LATENCY).arm == "default"


def test_a_third_goes_on_and_the_best_default_always():
    arms = {f"a{index}": arm(0.5 + 0.1 * index, seed=index, processes=2) for index in range(9)}
    left = halve(arms | {"own": arm(3.0, processes=2), "own2": arm(9.0, processes=2)}, LATENCY, ["own", "own2"])
    assert left == ("a0", "a1", "a2", "a3", "own")
    assert not is_last(left, ["own", "own2"])
    assert is_last(("a0", "a1", "own"), ["own"])
    assert set(scores(arms["a0"], LATENCY)) == {0, 1}


def test_the_choice_leads_and_with_it_what_it_beat_or_what_comes_next():
    arms = {"own": arm(1.0), "a": arm(0.9, seed=1), "b": arm(1.1, seed=2)}
    assert leaders(choose(arms, ["own"], LATENCY), arms, ["own"], LATENCY) == ("a", "own")
    near = {"own": arm(1.0), "a": arm(1.2, seed=1), "b": arm(1.1, seed=2)}
    assert leaders(choose(near, ["own"], LATENCY), near, ["own"], LATENCY) == ("own", "b")
    bound = Goal(of="throughput", p99_ns=1e5)
    assert leaders(choose(arms, ["own"], bound), arms, ["own"], bound) == ()


@pytest.mark.parametrize(
    ("times_ms", "chosen"),
    [
        pytest.param({"own": 1.0, "a": 0.9, "a+": 0.85, "own+": 0.99}, "a+", id="the choice, faster"),
        pytest.param({"own": 1.0, "a": 0.9, "a+": 0.899, "own+": 0.99}, "a", id="the choice, not surely faster"),
        pytest.param({"own": 1.0, "a": 0.9, "a+": 0.9, "own+": 0.8}, "own+", id="the default overtakes"),
        pytest.param({"own": 0.8, "a": 0.9, "a+": 0.85, "own+": 0.85}, "a", id="not above the default"),
    ],
)
def test_a_variant_takes_the_place_of_the_choice_where_it_is_surely_better(times_ms, chosen):
    choice = choose({"own": arm(1.0, seed=9), "a": arm(0.9, seed=8)}, ["own"], LATENCY)
    measured = {name: arm(ms, seed=seed) for seed, (name, ms) in enumerate(times_ms.items())}
    found = refine(choice, measured, ["a+", "own+"], LATENCY)
    assert (found.arm, found.default) == (chosen, "own")
    if chosen != "a":
        assert found.gain.estimate == pytest.approx(times_ms["own"] / times_ms[chosen], rel=0.01)  # of the default


def test_a_variant_of_the_default_gains_upon_it():
    choice = choose({"own": arm(1.0)}, ["own"], LATENCY)
    found = refine(choice, {"own": arm(1.0, seed=1), "own+": arm(0.9, seed=2)}, ["own+"], LATENCY)
    assert (found.arm, found.default) == ("own+", "own")
    assert 1.08 < found.gain.low < found.gain.high < 1.15


@pytest.mark.parametrize("given", [True, False], ids=["when asked", "not when asked"])
def test_huge_pages_are_tried_last_and_only_where_the_device_gives_them(
    small_onnx, save_onnx, monkeypatch, tmp_path, given
):
    stages, asked = [], {}

    def measure(search, stage, names, rounds):
        del rounds
        stages.append((stage, tuple(names)))
        asked.update({name: search.jobs[name].settings.get("huge_pages", False) for name in names})
        own = {"the runtime's defaults": 1.0, "huge pages": 0.9}
        return {name: arm(own.get(name, 1.5), seed=index) for index, name in enumerate(sorted(names))}

    monkeypatch.setattr(_Search, "_measure", measure)
    monkeypatch.setattr(execution, "gives_huge_pages", lambda _: given)
    path, out = save_onnx(small_onnx), tmp_path / "tuned"
    options = api.ExecutionTuneOptions(time_s=100.0, duration_s=0.02)
    given_to_it = {"output": out, "options": options, "store": tmp_path / "store"}
    found = api.tune_execution([path], **given_to_it)
    plain = [name for stage, names in stages for name in names if stage != "huge pages"]
    assert not any("huge pages" in name for name in plain)
    assert asked == {name: "huge pages" in name for name in asked}  # what is measured is what the name says
    assert found.execution == ExecutionConfig(huge_pages=given)
    assert load_artifact(out / "best").settings.get("huge_pages", False) is given
    if not given:
        assert stages[-1][0] == "last"
        return
    stage, names = stages[-1]
    assert stage == "huge pages"
    assert names[:2] == ("the runtime's defaults", "huge pages")
    assert len(names) == 3  # and the best of the others, with huge pages
    assert names[2].endswith(", huge pages")
    assert found.gain.estimate == pytest.approx(1 / 0.9, rel=0.01)
    monkeypatch.setattr(_Search, "run", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        api.tune_execution([path], **given_to_it)
    assert load_artifact(out / "best").execution.huge_pages  # what was found stays


@pytest.mark.parametrize(
    "runtime",
    [
        "onnxruntime",
        pytest.param(
            "openvino",
            marks=pytest.mark.skipif(
                not backend("openvino").capabilities().can_run, reason="OpenVINO does not run here"
            ),
        ),
    ],
)
def test_a_way_with_huge_pages_and_back_is_the_same_artifact(small_onnx, save_onnx, tmp_path, runtime):
    out = tmp_path / "artifact"
    plain = api.quantize(
        save_onnx(small_onnx), None, output=out, options=api.QuantizeOptions(backend=runtime, precision="fp32")
    )
    turned = in_huge_pages(plain)
    assert str(turned.execution) == "huge pages"
    assert turned.digest != plain.digest
    assert without_huge_pages(turned).digest == plain.digest
    assert in_huge_pages(turned) is None
    assert without_huge_pages(plain) is None
    elsewhere = replace(plain, execution=ExecutionConfig(runtime_device="CUDA"))
    assert in_huge_pages(elsewhere) is None


@pytest.mark.parametrize(
    ("told", "asked"), [("madvise", True), ("always", False), ("never", False), ("", False), (None, False)]
)
def test_they_are_asked_for_where_that_makes_a_difference(told, asked, monkeypatch):
    probe = None if told is None else SimpleNamespace(huge_pages=told)
    monkeypatch.setattr("edgeport.devices.opening.probe_of", lambda _: probe)
    assert gives_huge_pages(None) is asked


def test_a_device_that_does_not_answer_ends_no_search(monkeypatch):
    lost = DeviceLost(asked="probe it", found="no answer", fix="see whether it is on")
    monkeypatch.setattr("edgeport.devices.opening.probe_of", Mock(side_effect=lost))
    assert not execution_variants.gives_huge_pages(None)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        pytest.param({"goal": "speed"}, "no such goal", id="goal"),
        pytest.param({"goal": "latency", "p99_ns": 1e6}, "needs none", id="bound of a latency"),
        pytest.param({"batches": (0,)}, "below 1", id="batch"),
    ],
)
def test_what_can_not_be_asked(asked, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        api.tune_execution([tmp_path / "net.onnx"], output=tmp_path / "out", options=api.ExecutionTuneOptions(**asked))


def test_the_runtime_s_own_stays_where_there_is_no_time_and_the_store_answers_again(small_onnx, save_onnx, tmp_path):
    path = save_onnx(small_onnx)
    options = api.ExecutionTuneOptions(goal="throughput", time_s=0.5, duration_s=0.02)
    asked = {"output": tmp_path / "tuned", "options": options, "store": tmp_path / "store"}
    found = api.tune_execution([path], **asked)
    again = api.tune_execution([path], **asked)

    assert found.execution == ExecutionConfig()
    assert not found.finished
    assert found.tried == 1  # what there was no time for is not said to be tried
    assert (again.arms, again.spent_s) == (found.arms, found.spent_s)
    kept = load_json(Artifact, (tmp_path / "tuned" / "best" / "artifact.json").read_bytes())
    assert kept.execution == ExecutionConfig()
    assert json.loads((tmp_path / "tuned" / "tuned.json").read_text())["chosen"] == found.chosen


def test_what_was_found_stays_while_the_same_is_searched_again(small_onnx, save_onnx, monkeypatch, tmp_path):
    path, out = save_onnx(small_onnx), tmp_path / "tuned"
    options, store = api.ExecutionTuneOptions(time_s=0.5, duration_s=0.02), tmp_path / "store"
    api.tune_execution([path], output=out, options=options, store=store)
    one_thread = backend("onnxruntime").with_execution(load_artifact(out / "best"), ExecutionConfig(threads=1))
    save_tuned(one_thread, path, out / "best", None)
    monkeypatch.setattr(_Search, "run", Mock(side_effect=KeyboardInterrupt))
    for goal, stays in (("latency", True), ("throughput", False)):
        with pytest.raises(KeyboardInterrupt):
            api.tune_execution([path], output=out, options=replace(options, goal=goal), store=store)
        assert load_artifact(out / "best").execution.threads == (1 if stays else None)
        assert (out / "tuned.json").exists() is stays


@pytest.mark.parametrize(("time_s", "tried"), [(100.0, 9), (29.5, 5), (1.0, 2)])
def test_where_time_is_short_the_defaults_come_first_then_each_artifact_in_turn(time_s, tried, tmp_path):
    arms = {
        f"{of}{index}": SimpleNamespace(of=of, default=index == 0)
        for of, count in (("a", 6), ("b", 3))
        for index in range(count)
    }
    search = _Search(
        asked=ExecutionAsked(goal=LATENCY, time_s=time_s),
        device=None,
        arms=arms,
        jobs={},
        feeds=(),
        spending=Spending(limit_s=time_s, store=Store(tmp_path), about="test", clock=Clock()),
        on_progress=silent,
    )
    left = search._affordable(tuple(arms))
    assert left[:tried] == (tuple(arms) if tried == 9 else ("a0", "b0", "a1", "b1", "a2")[:tried])
    assert search.finished is (tried == 9)
