"""What several functions take where nothing is given."""

from __future__ import annotations

from edgeport.contracts import Limits

__all__ = ["DEFAULT_LIMITS"]

DEFAULT_LIMITS = Limits()
"""Of children."""
