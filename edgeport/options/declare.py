"""Declares an option once, as a field of a frozen dataclass, and reads that declaration back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

__all__ = ["Declaration", "Option", "common_fields", "declarations", "from_keys", "option", "to_keys"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is declared of a field beside its type and default.

    Attributes:
        help: Of the command line.
        flags: How the command line spells it; `--` and the field's name if empty.
        metavar: Of its value in help texts; by its type if empty.
        above, least, below, most: Bounds of a number: exclusive, inclusive, exclusive, inclusive.
        choices: The texts that it may be.
        parse: The form of its text on the command line, in `edgeport.cli.parsing.FORMS`; empty for none.
        path: Of a path: a "file" or any "place" that exists, or one that may be "new".
        default_text: Default of the command line, where that of the field can't be written there.
        shows_default: Its help names the default.
        key: In recipes; the field's name if empty.
        recipe: Its description in recipes; empty where they don't have it.
        within: Narrower bounds and so on in recipes, as arguments of pydantic's `Field`.

    """

    help: str = ""
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    parse: str = ""
    path: str = "file"
    default_text: Any = ...
    shows_default: bool = True
    key: str = ""
    recipe: str = ""
    within: Mapping[str, Any] = field(default_factory=dict)


def option(
    default: Any = MISSING, text: str = "", *, factory: Callable[[], Any] | None = None, flag: str = "", **declared: Any
) -> Any:
    """A field that is an option.

    Args:
        default: Its default.
        text: Its help on the command line.
        factory: Instead of a default: makes it.
        flag: How the command line spells it, several separated by spaces.
        declared: Fields of `Option`.

    """
    metadata = {"option": Option(flags=tuple(flag.split()), help=text, **declared)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A field that is an option.

    Attributes:
        kind: Its type, without None; the first of several.
        optional: None is one of its values.
        default: As of the field.
        option: The rest.

    """

    kind: Any
    optional: bool
    default: Any
    option: Option


def declarations(cls: type[Any]) -> dict[str, Declaration]:
    """The options of a dataclass, by the field's name."""
    types = get_type_hints(cls)
    declared = {}
    for one in dataclasses.fields(cls):
        if "option" in one.metadata:
            members = get_args(types[one.name]) if isinstance(types[one.name], UnionType) else (types[one.name],)
            declared[one.name] = Declaration(
                kind=next(member for member in members if member is not NoneType),
                optional=NoneType in members,
                default=one.default if one.default_factory is MISSING else one.default_factory(),
                option=one.metadata["option"],
            )
    return declared


def from_keys(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a dataclass by their fields' names, of a recipe's values by key; tuples of lists."""
    return {
        name: tuple(values[key]) if isinstance(values[key], list) else values[key]
        for name, declared in declarations(cls).items()
        if declared.option.recipe and (key := declared.option.key or name) in values
    }


def to_keys(cls: type[Any], options: Any) -> dict[str, Any]:
    """The other way: what a recipe says of these options, by key."""
    return {
        declared.option.key or name: getattr(options, name)
        for name, declared in declarations(cls).items()
        if declared.option.recipe and hasattr(options, name)
    }


def common_fields(cls: type[Any], values: Any) -> dict[str, Any]:
    """The fields of a dataclass that another object has under the same names, to make one of it."""
    return {one.name: getattr(values, one.name) for one in dataclasses.fields(cls) if hasattr(values, one.name)}
