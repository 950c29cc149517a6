"""A first model to try Edgeport on: handwritten digits that scikit-learn ships, and a small network trained here."""

from edgeport.digits.prepare import prepare

__all__ = ["prepare"]
