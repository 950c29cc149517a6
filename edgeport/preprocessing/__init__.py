"""From raw samples to what a model takes: declared once, applied in one way everywhere."""

from edgeport.preprocessing.apply import Preprocessor, apply
from edgeport.preprocessing.folding import inside_of, outside_of, value_range

__all__ = ["Preprocessor", "apply", "inside_of", "outside_of", "value_range"]
