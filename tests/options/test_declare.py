"""What is declared once arrives everywhere: on the command line, in recipes, and in what Python is told."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

import edgeport.options
from edgeport.cli.options import options_of
from edgeport.errors import ContractError, UsageError
from edgeport.options.declare import common_fields, declarations, from_keys, option, to_keys

MODULES = [one.name for one in pkgutil.iter_modules(edgeport.options.__path__)]
CLASSES = sorted(
    {
        one
        for name in MODULES
        for _, one in inspect.getmembers(importlib.import_module(f"edgeport.options.{name}"), inspect.isclass)
        if one.__name__.endswith(("Options", "Settings")) and one.__module__.startswith("edgeport.options")
    },
    key=lambda one: one.__name__,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a command that there is not."""

    width: int = option(8, "How wide.", least=1, recipe="how wide")
    terms: tuple[str, ...] = option((), flag="-t", recipe="terms", key="parts")
    rate: float | None = option(None, "How fast.", above=0, below=1)
    until_s: float | None = option(None, flag="--until", parse="duration")
    kept: bool = option(default=True, flag="--thrown", parse="not", default_text=False)
    inner: int = 3

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ContractError(asked="be wide", found="13", fix="take another")


def given_by(*arguments: str) -> Options:
    """What a command gets."""
    given: list[Options] = []

    @click.command()
    @options_of(Options)
    def command(*, options: Options) -> None:
        given.append(options)

    ran = CliRunner().invoke(command, arguments)
    if ran.exception is not None:
        raise ran.exception
    return given[0]


def test_a_command_gets_one_object() -> None:
    assert given_by() == Options()
    asked = ("--width", "2", "-t", "a", "-t", "b", "--rate", "0.5", "--until", "2m", "--thrown")
    assert given_by(*asked) == Options(width=2, terms=("a", "b"), rate=0.5, until_s=120.0, kept=False)


@pytest.mark.parametrize("arguments", [("--width", "0"), ("--rate", "1"), ("--inner", "4")], ids=" ".join)
def test_bounds_are_those_that_are_declared_and_nothing_else_is_offered(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        given_by(*arguments)


def test_what_a_class_refuses_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="13"):
        given_by("--width", "13")


def test_help_has_texts_bounds_and_defaults() -> None:
    command = click.command()(options_of(Options, "rate width")(lambda **_: None))
    text = command.get_help(click.Context(command))
    assert re.search(r"--rate FLOAT RANGE +How fast\. +\[0<x<1\]\n +--width INTEGER RANGE +How wide\.", text)
    assert "[default: 8; x>=1]" in " ".join(text.split())
    assert "--until" not in text


def test_keys_of_a_recipe_and_back() -> None:
    keys = {"width": 2, "parts": ["a"]}
    options = Options(**from_keys(Options, keys), rate=0.5)
    assert options == Options(width=2, terms=("a",), rate=0.5)
    assert to_keys(Options, options) == {"width": 2, "parts": ("a",)}


def test_one_object_of_another() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wider(Options):
        depth: int = 1

    assert Options(**common_fields(Options, Wider(width=3, depth=2))) == Options(width=3)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda one: one.__name__)
def test_every_option_is_described_to_who_writes_python(cls: type[Any]) -> None:
    text = "\n".join(one.__doc__ or "" for one in cls.__mro__)
    missing = [name for name in declarations(cls) if not re.search(rf"^ +(\w+, )*{name}(, \w+)*: ", text, re.MULTILINE)]
    assert missing == []


def test_they_load_nothing_of_edgeport_but_themselves() -> None:
    code = f"import sys\nfor name in {MODULES!r}: __import__(f'edgeport.options.{{name}}')\n"
    code += "print(sorted(name for name in sys.modules if name.startswith('edgeport.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in re.findall(r"'([\w.]+)'", done.stdout) if not name.startswith("edgeport.options")}
    assert loaded <= {"edgeport.errors"}
