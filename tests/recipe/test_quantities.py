import pytest

from edgeport.recipe.quantities import NotAQuantity, parse_bytes, parse_latency, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p50<=5ms", (0.5, 5_000_000)),
        ("p99.9 <= 1.5 s", (0.999, 1_500_000_000)),
        ("P90 < 800 us", (0.9, 800_000)),
        ("5 ms", (0.5, 5_000_000)),
        ("p50 ≤ 7 µs", (0.5, 7_000)),
    ],
)
def test_latencies(text: str, expected: tuple[float, int]) -> None:
    assert parse_latency(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "p50", "p100 <= 5 ms", "p0 <= 5 ms", "-5 ms", "p50 >= 5 ms", "5 MB", "5 m s", "p50 <= 1e400 ms"]
)
def test_what_is_no_latency(text: str) -> None:
    with pytest.raises(NotAQuantity):
        parse_latency(text)


def test_sizes_and_times() -> None:
    assert parse_bytes("10 MB") == 10_000_000
    assert parse_bytes("<= 1.5 MiB") == 3 << 19
    assert parse_time("200ms") == 200_000_000
    no_quantities = ("10", "10 ms", "1e400 MB")
    for parse, text in (
        *((parse_bytes, text) for text in no_quantities),
        (parse_time, "1 MB"),
        (parse_time, "1e400 s"),
    ):
        with pytest.raises(NotAQuantity):
            parse(text)
