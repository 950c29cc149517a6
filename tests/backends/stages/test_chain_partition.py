"""The best chain, against every chain that there is."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.backends.stages.chain_partition import GIVEN, Carried, Dag, best_chain


@st.composite
def dags(draw, most=7):
    count = draw(st.integers(1, most))
    waits = tuple(
        frozenset(draw(st.sets(st.integers(0, part - 1), max_size=2)) if part else ()) for part in range(count)
    )
    values = [
        Carried(
            name=f"v{part}",
            source=part,
            readers=frozenset(reader for reader in range(count) if part in waits[reader]),
            size_bytes=draw(st.integers(0, 50)),
            leaves=draw(st.booleans()),
            can_cross=draw(st.integers(0, 9)) > 0,
        )
        for part in range(count)
    ]
    readers = frozenset(draw(st.sets(st.integers(0, count - 1), min_size=1)))
    values.append(Carried(name="x", source=GIVEN, readers=readers, size_bytes=draw(st.integers(0, 50))))
    times = tuple(float(draw(st.integers(0, 100))) for _ in range(count))
    return Dag(times_ns=times, waits_for=waits, values=tuple(values))


def every_chain(dag, stages, ns_per_byte):
    """(slowest stage, bytes) of every cut, the slow way: each part gets each number of a stage."""
    count = len(dag.times_ns)
    for numbers in itertools.product(range(stages), repeat=count):
        if set(numbers) != set(range(stages)):
            continue
        if any(numbers[before] > numbers[part] for part in range(count) for before in dag.waits_for[part]):
            continue
        carried = [
            [
                value
                for value in dag.values
                if (value.source == GIVEN or numbers[value.source] < cut)
                and (value.leaves or any(numbers[reader] >= cut for reader in value.readers))
            ]
            for cut in range(1, stages)
        ]
        if not all(value.can_cross for values in carried for value in values):
            continue
        sizes = [0, *(sum(value.size_bytes for value in values) for values in carried), 0]
        times = [
            sum(dag.times_ns[part] for part in range(count) if numbers[part] == stage)
            + ns_per_byte * (sizes[stage] + sizes[stage + 1])
            for stage in range(stages)
        ]
        yield max(times), sum(sizes)


@settings(max_examples=60, deadline=None)
@given(
    dag=dags(most=6), stages=st.integers(1, 3), ns_per_byte=st.sampled_from([0.0, 0.5]), slack=st.sampled_from([0, 0.2])
)
def test_no_chain_is_better(dag, stages, ns_per_byte, slack):
    found = best_chain(dag, stages, ns_per_byte=ns_per_byte, slack=slack)
    others = list(every_chain(dag, stages, ns_per_byte))
    if not others:
        assert found is None
        return
    shortest = min(slowest for slowest, _ in others)
    leanest = min(size for slowest, size in others if slowest <= shortest * (1 + slack) + 1e-6)
    assert found.exhaustive
    assert max(found.times_ns) <= shortest * (1 + slack) + 1e-6
    assert sum(found.crossing_bytes) == leanest
    assert sorted(itertools.chain(*found.stages)) == list(range(len(dag.times_ns)))


@settings(max_examples=40, deadline=None)
@given(dag=dags(), stages=st.integers(1, 3))
def test_three_orders_give_a_right_chain_too(dag, stages):
    best = best_chain(dag, stages, ns_per_byte=0.1, slack=0)
    found = best_chain(dag, stages, ns_per_byte=0.1, slack=0, most_sets=1)
    if found is None:
        return
    assert not found.exhaustive or len(dag.times_ns) == 0
    assert max(found.times_ns) >= max(best.times_ns) - 1e-9
    stage_of = {part: index for index, parts in enumerate(found.stages) for part in parts}
    assert all(stage_of[before] <= stage_of[part] for part, all_ in enumerate(dag.waits_for) for before in all_)


@pytest.mark.parametrize("most_sets", [1, 4000])
def test_a_long_chain_is_cut_where_little_crosses(most_sets):
    count = 200
    values = tuple(
        Carried(name=str(part), source=part, readers=frozenset([part + 1]), size_bytes=1 if part % 10 == 4 else 100)
        for part in range(count - 1)
    )
    waits = tuple(frozenset([part - 1] if part else []) for part in range(count))
    dag = Dag(times_ns=(1000.0,) * count, waits_for=waits, values=values)
    found = best_chain(dag, 4, ns_per_byte=0.0, slack=0.2, most_sets=most_sets)
    assert found.crossing_bytes == (1, 1, 1)
    assert max(found.times_ns) <= 1000 * 50 * 1.2
    assert math.isclose(sum(found.times_ns), 1000 * count)
    assert [len(stage) for stage in found.stages] == [45, 50, 50, 55]  # as even as cuts of one byte allow


def test_wide_graphs_are_cut_along_orders():
    """64 branches side by side have 2**64 down-sets."""
    dag = Dag(
        times_ns=(1.0,) * 64,
        waits_for=(frozenset(),) * 64,
        values=tuple(Carried(name=str(n), source=n, readers=frozenset(), size_bytes=1, leaves=True) for n in range(64)),
    )
    found = best_chain(dag, 2, ns_per_byte=0.0, slack=0.0)
    assert not found.exhaustive
    assert found.times_ns == (32.0, 32.0)


@pytest.mark.parametrize(
    ("slowness", "counts"),
    [((), [20, 20]), ((1.0, 3.0), [30, 10]), ((4.0, 1.0), [8, 32]), ((1.0, 1.0, 2.0), [16, 16, 8])],
)
def test_a_slow_place_gets_less(slowness, counts):
    count = 40
    values = tuple(
        Carried(name=str(part), source=part, readers=frozenset([part + 1]), size_bytes=1) for part in range(count - 1)
    )
    waits = tuple(frozenset([part - 1] if part else []) for part in range(count))
    dag = Dag(times_ns=(10.0,) * count, waits_for=waits, values=values)
    found = best_chain(dag, len(counts), ns_per_byte=0.0, slack=0.0, slowness=slowness)
    assert [len(stage) for stage in found.stages] == counts
    taken = [10.0 * number * slow for number, slow in zip(counts, slowness or (1.0,) * len(counts), strict=True)]
    assert found.times_ns == pytest.approx(taken)
