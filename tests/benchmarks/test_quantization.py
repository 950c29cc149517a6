"""What the quantization benchmark claims from its rows, and one small run from end to end."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.harness import kept, slug, sqnr_db, watched
from benchmarks.quantization import ceiling, checks, latency, layers
from benchmarks.quantization.__main__ import main
from benchmarks.quantization.candidates import Candidate
from benchmarks.quantization.checks import accuracy_checks, latency_checks, time_checks
from benchmarks.quantization.latency import finalists, latency_row, merged
from benchmarks.quantization.prepare import MAKERS, varied, write_many
from benchmarks.quantization.quantizers import PEERS
from benchmarks.quantization.rows import AccuracyRow, LatencyRow, TimeRow, accuracy_table, latency_table, time_table
from benchmarks.quantization.subjects import SUBJECTS

MB = 1_000_000


def timed(name, kind, seconds, peak_mb, *, method="minmax", runtime="onnxruntime", count=1000, index=0, why=""):
    return TimeRow(
        model="net",
        name=name,
        kind=kind,
        runtime=runtime,
        method="" if kind == "plain" else method,
        count=count,
        round=index,
        why=why,
        told="",
        seconds=seconds,
        peak_bytes=peak_mb * MB,
        load=0.0,
        at="2026-01-01 00:00",
    )


PLAIN = [timed("plain pass, batch 1", "plain", 10.0, 100), timed("plain pass, batch 32", "plain", 8.0, 150)]


def named(found, words):
    (check,) = [check for check in found if words in check.name]
    return check


def test_a_plain_pass_bounds_time_and_memory_by_its_faster_and_its_smaller_form():
    found = time_checks([*PLAIN, timed("ours", "ours", 22.9, 301)])
    seconds, memory = named(found, "seconds (2.5"), named(found, "MB (2")
    assert (seconds.value, seconds.bound, seconds.holds) == (22.9, 2.5 * 8.0 + 3.0, True)
    assert (memory.value, memory.bound, memory.holds) == (301.0, 300.0, False)


def test_methods_other_than_min_max_have_more_time():
    found = time_checks([*PLAIN, timed("ours", "ours", 34.0, 100, method="entropy")])
    assert named(found, "seconds (4").bound == 4 * 8.0 + 3.0


def test_the_worst_round_counts_against_the_plain_pass_of_that_round():
    second = [timed("plain pass, batch 1", "plain", 4.0, 100, index=1)]
    rows = [*PLAIN, *second, timed("ours", "ours", 20.0, 100), timed("ours", "ours", 14.0, 100, index=1)]
    check = named(time_checks(rows), "seconds (2.5")
    assert (check.value, check.bound, check.holds) == (14.0, 13.0, False)


@pytest.mark.parametrize(("many_mb", "holds"), [(105, True), (106, False)])
def test_memory_may_not_grow_with_the_samples(many_mb, holds):
    rows = [*PLAIN, timed("ours", "ours", 1.0, 100, count=100), timed("ours", "ours", 1.0, many_mb)]
    assert named(time_checks(rows), "memory over 1000").holds == holds


def test_ours_is_compared_with_the_fastest_and_the_leanest_peer_of_the_same_method():
    rows = [
        timed("ours", "ours", 20.0, 100),
        timed("fast", "peer", 19.0, 400),
        timed("lean", "peer", 40.0, 101),
        timed("other", "peer", 1.0, 1, method="entropy"),
        timed("elsewhere", "peer", 1.0, 1, runtime="openvino"),
    ]
    found = time_checks(rows)
    assert (named(found, "seconds against fast").value, named(found, "seconds against fast").bound) == (20.0, 19.0)
    assert (named(found, "MB against lean").value, named(found, "MB against lean").bound) == (100.0, 101.0)
    assert not any("other" in check.name or "elsewhere" in check.name for check in found)


def test_a_peer_that_was_stopped_is_compared_where_it_ended():
    rows = [
        timed("ours", "ours", 9.0, 100, count=100),
        timed("ours", "ours", 20.0, 100),
        timed("peer", "peer", 10.0, 400, count=100),
        timed("peer", "peer", 5.0, 4000, why="over memory"),
    ]
    check = named(time_checks(rows), "seconds against peer")
    assert "over 100 samples" in check.name
    assert (check.value, check.bound) == (9.0, 10.0)


def test_a_failure_of_ours_is_a_claim_that_falls_short():
    found = time_checks([*PLAIN, timed("ours", "ours", 5.0, 4000, why="over memory")])
    assert [(check.name, check.holds) for check in found] == [("net: ours over 1000 samples: over memory", False)]


def judged(model, name, kind, sqnr, value=0.9, low=-0.01, *, why=""):
    drop = 0.9 - value
    figures = {"value": value, "reference": 0.9, "drop": drop, "low": low, "high": drop + 0.01}
    return AccuracyRow(
        model=model,
        name=name,
        kind=kind,
        runtime="onnxruntime",
        why=why,
        sqnr_db=None if why else sqnr,
        judged={} if why else {"top1": figures},
    )


def test_sqnr_is_compared_with_each_peer_over_the_models_that_it_can_do():
    rows = [
        judged("a", "ours", "ours", 20.0),
        judged("b", "ours", "ours", 30.0),
        judged("a", "one", "peer", 25.0),
        judged("b", "one", "peer", 20.0),
        judged("a", "two", "peer", 18.0),
        judged("b", "two", "peer", 0.0, why="exit status 1"),
    ]
    check = named(accuracy_checks(rows), "SQNR")
    assert "one" not in check.name
    assert "two" in check.name
    assert check.value == pytest.approx(2.0)
    assert check.holds


@pytest.mark.parametrize(
    ("value", "low", "holds"),
    [
        pytest.param(0.88, -0.001, True, id="not significant"),
        pytest.param(0.896, 0.001, True, id="under half a point"),
        pytest.param(0.894, 0.001, False, id="significant and above"),
    ],
)
def test_a_loss_counts_where_it_is_significant(value, low, holds):
    assert named(accuracy_checks([judged("a", "ours", "ours", 20.0, value, low)]), "significant").holds == holds


def test_no_metric_may_be_a_point_below_the_best_peer():
    rows = [
        judged("a", "ours", "ours", 20.0, 0.87),
        judged("a", "one", "peer", 10.0, 0.85),
        judged("a", "two", "peer", 10.0, 0.89),
    ]
    check = named(accuracy_checks(rows), "below")
    assert check.name.endswith("below two")
    assert not check.holds


def test_candidates_with_other_settings_are_not_judged():
    rows = [judged("a", "ours", "ours", 20.0), judged("a", "corrected", "beside", 5.0, 0.5, 0.3)]
    assert not any("corrected" in check.name for check in accuracy_checks(rows))


def raced(model, **speedups):
    """Ours, the float and peers by name, with how many times as fast ours is."""
    names = ["Edgeport ONNX Runtime", *speedups]
    return LatencyRow(
        model=model,
        runtimes=dict.fromkeys(names, "onnxruntime"),
        kinds={name: "float" if name == "float" else "ours" if name in names[:1] else "peer" for name in names},
        medians_us=dict.fromkeys(names, 100.0),
        speedups={names[0]: {name: (0.98 * value, value, 1.02 * value) for name, value in speedups.items()}},
        rounds=8,
        finalists=[],
        final_rounds=0,
        disturbed=0,
        at="2026-01-01 00:00",
    )


PEERS_HERE = {"one": "onnxruntime", "two": "onnxruntime", "elsewhere": "openvino"}


def test_the_float_file_stands_in_for_a_peer_that_failed():
    rows = [raced("a", float=3.0, one=1.0, two=1.5), raced("b", float=2.0, one=1.0)]
    found = latency_checks(rows, PEERS_HERE)
    check = named(found, "geometric mean")
    assert "as one," in check.name
    assert check.value == pytest.approx(1.0)
    without = latency_checks([raced("a", float=3.0, two=1.5), raced("b", float=2.0)], {"two": "onnxruntime"})
    assert named(without, "geometric mean").value == pytest.approx((1.5 * 2.0) ** 0.5)


@pytest.mark.parametrize(("speedup", "holds"), [(1.0, True), (0.98, False)])
def test_the_lower_end_against_the_best_file_counts(speedup, holds):
    found = latency_checks([raced("a", float=3.0, one=1.5, two=speedup)], PEERS_HERE)
    check = named(found, "lower end")
    assert "as two," in check.name
    assert check.holds == holds


@pytest.mark.parametrize(("speedup", "holds"), [(2.1, True), (2.02, False)])
def test_two_models_must_be_twice_as_fast_as_the_best_float(speedup, holds):
    assert named(latency_checks([raced("MiniLM", float=speedup)], {}), "best float").holds == holds
    assert not latency_checks([raced("other", float=speedup)], {})


def test_the_second_stage_times_ours_beside_the_best():
    medians = {"ours": 1.0, "float": 3.0, "half": 2.0, "a": 1.5, "b": 1.2, "c, rest bf16": 0.9, "d, rest bf16": 1.1}
    kinds = dict.fromkeys(medians, "peer") | {"ours": "ours", "float": "float", "half": "float"}
    found = finalists(medians, kinds, dict.fromkeys(medians, "openvino"))
    assert found == ["ours", "half", "b", "c, rest bf16"]


def test_rounds_of_other_finalists_are_not_gone_on_with(tmp_path, monkeypatch):
    """The first stage went on after a stop, and another peer is the fastest by now."""
    kinds = {"ours": "ours", "float": "float", "one": "peer", "two": "peer"}
    every = [Candidate(name=name, kind=kind, runtime="onnxruntime", folder=tmp_path) for name, kind in kinds.items()]
    medians = {"ours": 1.0, "float": 3.0, "one": 1.1, "two": 1.2}
    places = []

    def measured(timed, folder, rounds, place):
        if rounds == 1:
            return medians, 0
        places.append((place, [one.name for one in timed]))
        raise KeyboardInterrupt

    monkeypatch.setattr(latency, "candidates", lambda *_, **__: every)
    monkeypatch.setattr(latency, "measured_rounds", measured)
    monkeypatch.setattr(latency, "median_us", lambda one: one)
    for fastest in ("one", "one", "two"):
        medians |= {"one": 1.1, "two": 1.1, fastest: 1.0}
        with pytest.raises(KeyboardInterrupt):
            latency_row(SUBJECTS["tiny"], tmp_path, rounds=(1, 2), measure=True)
    assert [names[-1] for _, names in places] == ["one", "one", "two"]
    assert places[0] == places[1]
    assert places[1][0] != places[2][0]


def test_the_second_stage_counts_where_both_are_in_it():
    first = {"ours": {"a": (0.8, 1.0, 1.2), "b": (0.8, 1.1, 1.3)}}
    assert merged(first, {"ours": {"b": (0.9, 1.0, 1.1)}}) == {"ours": {"a": (0.8, 1.0, 1.2), "b": (0.9, 1.0, 1.1)}}


def test_the_best_file_is_one_of_the_second_stage():
    row = replace(raced("a", float=3.0, one=0.99, two=1.02), finalists=["ours", "two"])
    check = named(latency_checks([row], PEERS_HERE), "lower end")
    assert "as two," in check.name
    assert check.holds


def test_bounds_are_those_that_are_claimed():
    assert (checks.LOSS, checks.BELOW_PEER, checks.MOST_GROWTH) == (0.005, 0.01, 1.05)


def test_tables_show_what_failed():
    table = time_table([timed("peer", "peer", 5.0, 4000, why="over memory")])
    assert table.rows == (("net", "peer", "1000", "over memory after 5 s", "4000", "0.0", "2026-01-01 00:00"),)
    assert accuracy_table([judged("a", "one", "peer", 0.0, why="exit status 1")]).rows[0][3] == "exit status 1: "
    assert latency_table([raced("a", float=3.0)]).rows[-1][-1] == "3.00 (2.94..3.06)"


def test_sqnr_is_of_powers_over_all_values():
    reference = np.array([[3.0, 4.0]], np.float32)
    assert sqnr_db(reference + np.float32(0.5), reference) == pytest.approx(10 * np.log10(25 / 0.5))
    assert sqnr_db(reference, reference) == 150.0


def test_rows_are_kept_in_their_order(tmp_path):
    found = kept(tmp_path / "found.json", dict, lambda: {"teacher": 1.0, "student": 0.5})
    assert list(found) == ["teacher", "student"]
    path, row = tmp_path / "rows" / "one.json", timed("peer", "peer", 5.0, 4000)
    assert kept(path, TimeRow, lambda: row) == row
    assert kept(path, TimeRow, pytest.fail) == row


def test_names_of_files_are_distinct():
    assert len({slug(name) for name in PEERS}) == len(PEERS)
    assert {subject.key for subject in SUBJECTS.values()} == set(MAKERS)
    assert all(peer.of in PEERS for peer in PEERS.values() if peer.of)


def test_what_is_watched_ends_or_is_ended():
    said = watched([sys.executable, "-c", "import sys; print('out'); print('why', file=sys.stderr); sys.exit(3)"])
    assert (said.why, said.printed, said.told) == ("exit status 3", "out\n", "why")
    large = "data = bytearray(200 << 20); import time; time.sleep(60)"
    before = time.perf_counter()
    assert watched([sys.executable, "-c", large], memory_bytes=100 << 20).why == "over memory"
    assert watched([sys.executable, "-c", "import time; time.sleep(60)"], time_s=0.1).why == "over time"
    assert time.perf_counter() - before < 30
    held = watched([sys.executable, "-c", "data = bytearray(50 << 20); import time; time.sleep(0.3)"])
    assert not held.why
    assert 50 << 20 < held.peak_bytes < 100 << 20


def test_many_samples_are_written_one_by_one(tmp_path):
    path = tmp_path / "many.npz"
    write_many(path, ({"x": np.full((1, 2), n, np.float32), "y": np.full(1, n)} for n in range(9)), 4)
    with np.load(path, allow_pickle=False) as file:
        assert file["x"].tolist() == [[n, n] for n in range(4)]
        assert file["y"].tolist() == [0, 1, 2, 3]


def test_variations_are_of_the_seed_and_differ():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    first, second = ([next(found) for _ in range(4)] for found in (varied([image], (8, 8)), varied([image], (8, 8))))
    assert all(one.shape == (8, 8, 3) and one.dtype == np.uint8 for one in first)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.slow
def test_the_ceiling_is_what_products_alone_gain(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ceiling, "TOKENS", 4)
    monkeypatch.setattr(ceiling, "WIDTH", 16)
    monkeypatch.setattr(ceiling, "HIDDEN", 32)
    assert ceiling.main(["--out", str(tmp_path), "--short"]) == 0
    assert "Edgeport OpenVINO" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {"float OpenVINO", "bf16 OpenVINO", "Edgeport ONNX Runtime"} <= results["figures"]["medians_us"].keys()


@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        pytest.param([96, 1, 1, 3, 3], "convolutions, depthwise", id="depthwise"),
        pytest.param([4, 8, 8, 3, 3], "convolutions in groups", id="groups"),
        pytest.param([32, 3, 3, 3], "convolutions, wider than a point", id="wider"),
        pytest.param([96, 16, 1, 1], "convolutions, pointwise, of fewer than 100 channels", id="few"),
        pytest.param([96, 500, 1, 1], "convolutions, pointwise, of 500 or more channels", id="many"),
    ],
)
def test_layers_are_told_apart_by_their_weights(weight, kind):
    assert layers._kind(weight) == kind


def test_a_kinds_times_are_summed():
    times = {"bf16 OpenVINO": {"a": 3.0, "b": 1.0, "c": 8.0}, "Edgeport OpenVINO": {"a": 1.0, "b": 1.0, "c": 4.0}}
    kinds = {name: {"a": "pointwise", "b": "pointwise"} for name in times}
    assert layers._by_kind(times, kinds) == [
        ("all else", "1", "8", "4", "2.00"),
        ("pointwise", "2", "4", "2", "2.00"),
        ("in all", "3", "12", "6", "2.00"),
    ]


@pytest.mark.slow
def test_a_small_model_from_end_to_end(tmp_path, capsys):
    wanted = ["float ONNX Runtime", "Edgeport ONNX Runtime", "ORT defaults"]
    asked = ["--out", str(tmp_path), "--short", "--model", "tiny", "--part", "accuracy"]
    asked += [word for name in wanted for word in ("--candidate", name)]
    status = main(asked)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in results["figures"]["accuracy"]] == wanted
    assert all(row["sqnr_db"] > 25 for row in results["figures"]["accuracy"])
    assert [table["title"] for table in results["tables"]] == ["Accuracy"]
    assert status == (0 if all(check["holds"] for check in results["checks"]) else 1)
    capsys.readouterr()
    assert main(asked) == status  # again, from what lies there
    again = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert again["checks"] == results["checks"]
