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
