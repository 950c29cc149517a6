"""A whole run over planted backends: whatever a candidate does, it is a row, and the run goes on."""

from dataclasses import replace

import pytest

from edgeport.contracts import Budget, Limits, Outcome, Precision, RunResult, load_json
from edgeport.errors import DependencyError, OutputError, UsageError
from edgeport.pipeline import run_recipe

SHORT = Limits(time_s=20.0, memory_bytes=2 << 30)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """What one run here has built or measured, another has too, as with a user's runs."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture
def run(make_recipe, store, tmp_path):
    """Runs planted backends; the output is in `tmp_path / "out"`."""

    def run(*backends, limits=SHORT, **options):
        recipe = make_recipe(*backends, **options)
        return run_recipe(recipe, output=tmp_path / "out", store=store, limits=limits)

    return run


def row(result, name):
    return result.candidate(f"planted:{name}")


@pytest.fixture(scope="module")
def gain(make_recipe, store, tmp_path_factory):
    """A run whose second candidate is truly faster, and how to run it again."""
    folder = tmp_path_factory.mktemp("gain")

    def again():
        recipe = make_recipe("base", "faster", precisions=(Precision.FP32,))
        return run_recipe(recipe, output=folder / "out", store=store, limits=SHORT)

    return again(), again


def test_a_real_gain_ships(gain, disturbed):
    result, _ = gain
    assert result.chosen == "planted:faster int8-dynamic"
    assert result.best_float == "planted:base fp32"
    assert result.outcome is Outcome.PASS
    winner = result.candidates[0]
    assert winner.against_float.speedup.low > 1.2
    assert winner.against_float.pairs == len(result.confirmation[winner.name].traces)
    assert winner.against_float.pairs == 8 or disturbed(result.confirmation)
    again = winner.against_float.again_ns
    assert set(again) == {winner.name, result.best_float}
    assert again[result.best_float] / again[winner.name] == pytest.approx(winner.against_float.speedup.estimate, 0.2)
    others = [one.against_float for one in result.candidates if one.against_float is not None][1:]
    assert all(not one.again_ns for one in others)  # theirs are the gains of the screening
    assert (result.folder / "bundle" / "manifest.json").is_file()
    assert load_json(RunResult, (result.folder / "result.json").read_bytes()).chosen == result.chosen


def test_a_second_run_is_answered_from_the_store(gain):
    first, again = gain
    second = again()
    assert second.chosen == first.chosen
    assert second.measurements == first.measurements
    assert second.confirmation == first.confirmation
    assert second.reused > first.reused
    assert second.elapsed_s < 10.0


def test_slower_and_equal_candidates_do_not_ship(run):
    result = run("base", "slower", "equal", precisions=(Precision.FP32,))
    assert result.chosen == "planted:base fp32"
    slower = row(result, "slower int8-dynamic")
    assert slower.refusal.code in ("SLOWER", "NO_GAIN")  # the latter on a busy machine
    assert slower.against_float.speedup.low < 1.0  # a busy machine widens the interval; it must keep the truth
    equal = row(result, "equal int8-dynamic")
    assert equal.refusal.code == "NO_GAIN" or equal.against_float.speedup.high < 1.0  # by 0.01 %, not by 1 %
    assert equal.against_float.speedup.low < 1.01
    assert equal.against_float.speedup.high > 0.99
    assert result.outcome is Outcome.PASS  # the float model is an answer too


def test_what_fails_is_a_row_and_the_run_goes_on(run):
    faults = ("crashing", "crashing_while_compiling", "hanging", "nan", "unloadable")
    result = run(
        "base", "faster", *faults, precisions=(Precision.FP32,), limits=Limits(time_s=6.0, memory_bytes=2 << 30)
    )
    assert result.chosen == "planted:faster int8-dynamic"
    codes = {name: row(result, f"{name} int8-dynamic").refusal.code for name in faults}
    assert codes == {
        "crashing": "BACKEND_CRASH",
        "crashing_while_compiling": "BACKEND_CRASH",
        "hanging": "TIMEOUT",
        "nan": "WRONG_OUTPUT",
        "unloadable": "DEPENDENCY_MISSING",
    }
    assert "SIGSEGV" in row(result, "crashing int8-dynamic").refusal.reason
    assert "NaN" in row(result, "nan int8-dynamic").refusal.reason
    assert "libplanted.so.1" in row(result, "unloadable int8-dynamic").refusal.reason


def test_a_budget_that_nothing_keeps_ships_nothing(run):
    budget = Budget(accuracy_drop=0.02, latency_ns=1000)
    result = run("base", "faster", precisions=(Precision.FP32,), budget=budget)
    assert result.chosen == ""
    assert result.outcome is Outcome.FAIL
    assert result.bundle is None
    assert {candidate.refusal.code for candidate in result.candidates} == {"BUDGET"}


def test_a_precision_that_the_backend_has_not_is_a_row(run):
    result = run("base", precisions=(Precision.FP32, Precision.BF16))
    refused = row(result, "base bf16")
    assert refused.refusal.code == "BACKEND_UNSUPPORTED"
    assert refused.outcome is Outcome.UNMEASURED


def test_no_usable_backend_at_all_is_an_error(run):
    with pytest.raises(DependencyError, match="cannot open shared object"):
        run("unloadable")


def test_a_backend_that_is_nowhere_is_a_slip_of_the_pen(make_recipe, tmp_path):
    recipe = make_recipe("base")
    typo = replace(recipe.targets[0], backend="plantd:base")
    recipe = replace(recipe, targets=(*recipe.targets, typo))
    with pytest.raises(UsageError, match="no module 'plantd'"):
        run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store")


def test_the_output_folder_must_be_one(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link"):
        run("base")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_other_devices_than_this_one_are_refused_by_name(make_recipe, tmp_path):
    from dataclasses import replace

    recipe = make_recipe("base")
    away = replace(recipe, targets=(replace(recipe.targets[0], device="pi5"),))
    with pytest.raises(UsageError, match="pi5"):
        run_recipe(away, output=tmp_path / "out", store=tmp_path / "store")
