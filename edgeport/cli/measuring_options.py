"""What `bench` and `compare` share: how artifacts are run, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import click

from edgeport.cli.options import FILE, raw_samples
from edgeport.errors import UsageError

__all__ = ["duration_of", "measuring_options", "part_of", "rate_of", "seconds_of", "share_of"]

F = TypeVar("F", bound=Callable[..., Any])


def measuring_options(command: F) -> F:
    """Adds what says how long is measured, and with which backend, threads and samples."""
    for option in (
        click.option("--samples", type=FILE, help=".npz with inputs [default: a bundle's own, or random values]."),
        raw_samples,
        click.option("--threads", type=click.IntRange(min=1), help="For a plain .onnx [default: the runtime's own]."),
        click.option("--backend", default="onnxruntime", show_default=True, help="That runs a plain .onnx."),
        click.option(
            "--duration",
            type=click.FloatRange(min=0, min_open=True),
            default=0.3,
            show_default=True,
            metavar="SECONDS",
            help="Of timed calls in each process.",
        ),
        click.option(
            "--time", "time_", metavar="60s", help="Measure no longer than this [default: 60 s where it may go on]."
        ),
        click.option(
            "--cool-down", metavar="30s", help="Rest before each process, at most: until as cool as before the first."
        ),
        click.option("--until", metavar="1%", help="Measure until the 95 % interval is this narrow, to either side."),
        click.option(
            "--rounds",
            type=click.IntRange(min=1),
            default=10,
            show_default=True,
            help="Fresh processes; the fewest where measuring goes on.",
        ),
    ):
        command = option(command)
    return command


def share_of(text: str | None, option: str) -> float | None:
    """A fraction, of "1%".

    Raises:
        UsageError: It is none.

    """
    return _parsed(text, option, lambda known: known.parse_share)


def part_of(text: str | None, option: str) -> float | None:
    """A fraction of at most 1, of "95%"."""
    return _parsed(text, option, lambda known: known.parse_part)


def rate_of(text: str | None, option: str) -> float | None:
    """Per second, of "100/s"."""
    return _parsed(text, option, lambda known: known.parse_rate)


def seconds_of(text: str | None, option: str) -> float | None:
    """Seconds, of "60s"; above 0."""

    def seconds(known: ModuleType, given: str) -> float:
        found: float = known.parse_time(given) / 1e9
        if not found > 0:
            raise known.NotAQuantity('a time above 0, such as "60s"')
        return found

    return _parsed(text, option, lambda known: partial(seconds, known))


def duration_of(text: str | None, option: str) -> float | None:
    """Seconds, of "5m", "90s" or "1h"; above 0."""
    return _parsed(text, option, lambda known: known.parse_duration)


def _parsed(text: str | None, option: str, parser: Callable[[ModuleType], Callable[[str], float]]) -> float | None:
    """By a function of `edgeport.recipe.quantities`, which loads all of recipes and so is only imported for a text."""
    if text is None:
        return None
    from edgeport.recipe import quantities

    try:
        return parser(quantities)(text)
    except quantities.NotAQuantity as error:
        raise UsageError(asked=f"take {option} {text}", found="none of its kind", fix=f"give {error}") from error
