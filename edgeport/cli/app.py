"""The group of commands, which loads a command when it is called, and the one place where errors end.

Nothing heavy may be imported here: `edgeport --help` is to cost little more than an empty Python.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence

import click

from edgeport import __version__
from edgeport.errors import EdgeportError, UsageError

__all__ = ["COMMANDS", "INTERRUPTED", "app", "run"]

INTERRUPTED = 130
"""What shells expect of a program that Ctrl-C ended."""

COMMANDS = {
    "quickstart": "A first run on a small model and data that come with packages.",
    "run": "The whole way of a recipe: the best verified artifact, and the proof.",
    "init": "A recipe for your own model, which runs at once.",
    "doctor": "What is installed and usable here, what is missing, how to get it.",
    "prune": "A PyTorch model without what it can do without.",
    "distill": "A small model that learns from a large one.",
    "export": "A PyTorch model to ONNX.",
    "verify": "PyTorch against the exported model, on samples.",
    "calibrate": "Statistics of every activation over samples.",
    "quantize": "An ONNX model to the artifact of one runtime in one precision.",
    "tune": "How artifacts are best run; or which nodes int8 had better leave in float, within a time.",
    "schedule": "Processors and priorities for models that are at work at the same time.",
    "qat": "Training with a plan's rounding, where integers cost accuracy.",
    "imitate": "Samples that look like yours, for those who must not see the data.",
    "bench": "The latency of an artifact, with intervals and a verdict.",
    "compare": "Is the new artifact faster or slower than the old one?",
    "bundle": "Checks a bundle.",
    "devices": "The devices that artifacts are validated and timed on.",
}
"""Name to help in a line; the module of a command has its name, and an attribute `command`."""


class _LazyGroup(click.Group):
    """Imports a command's module when the command is asked for, not when commands are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgeport.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise _unknown_command(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _unknown_command(name: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return UsageError(
        asked=f"run the command {name!r}",
        found=f"the commands {', '.join(COMMANDS)}",
        fix=f"did you mean {near[0]!r}?" if near else "see edgeport --help",
    )


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeport")
def app() -> None:
    """A trained PyTorch model to ONNX Runtime, OpenVINO and TensorRT: smaller, faster, and proven on the device.

    \b
    Example:
      edgeport quickstart

    Exit codes: 0 done and within budget, 1 error, 2 wrong usage, 3 budget not met or regressed, 4 inconclusive,
    5 invalid.
    """  # noqa: D301 (click's own mark against wrapping)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns the exit code; every error ends here as one readable block."""
    as_json = "--json" in arguments
    try:
        result = app.main(list(arguments), prog_name="edgeport", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _stopped(arguments)
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:  # noqa: BLE001 (the last place that can turn a fault into words)
        return _failed(error, as_json=as_json)
    return result if isinstance(result, int) else 0


def _failed(error: Exception, *, as_json: bool) -> int:
    if os.environ.get("EDGEPORT_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    translated = _translated(error)
    from edgeport.cli.errors import print_error

    print_error(translated, as_json=as_json)
    return error.exit_code if isinstance(error, click.exceptions.Exit) else translated.exit_code


def _translated(error: Exception) -> EdgeportError:
    if isinstance(error, EdgeportError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "edgeport"
        message = error.format_message().rstrip(".").partition(" Did you mean")[0].rstrip(".")
        message = re.sub(r"is not a valid (?:float|integer)(?: range)?$", "is no number of its kind", message)
        return UsageError(
            asked=f"run {command}", found=message[:1].lower() + message[1:], fix=_next_step(error, message, command)
        )
    return EdgeportError(
        asked="do this",
        found=f"a fault of Edgeport's own, {type(error).__name__}: {error}",
        fix="set EDGEPORT_TRACEBACK=1 to see where, and report it",
        details={"type": type(error).__name__},
    )


def _next_step(error: click.ClickException, message: str, command: str) -> str:
    """What is nearest to what was written: an option, a command, or a file."""
    import difflib
    from pathlib import Path

    near = list(getattr(error, "possibilities", None) or ())
    missing = re.search(r"'([^']*)' does not exist$", message)
    if missing is not None and Path(missing[1]).parent.is_dir():
        path = Path(missing[1])
        names = difflib.get_close_matches(path.name, [file.name for file in path.parent.iterdir()], n=1)
        near = [str(path.parent / name) for name in names]
    hint = f"did you mean {near[0]!r}? " if near else "give the path of one that exists; " if missing else ""
    return f"{hint}see {command} --help"


def _stopped(arguments: Sequence[str]) -> int:
    if _keeps(arguments[0] if arguments else ""):
        click.echo("Stopped. What was finished is kept: the same command goes on from there.", err=True)
    else:
        click.echo("Stopped. Nothing is kept of what was not finished: the same command begins anew.", err=True)
    return INTERRUPTED


def _keeps(command: str) -> bool:
    """Whether it keeps what it finished on its way: those do that can be told where."""
    if command not in COMMANDS:
        return False
    module = importlib.import_module(f"edgeport.cli.commands.{command}")
    return any(option.name == "store" for option in module.command.params)


def _reader_gone() -> int:
    # Else Python complains once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
