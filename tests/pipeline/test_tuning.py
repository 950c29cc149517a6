"""A search for the nodes that int8 had better leave in float: with real plans and outputs, and planted latencies."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.contracts import Budget, Change, Comparison, Interval, Limits, Mix, ModelSource, NodeChoice, Precision
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Search, Target
from edgeport.devices.local import LocalDevice
from edgeport.errors import OutputError, UsageError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.benchmarking.experiment import Timed
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.prepare import prepare_samples
from edgeport.pipeline.dry_run import rehearse
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.output.artifact_folder import load_artifact
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.search import mixed_precision
from edgeport.pipeline.search.mixed_precision import Material, Tuned, tune
from edgeport.pipeline.search.mixed_precision_command import BEST, NODES_FILE, tune_recipe
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store

LAYERS = 5
RUINED = "layer2"
"""One input of each of its outputs is weighed 5000 times as much as the others, and is always 0."""


def write_net(folder: Path) -> None:
    """Five layers, of which one can't be int8; and 400 samples that are told by a wide margin."""
    random = np.random.default_rng(1)
    weights = [random.standard_normal((32, 32)).astype(np.float32) / 4 for _ in range(LAYERS)]
    biases = [random.standard_normal(32).astype(np.float32) / 8 for _ in range(LAYERS)]
    biases[1][0], weights[2][0] = -1000.0, 5000.0
    nodes, last = [], "x"
    for at in range(LAYERS):
        nodes.append(helper.make_node("Gemm", [last, f"w{at}", f"b{at}"], [f"h{at}"], name=f"layer{at}"))
        last = f"h{at}"
        if at < LAYERS - 1:
            nodes.append(helper.make_node("Relu", [last], [f"r{at}"], name=f"relu{at}"))
            last = f"r{at}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 32])],
        [
            numpy_helper.from_array(array, f"{name}{at}")
            for name, arrays in (("w", weights), ("b", biases))
            for at, array in enumerate(arrays)
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / "net.onnx").write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())

    x = random.standard_normal((8000, 32)).astype(np.float32)
    scores = x
    for at in range(LAYERS):
        scores = scores @ weights[at] + biases[at]
        scores = scores if at == LAYERS - 1 else np.maximum(scores, 0)
    best = np.sort(scores, axis=1)
    sure = np.argsort(best[:-64, -2] - best[:-64, -1])[:400]
    np.savez(folder / "calibration.npz", x=x[-64:])
    np.savez(folder / "evaluation.npz", x=x[sure], target=scores[sure].argmax(axis=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `net.onnx`, `calibration.npz` and `evaluation.npz`."""
    made = tmp_path_factory.mktemp("tuning")
    write_net(made)
    return made


def recipe_in(folder, **changes):
    recipe = Recipe(
        name="net",
        source=ModelSource(location=str(folder / "net.onnx")),
        data=DataSpec(
            calibration=SamplesFile(path=folder / "calibration.npz"),
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            target="target",
            metric="top1",
        ),
        targets=(Target(backend="onnxruntime", precisions=(Precision.FP32, Precision.INT8), tune_s=600.0),),
        budget=Budget(accuracy_drop=0.02),
        search=Search(rounds=6, screening_rounds=6, duration_s=0.05, warmup_s=0.01),
    )
    return replace(recipe, **changes)


@pytest.fixture(scope="module")
def ready(folder, tmp_path_factory):
    """`ready(recipe, store)`: the context and the material of a search; what is slow to make is in one store."""
    scratch = tmp_path_factory.mktemp("scratch")

    def prepare(recipe, store=folder / "store", told=lambda event: None):
        device = LocalDevice(scratch / "device")
        context = RunContext(
            recipe=recipe,
            store=Store(folder / "store"),
            device=device,
            facts=device.facts(),
            clock=Clock(told),
            scratch=scratch,
            limits=Limits(time_s=60.0),
        )
        capabilities = {target.backend: probe(target.backend, context) for target in recipe.targets}
        samples = prepare_samples(context)
        prepared = prepare_model(context, samples)
        calibrated = calibrate_model(context, prepared.model, samples, {"local": capabilities})

        def build(within, listed):
            file, digest, methods = calibrated.file, calibrated.digest, calibrated.methods
            return build_candidates(within, prepared.model, capabilities, file, digest, listed=listed, methods=methods)

        material = Material(
            model=prepared.model,
            calibration=calibrated.file,
            calibration_digest=calibrated.digest,
            capabilities=capabilities,
            samples=samples,
            reference=prepared.reference,
            build=build,
            methods=calibrated.methods,
        )
        return replace(context, store=Store(store)), material

    return prepare


@pytest.fixture
def planted(monkeypatch):
    """`cost, asked`: what a layer in float takes, if not 2 us (1 us as integers); and the names that were timed."""
    cost: dict[str, float] = {}
    asked: list[tuple[str, ...]] = []
    mixes: dict[str, set[str]] = {}
    tried = mixed_precision._Bench._try

    def try_(bench, kept):
        one = tried(bench, kept)
        mixes[one.candidate.name] = {choice.what for choice in one.candidate.mix.nodes}
        return one

    def compare(_timed, base, names):
        def latency(name):
            return sum(cost.get(f"layer{at}", 2.0) if f"layer{at}" in mixes[name] else 1.0 for at in range(LAYERS))

        ratios = {name: latency(base) / latency(name) for name in names}
        return {
            name: Comparison(
                speedup=Interval(low=one - 0.01, estimate=one, high=one + 0.01),
                change=Change.FASTER if one > 1.01 else Change.SLOWER if one < 0.99 else Change.EQUIVALENT,
                pairs=6,
                delta=0.02,
            )
            for name, one in ratios.items()
        }

    def time_arms(_context, arms, *_, **__):
        asked.append(tuple(arm.name for arm in arms))
        return Timed(measurements={}, errors={})

    monkeypatch.setattr(mixed_precision._Bench, "_try", try_)
    monkeypatch.setattr(mixed_precision, "time_arms", time_arms)
    monkeypatch.setattr(mixed_precision, "compare_arms", compare)
    return cost, asked


def in_float(found):
    return {choice.what for choice in found.mix.nodes}


def searched(ready, recipe, **options):
    context, material = ready(recipe, **options)
    (target,) = recipe.targets
    return tune(context, target, material)


def test_the_node_that_ruins_int8_is_the_only_one_left_in_float(ready, folder, planted):
    found = searched(ready, recipe_in(folder))
    assert in_float(found) == {RUINED, "relu2"}
    assert found.finished
    assert max(found.noise, key=found.noise.get) == RUINED
    assert found.candidate.name == "onnxruntime int8 tuned"
    assert "1 of 5 groups of nodes are left in fp32: layer2" in found.said


def test_what_is_slower_as_integers_goes_to_float_too(ready, folder, planted):
    cost, asked = planted
    cost["layer4"] = 0.2
    found = searched(ready, recipe_in(folder))
    assert in_float(found) == {RUINED, "relu2", "layer4"}
    assert found.finished
    assert found.timed == len({name for names in asked for name in names})


def test_plans_are_told_as_soon_as_they_are_known(ready, folder, planted):
    planted[0]["layer4"] = 0.2
    context, material = ready(recipe_in(folder))
    better = []
    found = tune(context, context.recipe.targets[0], material, on_better=better.append)
    assert [in_float(one) for one in better] == [{RUINED, "relu2"}, {RUINED, "relu2", "layer4"}]
    assert better[-1].mix == found.mix


def test_nothing_holds(ready, folder, planted):
    found = searched(ready, recipe_in(folder, budget=Budget(accuracy_drop=0.0)))
    assert (found.kept, found.mix, found.candidate, found.finished) == (None, None, None, True)
    assert "no mix of int8 and fp32 is surely within the accuracy budget: float is what remains" in found.said
    assert not planted[1], "what does not hold is not timed"


def test_what_the_user_chose_stays_as_it_is(ready, folder, planted):
    chosen = Mix(nodes=(NodeChoice(what=RUINED, precision=Precision.FP32),))
    target = Target(backend="onnxruntime", precisions=(Precision.INT8,), mix=chosen, tune_s=600.0)
    found = searched(ready, recipe_in(folder, targets=(target,)))
    assert RUINED not in {name for group in found.groups for name in group.nodes}
    assert found.kept == frozenset(), "int8 holds, but for what was chosen"
    assert found.mix == chosen
    assert found.candidate is None
    assert "is within the accuracy budget as it is" in found.said


def entries(store):
    return {path.relative_to(store).as_posix() for path in store.glob("*/*.json")}


def test_a_search_that_is_stopped_goes_on_where_it_was(ready, folder, planted, tmp_path, monkeypatch):
    recipe, store = recipe_in(folder), tmp_path / "store"
    tried, count = mixed_precision._Bench._try, []

    def stopped(bench, kept):
        count.append(kept)
        if len(count) == 3:
            raise KeyboardInterrupt
        return tried(bench, kept)

    with monkeypatch.context() as patch:
        patch.setattr(mixed_precision._Bench, "_try", stopped)
        with pytest.raises(KeyboardInterrupt):
            searched(ready, recipe, store=store)
    before = entries(store)
    assert {name.split("/")[0] for name in before} >= {"groups", "few", "noise", "compile", "evaluate", "took"}
    found = searched(ready, recipe, store=store)
    after = entries(store)
    assert before < after
    assert in_float(found) == {RUINED, "relu2"}
    again = searched(ready, recipe, store=store)
    assert entries(store) == after, "something was done again"
    assert again == found, "the time that it took first is what it took"


def test_the_time_is_kept_over_all_runs_and_more_of_it_goes_on(ready, folder, planted, tmp_path):
    def within(seconds):
        targets = (replace(recipe_in(folder).targets[0], tune_s=seconds),)
        return searched(ready, recipe_in(folder, targets=targets), store=tmp_path / "store")

    whole = within(600.0)
    took = sorted(
        json.loads((path.parent / json.loads(path.read_bytes())["folder"] / "value.json").read_bytes())
        for path in (tmp_path / "store" / "took").glob("*.json")
    )
    assert whole.spent_s == pytest.approx(sum(took), abs=0.01)
    part = within(whole.spent_s / 2)
    assert not part.finished
    assert part.spent_s <= whole.spent_s / 2 + max(took)
    assert "no time was left for another step, and more of it would go on from there" in part.said
    assert "no mix of" not in part.said, "others were not tried"
    assert within(whole.spent_s / 2) == part, "no more is done in a second run"
    assert within(600.0) == whole
    hardly = within(0.001)
    assert (hardly.kept, hardly.judged, hardly.finished) == (None, 0, False)


def test_a_plan_that_crashes_does_not_hold(ready, folder, planted):
    context, material = ready(recipe_in(folder))

    def build(within, listed):
        return [replace(one, mix=Mix(nodes=(NodeChoice(what="nowhere", precision=Precision.FP32),))) for one in listed]

    broken = replace(material, build=lambda within, listed: material.build(within, build(within, listed)))
    found = tune(context, context.recipe.targets[0], broken)
    assert found.kept is None
    assert found.judged > 1
    assert "no plan could be run here (" in found.said
    assert found.unrun.startswith("no node, module or operator type of this name")


def test_time_left_is_told(ready, folder, planted):
    told = []
    searched(ready, recipe_in(folder), told=told.append)
    events = [event for event in told if event.stage == "tune"]
    assert any("the 1 most sensitive in float" in event.message for event in events)
    assert all(event.time_left_s <= 600.0 for event in events)
    assert events[-1].time_left_s < events[0].time_left_s


def test_a_run_has_the_plan_as_one_more_candidate(folder, tmp_path):
    targets = (replace(recipe_in(folder).targets[0], tune_s=15.0),)
    recipe, store = recipe_in(folder, targets=targets), tmp_path / "store"
    result = run_recipe(recipe, output=tmp_path / "out", store=store)
    rows = {row.name: row for row in result.candidates}
    assert rows["onnxruntime int8"].accuracy.outcome == "fail"
    tuned = rows["onnxruntime int8 tuned"]
    assert RUINED in {choice.what for choice in tuned.mix.nodes}
    assert tuned.accuracy.outcome == "pass"
    assert tuned.latency is not None
    assert any(note.startswith("onnxruntime, search of ") for note in result.notes)
    done = entries(store)
    assert {step.name: step.stored for step in rehearse(recipe, store=store).steps}["tune"]
    again = run_recipe(recipe, output=tmp_path / "out", store=store)
    assert entries(store) == done, "something was done again"
    assert again.notes == result.notes


def test_tune_saves_the_plan_and_what_it_is_worth(folder, tmp_path, planted, edgeport_quantize):
    result = tune_recipe(recipe_in(folder), output=tmp_path, store=folder / "store")
    assert result.nodes == {RUINED: "fp32", "relu2": "fp32"}
    assert {group.name: str(group.precision) for group in result.groups if group.name == RUINED} == {RUINED: "fp32"}
    assert result.finished
    assert result.chosen in {row.name for row in result.candidates}
    assert set(result.against) == {row.name for row in result.candidates if row.is_float}
    assert load_artifact(tmp_path / BEST).precision == ("int8" if "int8" in result.chosen else "fp32")
    (target,) = tomllib.loads((tmp_path / NODES_FILE).read_text(encoding="utf-8"))["target"]
    if "int8" in result.chosen:
        assert target["nodes"] == result.nodes
        again = edgeport_quantize(folder, tmp_path / NODES_FILE, tmp_path / "again")
        assert again == load_artifact(tmp_path / BEST).digest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half-written is left"


@pytest.fixture
def edgeport_quantize(ready, monkeypatch):
    """`edgeport quantize --nodes`: the digest of what it builds."""
    from edgeport.cli.app import run

    def quantize(folder, nodes, output):
        _, material = ready(recipe_in(folder))
        arguments = ["--calibration", str(material.calibration), "--nodes", str(nodes), "-o", str(output)]
        assert run(["quantize", str(folder / "net.onnx"), *arguments, "--quiet"]) == 0
        return load_artifact(output).digest

    return quantize


def test_tune_saves_float_where_nothing_holds_and_says_so(folder, tmp_path, planted):
    recipe = recipe_in(folder, budget=Budget(accuracy_drop=0.0))
    result = tune_recipe(recipe, output=tmp_path, store=folder / "store")
    assert (result.chosen, result.nodes, result.outcome) == ("onnxruntime fp32", {}, "pass")
    text = (tmp_path / NODES_FILE).read_text(encoding="utf-8")
    assert "float is what remains" in text
    assert tomllib.loads(text)["target"] == [{"backend": "onnxruntime", "precisions": ["fp32"]}]
    assert load_artifact(tmp_path / BEST).precision == "fp32"


def test_what_is_known_is_saved_when_tune_is_stopped(folder, tmp_path, planted, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(mixed_precision, "time_arms", stop)
    with pytest.raises(KeyboardInterrupt):
        tune_recipe(recipe_in(folder), output=tmp_path, store=folder / "store")
    text = (tmp_path / NODES_FILE).read_text(encoding="utf-8")
    assert "not compared with float yet" in text
    assert tomllib.loads(text)["target"][0]["nodes"] == {RUINED: "fp32", "relu2": "fp32"}
    assert load_artifact(tmp_path / BEST).precision == "int8"


@pytest.mark.parametrize(
    ("changes", "options", "error", "says"),
    [
        pytest.param(
            {"targets": (Target(backend="onnxruntime", precisions=(Precision.FP32,)),)},
            {},
            UsageError,
            "no target",
            id="no int8",
        ),
        pytest.param({}, {"backend": "openvino"}, UsageError, "of onnxruntime", id="another backend"),
    ],
)
def test_what_tune_refuses(changes, options, error, says, folder, tmp_path):
    with pytest.raises(error, match=says):
        tune_recipe(recipe_in(folder, **changes), output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_tune_does_not_replace_what_is_not_its_own(folder, tmp_path):
    (tmp_path / BEST).mkdir()
    (tmp_path / BEST / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="something else in the place"):
        tune_recipe(recipe_in(folder), output=tmp_path)


def test_what_was_not_timed_is_not_said_to_be_no_faster():
    target = Target(backend="onnxruntime", precisions=(Precision.INT8,), tune_s=1.0)
    untimed = Tuned(target=target, kept=frozenset(), mix=Mix(), judged=1)
    assert "nothing left in fp32 was timed beside it (1 plan judged" in untimed.said
    assert "nothing left in fp32 that was timed makes it surely faster (" in replace(untimed, timed=2).said
    assert "no plan that was tried is surely within" in Tuned(target=target, judged=1).said
