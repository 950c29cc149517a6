"""What watches a tensor while samples stream through the model."""

from edgeport.calibration.observers.averages import Averages
from edgeport.calibration.observers.extremes import Extremes
from edgeport.calibration.observers.histogram import Histogram
from edgeport.calibration.observers.protocol import Observer
from edgeport.calibration.observers.registry import OBSERVERS, merge_statistics
from edgeport.calibration.observers.summary import Summary, SummaryObserver

__all__ = [
    "OBSERVERS",
    "Averages",
    "Extremes",
    "Histogram",
    "Observer",
    "Summary",
    "SummaryObserver",
    "merge_statistics",
]
