"""The command line: `edgeport`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The console script; ends the process with an exit code."""
    import sys

    from edgeport.cli.app import run

    sys.exit(run(sys.argv[1:]))
