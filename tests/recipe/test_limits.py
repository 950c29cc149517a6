"""What a child process may take: from the recipe, unless the caller says otherwise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport import api
from edgeport.contracts import Limits
from edgeport.errors import RecipeError
from edgeport.recipe import explain, load_recipe

SEARCH = '[search]\ntime_limit_s = 1800\nmemory_limit = "1.5 GB"\n'


def test_limits_are_read(write: Callable[[str], Path], minimal: str) -> None:
    assert load_recipe(write(minimal + SEARCH)).search.limits == Limits(time_s=1800, memory_bytes=1_500_000_000)
    assert load_recipe(write(minimal)).search.limits == Limits()


def test_explain_shows_them_as_they_are_written(write: Callable[[str], Path], minimal: str) -> None:
    assert 'memory_limit = "1500 MB"' in explain(load_recipe(write(minimal + SEARCH)))
    line = next(line for line in explain(load_recipe(write(minimal))).splitlines() if "memory_limit" in line)
    assert line.split("#")[0].rstrip() == 'memory_limit = "8 GiB"'
    assert line.endswith("# default")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('memory_limit = "8"', "a number and a unit"),
        ('memory_limit = "1 MB"', "too little to start any runtime"),
        ("memory_limit = 8", "memory_limit"),
        ("time_limit_s = 0", "time_limit_s"),
        ("time_limit_s = -1.5", "time_limit_s"),
        ("time_limit_s = inf", "time_limit_s"),
        ("time_limit_s = nan", "time_limit_s"),
    ],
)
def test_what_is_no_limit_is_refused(write: Callable[[str], Path], minimal: str, line: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write(f"{minimal}[search]\n{line}\n"))


ODD = [
    ("search", "rounds = 1000000000000", r"\[search\] rounds: 1000000000000 should be less than or equal to 10000"),
    ("search", "screening_rounds = 1000000000000", "less than or equal to 10000"),
    ("search", "duration_s = 1e-300", "greater than or equal to 0.001"),
    ("search", "time_limit_s = 1e300", "less than or equal to 2592000"),
    ("search", 'memory_limit = "1e30 GB"', "a smaller number"),
    ("search", "seed = -1", "greater than or equal to 0"),
    ("search", "seed = 99999999999999999999", "less than"),
    ("budget", 'size = "1e200 GB"', "a smaller number"),
    ("inputs.x", 'shape = ["batch", 0]', r"an axis of size 0; give 1 or more, or name the axis"),
    ("inputs.x", 'shape = ["batch", -3]', r"an axis of size -3; give 1 or more"),
    ("inputs.x", "shape = []", "no axis 0, which counts samples; give shape"),
    ("inputs.x", 'shape = ["batch", 1000000, 1000000]', r"1e\+12 values of one sample; give at most"),
    ("inputs.x", 'shape = ["batch"]\nrange = [-inf, inf]', "finite number"),
    ("inputs.x", "value = nan", "no finite number; give the value"),
    ("inputs.x", "value = []", "holds no number"),
    ("inputs.x", "value = [[1], [2, 3]]", "its rows differ in length; give rows of one length"),
    ("inputs.x", 'value = [1, "a"]', "holds what is no number; give numbers"),
    ("axes.length", "range = [1, 1000000000000]", "less than or equal to 2147483647"),
    ("state", '"" = "x"', "names no output"),
    ("[target]", 'backend = "onnxruntime"\nthreads = 1000000', "less than or equal to 1024"),
    ("[target]", 'backend = "onnxruntime"\nprecisions = ["int8"]\ntune = "1e300 h"', "30 days"),
]


@pytest.mark.parametrize(("section", "line", "says"), ODD, ids=lambda text: text)
def test_a_value_that_no_run_could_mean_is_refused(
    write: Callable[[str], Path], minimal: str, section: str, line: str, says: str
) -> None:
    text = minimal.replace('target = [{ backend = "onnxruntime" }]', "") if section == "[target]" else minimal
    with pytest.raises(RecipeError, match=says):
        load_recipe(write(f"{text}[{section}]\n{line}\n"))


@pytest.mark.parametrize("key", ["evaluation", "calibration"])
def test_samples_of_no_name_are_not_the_recipes_own_folder(
    write: Callable[[str], Path], minimal: str, key: str
) -> None:
    text = minimal.replace(f'{key} = "{key}.npz"', f'{key} = ""')

    with pytest.raises(RecipeError, match=rf'{key}: "" names no samples; give a folder of images'):
        load_recipe(write(text))


@pytest.mark.parametrize(
    ("given", "text", "found"),
    [
        pytest.param(None, SEARCH, Limits(time_s=1800, memory_bytes=1_500_000_000), id="of the recipe"),
        pytest.param(Limits(time_s=5), SEARCH, Limits(time_s=5), id="the caller's"),
        pytest.param(None, "", Limits(), id="neither"),
    ],
)
def test_a_run_keeps_to_them(
    write: Callable[[str], Path],
    minimal: str,
    monkeypatch: pytest.MonkeyPatch,
    given: Limits | None,
    text: str,
    found: Limits,
) -> None:
    seen = []
    monkeypatch.setattr("edgeport.pipeline.run_recipe", lambda recipe, **options: seen.append(options["limits"]))
    path = write(minimal + text)

    api.run(path, limits=given)
    monkeypatch.setattr("edgeport.digits.prepare", lambda *_: path)
    api.quickstart(path.parent, limits=given)

    assert seen == [found, found]
