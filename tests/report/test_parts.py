from __future__ import annotations

import numpy as np
import pytest

from edgeport.contracts import Interval, Measurement, ProcessTrace, TimerFacts
from edgeport.report.axes_layout import Frame, round_ticks
from edgeport.report.figures import AccuracyUnit, LatencyUnit, bytes_text, seconds_text
from edgeport.report.samples import distribution, process_medians


def measured(*processes: list[int], calls_per_reading: int = 1) -> Measurement:
    traces = [
        ProcessTrace(
            artifact_digest="d",
            round=index,
            position=0,
            load_ns=1,
            first_inference_ns=1,
            warmup_ns=(),
            latency_ns=tuple(readings),
            calls_per_reading=calls_per_reading,
            timer=TimerFacts(clock="c", resolution_ns=1, overhead_ns=1),
        )
        for index, readings in enumerate(processes)
    ]
    return Measurement(artifact_digest="d", device="here", seed=0, traces=tuple(traces))


def test_readings_of_several_calls_are_divided() -> None:
    assert process_medians(measured([1000, 3000], [5000], calls_per_reading=10)).tolist() == [200.0, 500.0]


def test_processes_without_readings_are_left_out() -> None:
    assert process_medians(measured([], [7])).tolist() == [7.0]
    assert distribution(measured([])) is None


def test_distribution_is_the_one_of_all_calls() -> None:
    found = distribution(measured(list(range(1, 501)), list(range(501, 1001))))
    assert found is not None
    assert len(found.share) <= 240
    assert (np.diff(found.share) > 0).all()
    assert (np.diff(found.latency_ns) >= 0).all()
    assert np.interp(0.5, found.share, found.latency_ns) == pytest.approx(500.5, rel=1e-3)


@pytest.mark.parametrize(
    ("typical_ns", "text"),
    [(250, "0.250 µs"), (131_400, "131 µs"), (1_310_000, "1.31 ms"), (2.5e9, "2.50 s"), (45_600_000, "45.6 ms")],
)
def test_latency_unit_fits(typical_ns: float, text: str) -> None:
    assert LatencyUnit.fitting(typical_ns).text(typical_ns) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("top1", 0.9956, "99.56 %"),
        ("top1", -0.0022, "\N{MINUS SIGN}0.22 %"),
        ("top1", -0.00001, "0.00 %"),
        ("sqnr_db", 34.2, "34.2"),
    ],
)
def test_accuracy_is_per_cent_where_samples_are_counted(metric: str, value: float, text: str) -> None:
    assert AccuracyUnit(metric=metric).text(value) == text


def test_spans_have_both_bounds() -> None:
    assert AccuracyUnit(metric="top1").span(Interval(low=-0.01, estimate=0, high=0.02)) == "\N{MINUS SIGN}1.00 to 2.00"


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (420_000, "420 kB"), (1_570_000, "1.57 MB"), (2e9, "2.00 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_seconds() -> None:
    assert (seconds_text(7.25), seconds_text(127.4)) == ("7.2 s", "2 min 7 s")


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.15), (1, 9), (120, 2400), (1e-3, 1e3), (3, 3e12)])
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    names = ["onnxruntime int8", "openvino int8", "openvino bf16"]
    data = {
        "x": [1.0, 1.01, 1.02], "x0": [0.99, 1.0, 1.01], "x1": [1.01, 1.02, 1.03],
        "y": [99.0, 99.0, 99.0], "y0": [98.0] * 3, "y1": [100.0] * 3, "label": names,
    }  # fmt: skip
    frame = Frame.around(data, 90.0, most=100.0)
    found = frame.label_offsets(data)
    places = list(zip(found["dx"], found["dy"], found["align"], strict=True))
    assert len(set(places)) == 3
    same_side = [dy for _, dy, align in places if align == "left"]
    assert all(abs(a - b) >= 15 for i, a in enumerate(same_side) for b in same_side[i + 1 :])
