"""Several targets in one recipe: what they share is done once, and each name has its own answer."""

import json
from dataclasses import replace

import pytest

from edgeport.contracts import Budget, Limits, Outcome, Precision, RunResult, load_json, worst_of
from edgeport.contracts.recipe import Target
from edgeport.errors import ContractError, OutputError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.output.run_output import prepare_output

SHORT = Limits(time_s=20.0, memory_bytes=2 << 30)


def named(recipe, **budgets):
    """The recipe for three targets: two entries for "board", one for "server"."""
    targets = (
        Target(name="board", backend="planted:base", precisions=(Precision.FP32,)),
        Target(name="board", backend="planted:equal", precisions=(Precision.INT8_DYNAMIC,)),
        Target(name="server", backend="planted:base", precisions=(Precision.FP32,)),
    )
    return replace(quick(recipe), targets=targets, target_budgets=budgets)


def quick(recipe):
    return replace(recipe, search=replace(recipe.search, screening_rounds=3))


@pytest.fixture(scope="module")
def ran(make_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    events = []
    recipe = named(make_recipe("base", rounds=6), server=Budget(accuracy_drop=0.02, latency_ns=1000))
    result = run_recipe(recipe, output=folder / "out", store=folder / "store", limits=SHORT, on_progress=events.append)
    return result, events


def test_each_name_has_its_own_answer(ran):
    result, _ = ran
    board, server = result.targets
    assert (board.target, server.target) == ("board", "server")
    assert {one.name for one in board.candidates} == {"planted:base fp32", "planted:equal int8-dynamic"}
    assert {one.name for one in server.candidates} == {"planted:base fp32"}
    assert board.chosen == "planted:base fp32"
    assert server.chosen == ""
    assert server.candidates[0].refusal.code == "BUDGET"
    assert (board.outcome, server.outcome, result.outcome) == (Outcome.PASS, Outcome.FAIL, Outcome.FAIL)
    assert result.candidates == ()


def test_each_name_has_its_folder_and_the_page_lists_them(ran):
    result, _ = ran
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.is_file()}
    assert {"result.json", "report.html", "board/report.html", "board/bundle/manifest.json"} <= files
    assert "server/report.html" in files
    assert not any(name.startswith(("server/bundle", "bundle")) for name in files)
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert 'href="board/report.html"' in page
    back = 'href="../report.html"'
    assert all(
        back in (result.folder / name / "report.html").read_text(encoding="utf-8") for name in ("board", "server")
    )
    assert back not in (result.folder / "board" / "bundle" / "report.html").read_text(encoding="utf-8")
    assert 'href="board/bundle/"' in page
    assert 'href="server/bundle/"' not in page
    assert "1 of 2 targets ship" in page


def test_the_result_holds_all_of_it(ran):
    result, _ = ran
    kept = load_json(RunResult, (result.folder / "result.json").read_bytes())
    assert [one.target for one in kept.targets] == ["board", "server"]
    assert kept.targets[0].measurements.keys() == {"planted:base fp32", "planted:equal int8-dynamic"}


def test_what_is_shared_is_done_once_and_steps_name_their_target(ran):
    _, events = ran
    stages = [event.stage for event in events]
    begun = [stage for stage, before in zip(stages, ["", *stages], strict=False) if stage != before]
    assert begun.count("export") == begun.count("samples") == begun.count("probe") == 1
    assert begun.count("compile") == begun.count("screen") == 2
    assert {event.message.partition(":")[0] for event in events if event.stage == "compile"} == {"board", "server"}


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "a/b", "a b", "", "bundle", "Result.JSON", "nul", "com1.x", "x" * 65, "-x", "é", "end."]
)
def test_a_name_must_name_a_folder_everywhere(make_recipe, name):
    if not name:
        recipe = named(make_recipe("base"))
        unnamed = replace(recipe.targets[0], name="")
        with pytest.raises(ContractError, match="name all or none"):
            replace(recipe, targets=(unnamed, *recipe.targets[1:]))
        return
    with pytest.raises(ContractError):
        Target(name=name, backend="onnxruntime")


def test_names_that_differ_in_case_only_are_refused(make_recipe):
    recipe = named(make_recipe("base"))
    with pytest.raises(ContractError, match="one on some systems"):
        replace(recipe, targets=(*recipe.targets, replace(recipe.targets[0], name="Board")))


def test_a_budget_of_no_target_is_refused(make_recipe):
    with pytest.raises(ContractError, match="which is no target"):
        named(make_recipe("base"), pi=Budget())


def test_targets_that_a_recipe_no_longer_names_are_taken_away(tmp_path):
    out = tmp_path / "out"
    for name in ("old", "kept"):
        (out / name).mkdir(parents=True)
        (out / name / "report.html").write_text("old")
    (out / "kept" / "notes.txt").write_text("mine")
    (out / "result.json").write_text(
        json.dumps({"targets": [{"target": "old"}, {"target": "kept"}, {"target": "../x"}]})
    )
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "report.html").write_text("not ours")

    prepare_output(out, ["new"])

    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["kept", "kept/notes.txt", "new"]
    assert (tmp_path / "x" / "report.html").exists()


@pytest.mark.parametrize("plant", ["a file", "a link"])
def test_what_stands_where_a_target_goes_is_left_alone(tmp_path, plant):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("{}")
    if plant == "a file":
        (out / "pi").write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        (out / "pi").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=plant):
        prepare_output(out, ["pi"])
    assert (out / "result.json").exists()


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        ("pass pass", "pass"),
        ("pass unmeasured", "unmeasured"),
        ("unmeasured inconclusive", "inconclusive"),
        ("inconclusive invalid", "invalid"),
        ("invalid fail", "fail"),
    ],
)
def test_the_worst_target_is_the_outcome(outcomes, worst):
    assert worst_of(Outcome(one) for one in outcomes.split()) is Outcome(worst)


@pytest.mark.parametrize("per_s", [pytest.param(1.0, id="far-below"), pytest.param(1e7, id="far-above")])
def test_a_throughput_is_measured_with_a_call_per_core(make_recipe, tmp_path_factory, tmp_path, per_s):
    store = tmp_path_factory.getbasetemp() / "throughput-store"  # the second case is answered by the first one's rounds
    budget = Budget(accuracy_drop=0.02, throughput_per_s=per_s)
    recipe = quick(make_recipe("base", budget=budget, rounds=6, precisions=(Precision.FP32,)))
    result = run_recipe(recipe, output=tmp_path / "out", store=store, limits=SHORT)
    found = result.candidates[0].throughput
    assert found.streams == result.device.cores
    assert found.processes >= 3
    assert 10 < found.per_s.estimate < 1e6
    if result.chosen:  # on a disturbed machine it may stay open, but never the wrong way round
        assert per_s == 1.0
    else:
        assert result.candidates[0].refusal.code == "BUDGET"
        assert result.nearest[0].lacks[0].of == "throughput"
        assert result.outcome is (Outcome.INCONCLUSIVE if found.flags else Outcome.FAIL)
