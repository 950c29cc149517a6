"""Budgets as people write them."""

import pytest

from edgeport.errors import UsageError
from edgeport.recipe.bounds import Bound, BoundKind, parse_bound


@pytest.mark.parametrize(
    ("text", "kind", "limit", "q"),
    [
        pytest.param("p99=20ms", BoundKind.LATENCY, 20e6, 0.99, id="quantile"),
        pytest.param("p99.9 <= 1.5 s", BoundKind.LATENCY, 1.5e9, 0.999, id="spaces"),
        pytest.param("p50<=5ms", BoundKind.LATENCY, 5e6, 0.5, id="at-most"),
        pytest.param("throughput=200/s", BoundKind.THROUGHPUT, 200.0, 0.5, id="throughput"),
        pytest.param("throughput >= 200 per s", BoundKind.THROUGHPUT, 200.0, 0.5, id="at-least"),
        pytest.param("memory=300MB", BoundKind.MEMORY, 300e6, 0.5, id="memory"),
        pytest.param("size=10MiB", BoundKind.SIZE, 10 * 2**20, 0.5, id="size"),
        pytest.param("first-inference=1s", BoundKind.FIRST_INFERENCE, 1e9, 0.5, id="first-inference"),
    ],
)
def test_what_is_meant(text: str, kind: BoundKind, limit: float, q: float) -> None:
    assert parse_bound(text) == Bound(kind=kind, limit=limit, q=q)


def test_a_bound_is_told_as_a_person_would() -> None:
    assert str(parse_bound("p99=20ms")) == "p99 at most 20 ms"
    assert str(parse_bound("throughput=200/s")) == "throughput at least 200 per s"
    assert str(parse_bound("first-inference=1500ms")) == "first inference at most 1.5 s"


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        pytest.param("fast", "no NAME=LIMIT", "p99=20ms", id="nothing"),
        pytest.param("p99=20", "the limit '20'", "a unit", id="no-unit"),
        pytest.param("p99=-20ms", "the limit '-20ms'", "give", id="negative"),
        pytest.param("p99=0ms", "the limit '0ms'", "above 0", id="zero"),
        pytest.param("p100=20ms", "the limit", "below p100", id="p100"),
        pytest.param("p99>=20ms", "the sign '>='", "at most", id="wrong-side"),
        pytest.param("throughput<=5/s", "the sign '<='", "at least", id="wrong-side-of-a-rate"),
        pytest.param("throughput=5", "the limit '5'", "200/s", id="no-rate"),
        pytest.param("memroy=3MB", "'memroy'", "did you mean 'memory'?", id="misspelt"),
        pytest.param("memory=3 apples", "the limit '3 apples'", "MB", id="no-size"),
        pytest.param("latency=3ms", "'latency'", "p99=20ms", id="no-quantile"),
    ],
)
def test_nonsense_is_told_in_three_parts(text: str, found: str, fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_bound(text)

    assert repr(text) in raised.value.asked
    assert found in raised.value.found
    assert fix in raised.value.fix
