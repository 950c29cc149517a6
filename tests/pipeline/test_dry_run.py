"""A rehearsal says what is stored and what is to be done, and does nothing; --fresh does all of it anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.contracts import Precision
from edgeport.errors import RecipeError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.dry_run import DryRun, rehearse
from edgeport.store import Store


def states(found: DryRun) -> dict[str, bool]:
    return {step.name: step.stored for step in found.steps}


@pytest.fixture(scope="module")
def recipe(make_recipe):
    recipe = make_recipe("base", "faster", rounds=6, precisions=(Precision.FP32,))
    return replace(recipe, search=replace(recipe.search, screening_rounds=3))


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory: pytest.TempPathFactory):
    """A store in which the recipe is finished, and the result."""
    folder = tmp_path_factory.mktemp("done")
    return folder / "store", run_recipe(recipe, output=folder / "out", store=folder / "store")


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file() and "lock" not in path.name}


def test_nothing_is_stored_at_first_and_nothing_is_done(recipe, tmp_path: Path) -> None:
    found = rehearse(recipe, store=tmp_path / "store")

    assert not any(states(found).values())
    assert found.seconds == pytest.approx(sum(step.seconds for step in found.steps))
    assert found.seconds > 10
    assert not files(tmp_path / "store")
    assert "verify" not in states(found)  # the model is ONNX already


def test_samples_are_checked(recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'target'"):
        rehearse(replace(recipe, data=replace(recipe.data, target="targets")), store=tmp_path / "store")

    assert not files(tmp_path / "store")


def test_what_is_finished_is_known_to_be(recipe, done) -> None:
    store, _ = done
    before = files(store)

    found = rehearse(recipe, store=store)

    to_do = {name for name, stored in states(found).items() if not stored}
    assert to_do == {"probe", "samples", "bundle"}
    assert files(store) == before


def test_a_change_tells_from_where_on_work_is_done(recipe, done) -> None:
    longer = replace(recipe, search=replace(recipe.search, duration_s=recipe.search.duration_s * 2))

    found = states(rehearse(longer, store=done[0]))

    assert found["validate"]
    assert not found["screen"]
    assert not found["confirm"]


def test_fresh_builds_what_is_there_and_is_found_afterwards(tmp_path: Path) -> None:
    built: list[int] = []

    def build(folder: Path) -> None:
        built.append(len(built))
        (folder / "number").write_text(str(built[-1]))

    def number(store: Store) -> str:
        return (store.get_or_build("step", {"a": 1}, build) / "number").read_text()

    assert [number(Store(tmp_path)), number(Store(tmp_path))] == ["0", "0"]
    fresh = Store(tmp_path, fresh=True)
    assert [number(fresh), number(fresh)] == ["1", "1"]
    assert fresh.hits == 1
    assert number(Store(tmp_path)) == "1"
