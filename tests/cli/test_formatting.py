"""Numbers as tables show them."""

import math

from edgeport.cli.formatting import gain_span, peak_of
from edgeport.contracts.verdict import Interval
from edgeport.report.figures import gain_interval_text


def test_a_gain_that_few_rounds_can_not_bound_says_so() -> None:
    unbounded = Interval(low=0.0, estimate=1.3, high=math.inf, confidence=0.95)
    bounded = Interval(low=1.25, estimate=1.3, high=1.35, confidence=0.95)

    assert (gain_span(unbounded), gain_span(bounded)) == ("too few rounds", "1.25..1.35")
    assert (gain_interval_text(unbounded), gain_interval_text(bounded)) == ("too few rounds", "1.25 to 1.35")


def test_memory_that_no_device_told_is_no_size() -> None:
    assert (peak_of(0), peak_of(90_000_000)) == ("not told", "90.0 MB")
