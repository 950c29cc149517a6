"""From the file to the contract: the only place where a recipe's text becomes a `Recipe`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeport.contracts.recipe import Recipe
from edgeport.errors import RecipeError
from edgeport.recipe.errors import RecipeText, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["load_recipe", "schema"]

T = TypeVar("T", bound="BaseModel")

_MOST_BYTES = 1 << 20


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe; paths in it are relative to its folder.

    Raises:
        RecipeError: With the line, the key, and the nearest right one.

    """
    from pydantic import ValidationError

    from edgeport.recipe.build import build
    from edgeport.recipe.sections import RecipeFile

    recipe = _read(Path(path))
    try:
        sections = RecipeFile.model_validate(recipe.values)
    except ValidationError as error:
        raise recipe.first_mistake(error) from error
    return build(recipe, sections)


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    from edgeport.recipe.sections import RecipeFile

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecipeFile.model_json_schema(),
        "title": "Edgeport recipe",
    }


def _read(path: Path) -> RecipeText:
    path = path.absolute()
    asked = f"read the recipe {path.name}"
    if not path.is_file():
        found = "a folder" if path.is_dir() else f"no such file in {path.parent}"
        others = sorted(file.name for file in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        there = f"there are {', '.join(others[:5])}" if others else "give the path of a .toml file"
        raise RecipeError(asked=asked, found=found, fix=nearest(path.name, others) or there)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(asked=asked, found="more than 1 MiB", fix="put labels into a file of their own")
        text = path.read_text(encoding="utf-8")
        return RecipeText(path=path, text=text, values=tomllib.loads(text))
    except OSError as error:
        raise RecipeError(asked=asked, found=str(error.strerror), fix="check the file's permissions") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            asked=asked,
            found=f"bytes that are not UTF-8 ({error.reason})",
            fix="give a TOML file, saved as UTF-8; a model's file is named in it, as [model] source",
        ) from error
    except RecursionError as error:
        raise RecipeError(asked=asked, found="values nested too deeply", fix="write it by hand, flat") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise RecipeError(
            asked=asked,
            found=f"no valid TOML: {error}",
            fix='look at that line; strings stand in quotes, as in source = "net:create"',
            details={"file": str(path), "line": int(line[1])} if line else {"file": str(path)},
        ) from error
