"""Makes click options of what `edgeport.options` declares, and those that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from edgeport.cli.parsing import FORMS
from edgeport.errors import ContractError, UsageError
from edgeport.options.declare import Declaration, Option, declarations
from edgeport.options.source import SourceOptions

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = [
    "FILE",
    "FOLDER",
    "NEW",
    "PLACE",
    "given_options",
    "model_source",
    "options_of",
    "output_option",
    "resume_option",
    "source_of",
    "store_option",
    "target_option",
]

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PLACE = click.Path(exists=True, path_type=Path)
NEW = click.Path(path_type=Path)
_REPEATED = ("arguments", "precisions")
_PATHS = {"file": FILE, "place": PLACE, "new": NEW}


def options_of(cls: type[Any], names: str = "", *, to: str = "options") -> Callable[[F], F]:
    """Adds options that a dataclass declares, and hands them to the command as one object of it.

    Args:
        cls: Of `edgeport.options`.
        names: Its fields that the command offers, in the order of its help, separated by spaces; all of them if empty.
        to: The command's argument.

    """
    declared = declarations(cls)
    offered = {name: declared[name] for name in names.split() or declared}

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            given = {name: _value(name, offered[name].option, kwargs.pop(name)) for name in offered}
            try:
                options = cls(**{name: value for name, value in given.items() if value is not None})
            except ContractError as error:
                raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
            return command(*args, **{to: options}, **kwargs)

        decorated: Any = wrapped
        for name, declaration in reversed(offered.items()):
            flags, settings = _click_option(name, declaration)
            decorated = click.option(*flags, name, **settings)(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _value(name: str, declared: Option, given: Any) -> Any:
    flag = declared.flags[0] if declared.flags else _flag(name)
    return FORMS[declared.parse](given, flag) if declared.parse and given is not None else given


def _flag(name: str) -> str:
    return f"--{name.rstrip('_').replace('_', '-')}"


def _click_option(name: str, declared: Declaration) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The flags, and what else click is told."""
    kind, option = declared.kind, declared.option
    default = declared.default if option.default_text is ... else option.default_text
    flags = option.flags or (_flag(name),)
    settings: dict[str, Any] = {"default": default, "help": option.help or None, "metavar": option.metavar}
    settings["show_default"] = option.shows_default and default not in ("", ()) and default is not False
    if get_origin(kind) is tuple and not option.parse:
        kind = get_args(kind)[0]
        settings["multiple"] = True
    elif option.parse in _REPEATED:
        settings |= {"multiple": True, "default": ()}
    if kind is bool:
        return flags, settings | ({} if "/" in flags[0] else {"is_flag": True})
    return flags, settings | {"type": _click_type(kind, option)}


def _click_type(kind: Any, option: Option) -> Any:
    if option.parse:
        return str
    if option.choices or get_origin(kind) is Literal:
        return click.Choice(option.choices or get_args(kind))
    if kind is Path:
        return _PATHS[option.path]
    low = option.least if option.above is None else option.above
    high = option.most if option.below is None else option.below
    if kind in (int, float) and (low, high) != (None, None):
        of: Any = click.IntRange if kind is int else click.FloatRange
        return of(low, high, min_open=option.above is not None, max_open=option.below is not None)
    return kind if kind in (int, float) else str


def target_option(text: str) -> Callable[[F], F]:
    """Adds `--target`."""
    return click.option("--target", default="", help=text)


def output_option(default: str | None = None, text: str | None = None) -> Callable[[F], F]:
    """Adds `-o` and `--output`, handed over as `place`."""
    path = Path(default) if default is not None else None
    return click.option("-o", "--output", "place", type=NEW, default=path, show_default=path is not None, help=text)


def resume_option(text: str) -> Callable[[F], F]:
    """Adds `--resume` and `--fresh`, handed over as `fresh`."""
    return click.option("--resume/--fresh", "fresh", default=True, help=text, callback=lambda _, __, resume: not resume)


def store_option(command: F) -> F:
    """Adds `--store`."""
    return click.option(
        "--store", type=NEW, help="Folder of finished work [default: EDGEPORT_STORE, or the user's cache]."
    )(command)


def given_options() -> dict[str, str]:
    """Those that stand on the command line of the command that runs now: the name of each, and how it is spelled."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }


def model_source(command: F) -> F:
    """Adds the argument SOURCE with `--weights` and `--argument`, and hands them over as one `ModelSource`."""

    @click.argument("source")
    @options_of(SourceOptions, to="given")
    @functools.wraps(command)
    def wrapped(*args: Any, source: str, given: SourceOptions, **kwargs: Any) -> Any:
        return command(*args, source=source_of(source, given), **kwargs)

    return wrapped  # type: ignore[return-value]


def source_of(location: str, given: SourceOptions) -> ModelSource:
    """The model at a location, as the command line names it."""
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
    return ModelSource(location=place, search_path=folder, **vars(given))
