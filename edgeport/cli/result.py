"""How a run's result is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeport.cli.output import Output, exit_code

if TYPE_CHECKING:
    from edgeport.contracts import RunResult

__all__ = ["show_run"]


def show_run(output: Output, result: RunResult) -> int:
    """Prints it, and gives the exit code."""
    from edgeport.cli.render import draw_run

    output.show(lambda: _summary(result), lambda console: draw_run(console, result))
    return exit_code(result.outcome)


def _summary(result: RunResult) -> dict[str, Any]:
    """Everything but the raw traces, which are megabytes."""
    from edgeport.contracts import to_jsonable

    values: dict[str, Any] = to_jsonable(_without_traces(result))
    for one in (values, *values["targets"]):
        del one["measurements"], one["confirmation"]
    return values


def _without_traces(result: RunResult) -> RunResult:
    from dataclasses import replace

    targets = tuple(_without_traces(one) for one in result.targets)
    return replace(result, targets=targets, measurements={}, confirmation={})
