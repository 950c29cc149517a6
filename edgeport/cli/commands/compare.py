"""`edgeport compare`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.ci_files import CiFiles, ci_options
from edgeport.cli.help_sections import grouped
from edgeport.cli.options import PLACE, options_of
from edgeport.cli.output import Output, output_options
from edgeport.options.bench import CompareOptions

__all__ = ["command"]

_SECTIONS = {
    "What is asked": ("delta", "fail_on"),
    "How long": ("rounds", "until", "time_s", "duration_s", "cool_down_s"),
    "How they are run": ("device", "backend", "threads", "samples", "preprocess"),
    "What is written": ("as_json", "junit", "markdown", "quiet"),
}


@click.command(name="compare", cls=grouped(_SECTIONS))
@click.argument("old", type=PLACE)
@click.argument("new", type=PLACE)
@options_of(CompareOptions)
@ci_options
@output_options
def command(*, old: Path, new: Path, options: CompareOptions, files: CiFiles, output: Output) -> int:
    """Is NEW faster or slower than OLD? Both are run in turn, in pairs of fresh processes.

    OLD and NEW are folders of quantize, bundles, or .onnx files. The answer is IMPROVED or REGRESSED (surely by more
    than delta), FASTER or SLOWER (surely, but perhaps by less), EQUIVALENT (surely within delta), or UNKNOWN.

    Ends with 0 for FASTER, IMPROVED and EQUIVALENT, 3 for SLOWER and REGRESSED, 4 for UNKNOWN, 5 where the numbers
    must not be used.

    \b
    Examples:
      edgeport compare net.onnx net-int8
      edgeport compare net.onnx net-int8 --until 1% --time 30s --fail-on regressed
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_bench import draw_compare

    files.check()
    with output.progress() as on_progress:
        result = api.compare(old, new, options=options, on_progress=on_progress)
    files.write(f"edgeport compare {result.old.name} {result.new.name}", result.rows())
    return output.report(result, draw_compare)
