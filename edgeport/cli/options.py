"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = [
    "FILE",
    "FOLDER",
    "PLACE",
    "PRECISIONS",
    "argument",
    "device_option",
    "given_options",
    "model_source",
    "placement_option",
    "raw_samples",
    "samples_place",
    "source_of",
    "store_option",
]

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PLACE = click.Path(path_type=Path)
PRECISIONS = (
    *("fp32", "bf16", "fp16", "int8", "fp8", "int8-dynamic", "int8-weights"),
    *("int4-weights-32", "int4-weights-64", "int4-weights-128"),
    *("uint4-weights-32", "uint4-weights-64", "uint4-weights-128"),
    "int16",
)
"""Those of `edgeport.contracts.Precision`, which is not loaded for a help text."""


def store_option(command: F) -> F:
    """Adds `--store`."""
    return click.option(
        "--store", type=PLACE, help="Folder of finished work [default: EDGEPORT_STORE, or the user's cache]."
    )(command)


def device_option(command: F) -> F:
    """Adds `--device`."""
    return click.option(
        "--device",
        default="local",
        show_default=True,
        metavar="NAME",
        help="Where artifacts run, of edgeport devices list.",
    )(command)


def placement_option(command: F) -> F:
    """Adds `--require-placement`."""
    return click.option(
        "--require-placement",
        metavar="95%",
        help="Fail where less of the planned nodes runs as planned; says which do not, and why.",
    )(command)


def raw_samples(command: F) -> F:
    """Adds `--preprocess`."""
    return click.option(
        "--preprocess",
        type=FILE,
        metavar="RECIPE",
        help="The samples are raw; [inputs.NAME.preprocess] of this recipe says what becomes of them.",
    )(command)


def given_options() -> dict[str, str]:
    """Those that stand on the command line of the command that runs now: the name of each, and how it is spelled."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }


def samples_place(text: str) -> Path | str:
    """A file of samples, or the name of a function."""
    return Path(text) if text.endswith(".npz") else text


def model_source(command: F) -> F:
    """Adds the argument SOURCE with `--weights` and `--argument`, and hands them over as one `ModelSource`."""

    @click.argument("source")
    @click.option("--weights", type=FILE, help=".safetensors, or a checkpoint that loads without running code.")
    @click.option("--argument", "arguments", multiple=True, metavar="NAME=JSON", help="Argument of the factory.")
    @click.option("--allow-pickle-sha256", "allowed", help="Digest of the ultralytics .pt that may run code.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, source: str, weights: Path | None, arguments: tuple[str, ...], allowed: str | None, **kwargs: Any
    ) -> Any:
        return command(*args, source=_source(source, weights, arguments, allowed), **kwargs)

    return wrapped  # type: ignore[return-value]


def _source(location: str, weights: Path | None, arguments: tuple[str, ...], allowed: str | None) -> ModelSource:
    from edgeport.contracts import ModelSource
    from edgeport.recipe.locations import FILES, SCHEMES, function_in, located

    if location.endswith(FILES) and not location.startswith(SCHEMES) and not Path(location).is_file():
        raise UsageError(asked=f"load {location}", found="no such file", fix="give the path of a file that exists")
    here, (spelled, _, name) = Path.cwd(), location.partition(":")
    if spelled.endswith(".py"):
        file = Path(spelled).resolve()
        # `import a.b` looks for b in the folder a: a folder called 1.2 has no name there.
        above = file.relative_to(here).parts[:-1] if file.is_relative_to(here) else (".",)
        here = file.parent if any("." in part for part in above) else here
        location = function_in(file, name, here)
    place, folder = located(location, here)
    return ModelSource(
        location=place,
        arguments=dict(argument(text) for text in arguments),
        weights=weights,
        search_path=folder,
        allow_pickle_sha256=allowed,
    )


def source_of(
    location: str, weights: Path | None, arguments: tuple[str, ...], own: ModelSource | None = None
) -> ModelSource:
    """Another model than the command's SOURCE; of `own`, if that is given, with other weights and arguments."""
    if own is None:
        return _source(location, weights, arguments, None)
    from dataclasses import replace

    return replace(own, weights=weights, arguments={**own.arguments, **dict(argument(text) for text in arguments)})


def argument(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=JSON`."""
    name, sign, value = text.partition("=")
    try:
        if not sign or not name.isidentifier():
            raise ValueError(text)
        return name, json.loads(value)
    except ValueError as error:
        raise UsageError(
            asked=f"pass --argument {text}",
            found="no NAME=JSON",
            fix="""write numbers as width=16 and texts in quotes, as in 'kind="small"'""",
        ) from error
