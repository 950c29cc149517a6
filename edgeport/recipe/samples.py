"""Where a recipe's samples are: a file, a folder, or a function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesFunction, SamplesLocation, SamplesTable
from edgeport.npz import made_of
from edgeport.recipe.errors import RecipeText, nearest
from edgeport.recipe.locations import FUNCTION

if TYPE_CHECKING:
    from edgeport.recipe.sections import DataSection

__all__ = ["are_labelled", "samples_location"]

_ARRAYS = (".npz", ".npy")
_TABLES = (".csv", ".tsv")
_KINDS = "a folder of images or .wav files, a .npz, .npy or .csv file, or pkg.mod:fn"


def samples_location(
    recipe: RecipeText, section: DataSection, name: str, location: str, classes: tuple[str, ...]
) -> SamplesLocation:
    """What `[data] calibration` or `evaluation` names.

    Args:
        recipe: Where it stands.
        section: The other keys of [data].
        name: Of the key.
        location: Its value.
        classes: [data] labels.

    Raises:
        RecipeError: It is not there, of no kind that is read, or other keys do not fit it.

    """
    key = ("data", name)
    if not location.strip():
        raise recipe.wrong_value(key, "names no samples", f"give {_KINDS}")
    path = recipe.path.parent / location
    if FUNCTION.fullmatch(location) and not path.exists():
        return SamplesFunction(function=location, search_path=recipe.path.parent)
    suffix = path.suffix.lower()
    if path.is_dir():
        if section.target:
            raise recipe.wrong_value(
                ("data", "target"),
                f"names labels, and {location} is a folder of files",
                "leave it out: labels are the names of class folders, or stand in a .csv or .npz",
            )
        return SamplesFolder(path=path, classes=classes, sample_rate=section.sample_rate, labelled=_has_folders(path))
    if suffix not in (*_ARRAYS, *_TABLES):
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        if path.is_file() or suffix:
            raise recipe.wrong_value(key, "is nothing that samples are read from", f"give {_KINDS}")
        fix = nearest(path.name, beside) or f"give {_KINDS}"
        raise recipe.wrong_value(key, f"is not there; paths start at {recipe.path.parent}", fix)
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        fix = nearest(path.name, beside) or "give the path of a file that exists"
        raise recipe.wrong_value(key, f"is not there; paths start at {recipe.path.parent}", fix)
    if suffix in _TABLES:
        return _table(recipe, section, path, classes)
    if suffix == ".npy" and section.target:
        raise recipe.wrong_value(
            ("data", "target"),
            f"names labels, and {location} holds one array",
            "store both in one file: numpy.savez(path, NAME=inputs, label=labels)",
        )
    return SamplesFile(path=path, made=made_of(path))


def are_labelled(location: SamplesLocation, target: str) -> bool | None:
    """Whether samples have labels; None where only reading them would tell."""
    if isinstance(location, SamplesFolder):
        return location.labelled
    return None if isinstance(location, SamplesFunction) and not target else bool(target)


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())


def _table(recipe: RecipeText, section: DataSection, path: Path, classes: tuple[str, ...]) -> SamplesTable:
    if not section.columns:
        raise recipe.error(
            ("data", "columns"),
            f"is missing, and samples are in the table {path.name}",
            'say which columns feed which input: columns = { features = ["a", "b"], text = "sentence" }',
        )
    columns: dict[str, str | tuple[str, ...]] = {}
    for array, given in section.columns.items():
        of = given if isinstance(given, str) else tuple(given)
        if not of or not all(of):
            raise recipe.error(("data", "columns", array), "names no column", "name one, or a list of them")
        if section.target and section.target in ((of,) if isinstance(of, str) else of):
            raise recipe.error(
                ("data", "columns", array),
                f"names the column {section.target!r}, which holds the labels ([data] target)",
                "take it out of one of the two",
            )
        columns[array] = of
    return SamplesTable(path=path, columns=columns, classes=classes)
