"""The page on recipes names every key and every default as they are."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.accuracy import METRICS
from edgeport.contracts.recipe import ExportSettings, Search
from edgeport.recipe import load_recipe, schema

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")


def rows_of(section: str) -> dict[str, str]:
    """Key to default of the table under a heading."""
    block = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    text = next(part for part in block if part.startswith(section))
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "definition"),
    [
        ("[model]", "ModelSection"),
        ("[inputs.NAME]", "InputSection"),
        ("[inputs.NAME.preprocess]", "PreprocessSection"),
        ("[data]", "DataSection"),
        ("[export]", "ExportSection"),
        ("[[target]]", "TargetSection"),
        ("[budget]", "BudgetSection"),
        ("[search]", "SearchSection"),
    ],
)
def test_every_key_is_on_the_page(heading: str, definition: str) -> None:
    described = schema()["$defs"][definition]

    assert list(rows_of(heading)) == list(described["properties"])
    assert {key for key, default in rows_of(heading).items() if default == "required"} == set(
        described.get("required", [])
    )


@pytest.mark.parametrize(("heading", "settings"), [("[export]", ExportSettings()), ("[search]", Search())])
def test_the_defaults_are_true(heading: str, settings: ExportSettings | Search) -> None:
    shown = {key: default.strip("`").strip('"') for key, default in rows_of(heading).items()}

    assert shown == {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in written(settings).items()
    }


def written(settings: ExportSettings | Search) -> dict[str, object]:
    """As a recipe has them."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(settings).items()}
    return {
        key.removesuffix("_bytes"): f"{value >> 30} GiB" if key.endswith("_bytes") else value
        for key, value in values.items()
    }


def test_the_least_recipe_of_the_page_loads(write: Callable[[str], Path]) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert example is not None

    assert load_recipe(write(example[1])).name == "create"


def test_every_metric_is_on_the_page() -> None:
    for name in METRICS:
        assert f"`{name}`" in PAGE


STEPS = ("PruneSection", "DistillSection", "QatSection")


@pytest.mark.parametrize("definition", STEPS)
def test_every_key_of_a_step_is_on_the_page(definition: str) -> None:
    described = schema()["$defs"][definition]["properties"]
    all_rows = rows_of("[[compress]]")

    assert set(described) <= set(all_rows)
    of_all = {key for one in STEPS for key in schema()["$defs"][one]["properties"]}
    assert set(all_rows) == of_all
