"""What a person sees at the end of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgeport import api
from edgeport.cli.formatting import TimeUnit, bytes_of, significant, span
from edgeport.cli.output import finite
from edgeport.cli.render import draw_run
from edgeport.contracts import (
    AS_GIVEN,
    AccuracyResult,
    Candidate,
    CompressedBy,
    Interval,
    Lack,
    NearCandidate,
    Outcome,
    PlanSearch,
    Precision,
    Refusal,
    RunResult,
    SearchedGroup,
)

Draw = Callable[..., str]


def lines_of(drawn: Draw, result: RunResult, width: int) -> list[str]:
    return [line.rstrip() for line in drawn(lambda console: draw_run(console, result), width=width).splitlines()]


def test_every_number_of_the_winner_is_there(drawn: Draw, finished: RunResult) -> None:
    lines = lines_of(drawn, finished, 120)
    row = next(index for index, line in enumerate(lines) if line.startswith("onnxruntime  "))

    assert lines[row].split() == [
        "onnxruntime", "0.9717", "0.002", "0.412", "0.453", "2.31x", "313", "kB", "int8", "12/14", "ships",
    ]  # fmt: skip
    assert lines[row + 1].split() == [
        "int8", "0.958..0.983", "-0.002..0.008", "0.404..0.424", "0.445..0.474", "2.22..2.40", "fp32", "2/14",
    ]  # fmt: skip


def test_a_gain_says_what_it_divides_where_that_is_not_the_p50_beside_it(drawn: Draw, finished: RunResult) -> None:
    winner, *others = finished.candidates
    assert winner.against_float is not None
    again = replace(winner.against_float, against="openvino bf16", again_ns={winner.name: 4e5, "openvino bf16": 9.24e5})
    confirmed = replace(finished, candidates=(replace(winner, against_float=again), *others))

    lines = lines_of(drawn, confirmed, 200)

    assert "2.31x*" in next(line for line in lines if line.startswith("onnxruntime  ")).split()
    assert (
        "* Measured again, side by side in fresh processes: onnxruntime int8 took 0.400 ms, openvino bf16 0.924 ms. "
        "p50 and p90 are of the screening, in which all candidates ran."
    ) in lines
    assert not any("Measured again" in line for line in lines_of(drawn, finished, 200))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_broken_or_cut(drawn: Draw, finished: RunResult, width: int) -> None:
    lines = lines_of(drawn, finished, width)

    paths = [line for line in lines if "/home/" in line]
    assert all(len(line) <= width for line in lines if line not in paths and not line.startswith("digits on"))
    assert not any("…" in line for line in lines)
    assert [line.split()[0] for line in paths] == ["bundle", "report"]


def test_a_narrow_window_says_what_it_leaves_out(drawn: Draw, finished: RunResult) -> None:
    assert "(p90 ms, size, ran as: in a wider window, in the report and in --json)" in lines_of(drawn, finished, 80)
    assert not any("wider window" in line for line in lines_of(drawn, finished, 120))


def test_every_refusal_has_its_reason(drawn: Draw, finished: RunResult) -> None:
    text = "\n".join(lines_of(drawn, finished, 160))

    for candidate in finished.candidates:
        if candidate.refusal is not None:
            assert f"{candidate.name} " in text
            assert candidate.refusal.reason in text


def searched(candidate: str) -> PlanSearch:
    def group(name: str, noise: float | None, precision: Precision, reason: str = "") -> SearchedGroup:
        return SearchedGroup(name=name, nodes=(name, f"{name}.relu"), noise=noise, precision=precision, reason=reason)

    return PlanSearch(
        candidate=candidate,
        backend="onnxruntime",
        said="onnxruntime, search of 9 s: 1 of 2 groups.",
        groups=(
            group("stem", 0.1, Precision.FP32, "with it in int8 the accuracy budget did not hold"),
            group("head", None, Precision.INT8),
        ),
    )


def test_what_a_searched_plan_keeps_in_float_is_listed_with_its_reason(drawn: Draw, finished: RunResult) -> None:
    lines = lines_of(drawn, replace(finished, searches=(searched("onnxruntime int8 tuned"),)), 120)
    title = lines.index("onnxruntime int8 tuned keeps in float")
    assert lines[title + 1].split(maxsplit=2) == [
        "stem,",
        "stem.relu",
        "with it in int8 the accuracy budget did not hold",
    ]
    assert not any("head.relu" in line for line in lines)
    none = lines_of(drawn, replace(finished, searches=(searched(""),)), 120)
    assert not any("keeps in float" in line for line in none), "a plan that is no candidate of its own"


def test_the_answer_comes_last(drawn: Draw, finished: RunResult) -> None:
    lines = lines_of(drawn, finished, 200)

    assert lines[-4] == (
        "onnxruntime int8 ships: 2.31x the speed of openvino bf16 (2.22..2.40, 95 % interval); "
        "top1 drops by 0.002 (-0.002..0.008; 0.02 is allowed)."
    )
    assert lines[-1] == "  took    132 s, 3 steps answered by the store"


def test_nothing_ships_is_said(drawn: Draw, finished: RunResult) -> None:
    nothing = replace(finished, chosen="", bundle=None, outcome=Outcome.FAIL)

    assert "Nothing ships." in "\n".join(lines_of(drawn, nothing, 120))


def test_a_model_that_came_quantized_is_called_no_float(drawn: Draw, finished: RunResult) -> None:
    (given,) = (one for one in finished.candidates if one.name == finished.best_float)
    given = replace(given, name="openvino as given", variant=AS_GIVEN, refusal=None, outcome=Outcome.PASS)
    came = replace(finished, candidates=(given,), chosen=given.name, best_float=given.name)

    lines = lines_of(drawn, came, 120)

    assert any(line.startswith("openvino as given ships: quantized already, it was judged") for line in lines)
    assert any(line.rstrip().endswith("fastest") for line in lines)
    assert "best float" not in "\n".join(lines)


def test_a_float_that_ships_is_said(drawn: Draw, finished: RunResult) -> None:
    best = replace(finished, chosen=finished.best_float)

    assert any(line.startswith("openvino bf16 ships: nothing quantized") for line in lines_of(drawn, best, 120))


def test_names_can_not_draw(drawn: Draw, finished: RunResult) -> None:
    evil = "net[bold red]\x1b[2J\x07"
    hostile = replace(
        finished,
        name=evil,
        notes=(evil,),
        candidates=tuple(replace(each, backend=evil, name=f"{evil} int8") for each in finished.candidates[:1]),
        chosen=f"{evil} int8",
        best_float="",
    )

    text = drawn(lambda console: draw_run(console, hostile), width=200)

    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("net[bold red][2J") >= 3


def test_an_accuracy_without_bounds_is_drawn(drawn: Draw, finished: RunResult) -> None:
    inf = float("inf")
    lost = AccuracyResult(
        metric="mae",
        value=Interval(low=-inf, estimate=-inf, high=-inf),
        drop=Interval(low=inf, estimate=inf, high=inf),
        samples=10,
        outcome=Outcome.INVALID,
        reason="NaN",
    )
    broken: Candidate = replace(finished.candidates[0], accuracy=lost)

    text = drawn(lambda console: draw_run(console, replace(finished, candidates=(broken,))), width=120)

    assert "-inf..-inf" in text


def test_json_is_all_of_stdout_and_holds_no_raw_traces(
    edgeport: Any, finished: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "run", lambda *_, **__: finished)

    ran = edgeport("run", "recipe.toml", "--json")
    values = json.loads(ran.out)

    assert values["chosen"] == "onnxruntime int8"
    assert values["candidates"][0]["against_float"]["speedup"]["estimate"] == 2.31
    assert "measurements" not in values
    assert edgeport("run", "recipe.toml", "--json", "--quiet").err == ""


def test_json_has_no_infinities() -> None:
    assert finite({"a": [float("inf"), 1.5, (float("nan"),)]}) == {"a": [None, 1.5, [None]]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.41234, "0.412"), (12.345, "12.3"), (1234.6, "1235"), (0.0, "0"), (-0.5, "-0.500"), (1e-12, "1.00e-12")],
)
def test_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_units_fit() -> None:
    assert TimeUnit.fitting(5e4).name == "us"
    assert TimeUnit.fitting(4e5).name == "ms"
    assert bytes_of(313_400) == "313 kB"
    assert span(Interval(low=0.1, estimate=0.2, high=0.3), places=2) == "0.10..0.30"


def test_what_was_built_and_what_was_not(drawn: Draw, finished: RunResult) -> None:
    lines = lines_of(drawn, finished, 120)
    tensorrt = next(index for index, line in enumerate(lines) if line.startswith("tensorrt  "))
    unsupported = next(index for index, line in enumerate(lines) if line == "bf16" and index > tensorrt)

    assert (lines[tensorrt].endswith("not run"), lines[tensorrt + 1].endswith("built only")) == (True, True)
    assert lines[unsupported - 1].endswith("not built")


def test_a_baseline_and_what_was_not_confirmed_say_so(drawn: Draw, finished: RunResult) -> None:
    best, first = finished.candidate(finished.best_float), finished.candidates[0]
    unasked = replace(best, name="openvino fp16", baseline=True, refusal=Refusal(code="BASELINE", reason="unasked"))
    waiting = replace(first, name="onnxruntime int8 #2", refusal=Refusal(code="UNCONFIRMED", reason="not confirmed"))
    behind = replace(first, name="onnxruntime int8 #3", refusal=Refusal(code="NOT_FASTEST", reason="behind"))
    result = replace(finished, candidates=(*finished.candidates, unasked, waiting, behind))

    lines = lines_of(drawn, result, 160)
    verdicts = {name: at for at, line in enumerate(lines) for name in ("baseline", "no gain") if name in line}

    assert "no gain" not in verdicts
    assert "not asked" in lines[verdicts["baseline"] + 1]
    assert any("unconfirmed" in line for line in lines)
    assert any("not fastest" in line for line in lines)


def _named(finished: RunResult) -> RunResult:
    board = replace(finished, target="board")
    server = replace(finished, target="server", chosen="", bundle=None, outcome=Outcome.FAIL)
    return replace(
        finished,
        targets=(board, server),
        candidates=(),
        best_float="",
        chosen="",
        bundle=None,
        outcome=Outcome.FAIL,
    )


def test_targets_come_one_after_the_other_and_then_in_one_table(drawn: Draw, finished: RunResult) -> None:
    lines = lines_of(drawn, _named(finished), 120)
    summary = lines.index("digits: 1 of 2 targets ship")

    assert [line.partition(" on ")[0] for line in lines if line.startswith("digits for")] == [
        "digits for board",
        "digits for server",
    ]
    assert lines[summary + 2].split() == [
        "board", "ships", "onnxruntime", "int8", "0.412", "ms", "2.31x", "(2.22..2.40)", "0.00170", "313", "kB",
    ]  # fmt: skip
    assert lines[summary + 3].split()[:5] == ["server", "budget", "not", "met", "nothing"]
    assert sum(line.startswith("  took ") for line in lines) == 1
    assert lines[-1].startswith("  took ")


def test_targets_are_in_the_json_without_traces(
    edgeport: Any, finished: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "run", lambda *_, **__: _named(finished))

    ran = edgeport("run", "recipe.toml", "--json")
    values = json.loads(ran.out)

    assert ran.code == 3
    assert [(one["target"], one["chosen"]) for one in values["targets"]] == [
        ("board", "onnxruntime int8"),
        ("server", ""),
    ]
    assert not any("measurements" in one for one in (values, *values["targets"]))


def test_what_comes_nearest_is_drawn_with_all_that_it_lacks(drawn: Draw, finished: RunResult) -> None:
    slow = Lack(of="p90", found=7.2e6, limit=5e6, factor=1.44, text="p90 7.2 ms, budget 5 ms", change="1.44 times")
    big = Lack(of="size", found=2.0, limit=1.0, factor=2.0, text="size 2 B, budget 1 B", change='size = "2 B"')
    near = NearCandidate(name="openvino int8", lacks=(slow, big), kept=("accuracy drop",))
    nothing = replace(finished, chosen="", bundle=None, outcome=Outcome.FAIL, nearest=(near,))

    lines = [line.strip() for line in lines_of(drawn, nothing, 120)]
    start = lines.index("Nearest to shipping, and what each lacks")

    assert lines[start + 1 : start + 5] == [
        "openvino int8  p90 7.2 ms, budget 5 ms",
        "needs 1.44 times",
        "size 2 B, budget 1 B; accuracy drop ok",
        'needs size = "2 B"',
    ]


def test_each_step_of_a_compression_is_a_row(drawn: Draw, finished: RunResult) -> None:
    winner = finished.candidates[0]
    steps = (
        CompressedBy(step="as it is", variant="original", candidate=finished.best_float),
        CompressedBy(step="prune units by l2 (50%)", variant="small", candidate=winner.name, said=("less",), seconds=9),
        CompressedBy(step="prune blocks (9)", variant="pruned + pruned", problem="there are 3"),
    )
    lines = lines_of(drawn, replace(finished, compression=steps), 120)

    at = lines.index("What each step of [[compress]] gave")
    pruned = next(line for line in lines[at:] if line.startswith("  prune units by l2 (50%)"))
    assert pruned.split()[-4:] == ["313", "kB", "9", "s"]
    failed = next(index for index, line in enumerate(lines) if line.startswith("  prune blocks (9)"))
    assert lines[failed].split()[3:] == ["-"] * 5
    assert lines[failed + 1].strip() == "there are 3"
    assert "  prune: less" in lines
    assert not any("[[compress]]" in line for line in lines_of(drawn, finished, 120))
