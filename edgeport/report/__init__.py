"""One self-contained HTML file that shows what a run found and why it chose as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.report.write import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> object:
    """Loads the writer when it is first used, so that `import edgeport.report` costs nothing."""
    if name == "write_report":
        from edgeport.report.write import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
