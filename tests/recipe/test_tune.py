"""Time for a search of the nodes that int8 had better leave in float."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.contracts import Target
from edgeport.errors import ContractError, RecipeError
from edgeport.recipe import explain, load_recipe
from edgeport.recipe.quantities import NotAQuantity, parse_duration

RECIPE = """\
[model]
source = "net:create"

[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]
"""


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("90 s", 90.0), ("1.5h", 5400.0), ("2 min", 120.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "0s", "-1s", "5 d", "", "1e999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(NotAQuantity, match='such as "5m"'):
        parse_duration(text)


def test_a_target_has_its_time_and_explains_it(write: Callable[[str], Path]) -> None:
    path = write(RECIPE + 'tune = "5m"\n')
    recipe = load_recipe(path)
    assert [target.tune_s for target in recipe.targets] == [300.0]
    explained = explain(recipe)
    assert 'tune = "300 s"' in explained
    assert load_recipe(write(explained)) == recipe
    assert load_recipe(write(RECIPE)).targets[0].tune_s is None


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        pytest.param(RECIPE + 'tune = "5"\n', 'such as "5m"', id="no unit"),
        pytest.param(RECIPE.replace(', "int8"', "") + 'tune = "5m"\n', "no int8 is built", id="nothing to search"),
    ],
)
def test_where_there_is_no_search(write: Callable[[str], Path], recipe: str, says: str) -> None:
    with pytest.raises(RecipeError, match="tune") as raised:
        load_recipe(write(recipe))
    assert says in f"{raised.value.found} {raised.value.fix}"


def test_a_search_needs_time() -> None:
    with pytest.raises(ContractError, match="give some time"):
        Target(backend="onnxruntime", tune_s=0.0)
