"""`edgeport bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FOLDER
from edgeport.cli.output import Output, exit_code, lines, output_options

__all__ = ["command"]

_INVALID = 5


@click.group(name="bundle")
def command() -> None:
    """Checks a bundle.

    \b
    Example:
      edgeport bundle verify edgeport-quickstart/edgeport-out/bundle
    """  # noqa: D301 (click's own mark against wrapping)


@command.command(name="verify")
@click.argument("folder", type=FOLDER)
@click.option("--files-only", is_flag=True, help="Compare files with digests; run nothing.")
@click.option("--trust-code", is_flag=True, help="Run the bundle's session.py although it is not installed here.")
@click.option("--time-limit", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds to run in.")
@output_options
def verify(*, folder: Path, files_only: bool, trust_code: bool, time_limit: float, output: Output) -> int:
    """Every file of the bundle in FOLDER against its manifest; then its sample is run.

    The artifact is opened and run in a child process with limits, and its outputs are compared with the recorded ones.
    Ends with 0 where all is as it was, with 5 where a file changed, it does not run, or other outputs come out, and
    with 4 where nothing here can run it.

    \b
    Example:
      edgeport bundle verify edgeport-quickstart/edgeport-out/bundle
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport.api import verify_bundle

    found = verify_bundle(folder, run=not files_only, trust_code=trust_code, time_limit_s=time_limit)

    from rich.text import Text

    from edgeport.cli.text import clean
    from edgeport.contracts import Outcome, to_jsonable

    ran = found.reproduced
    rows = [Text(clean(problem), style="red") for problem in found.problems]
    rows.append(Text(f"{clean(folder)}: {'changed' if found.problems else 'as it was written'}", style="bold"))
    if found.identity:
        rows.append(Text(f"identity {clean(found.identity)}", style="dim"))
    if ran is not None:
        word = {Outcome.PASS: "runs", Outcome.FAIL: "does not reproduce"}.get(ran.outcome, "not run")
        rows.append(Text(clean(f"{word}: {ran.reason}"), style="" if ran.outcome is Outcome.PASS else "bold yellow"))
    output.show(
        lambda: {
            "bundle": str(folder),
            "valid": not found.problems and (ran is None or ran.outcome is not Outcome.FAIL),
            "identity": found.identity,
            "problems": list(found.problems),
            "reproduced": None if ran is None else to_jsonable(ran),
        },
        lambda console: lines(console, *rows),
    )
    if found.problems or (ran is not None and ran.outcome is Outcome.FAIL):
        return _INVALID
    return 0 if ran is None else exit_code(ran.outcome)
