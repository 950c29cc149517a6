from __future__ import annotations

import builtins
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeport.contracts import AS_GIVEN, Energy, Outcome, RunResult, TensorSpec
from edgeport.devices.latency import compare
from edgeport.errors import DependencyError, OutputError
from edgeport.report import write_report
from edgeport.report.write import render


class _Page(HTMLParser):
    """The page's words without scripts and styles, and every address that an element would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.jumps: list[str] = []
        self.anchors: list[str] = []
        self.tags: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        addresses = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.jumps += [address for address in addresses if address.startswith("#")]
        self.loads += [address for address in addresses if not address.startswith("#")]
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(result: RunResult) -> _Page:
    return _Page(render(result))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("onnxruntime int8 ships", id="title"),
        pytest.param("It runs 1.71 times as fast as openvino bf16, the best float (95 % interval", id="speed"),
        pytest.param("It loses 0.11 points of top1 against PyTorch float32", id="accuracy"),
        pytest.param("901 samples", id="samples"),
        pytest.param("int8 8/9, fp32 1/9", id="placement"),
        pytest.param("the mean is taken in float", id="fallback-reason"),
        pytest.param("built, not run: there is no GPU here", id="unmeasured"),
        pytest.param("died by SIGSEGV", id="crashed"),
        pytest.param("no bf16 convolution", id="unsupported"),
        pytest.param("onnxruntime bf16 not available", id="unsupported-in-a-word"),
        pytest.param("openvino int8-dynamic crashed", id="crashed-in-a-word"),
        pytest.param("tensorrt int8 built, not run", id="unmeasured-in-a-word"),
        pytest.param("more than the budget of 0.01", id="too-inaccurate"),
        pytest.param("BACKEND_CRASH", id="code"),
        pytest.param("131.2 dB", id="verification"),
        pytest.param("avx512_vnni", id="device"),
        pytest.param("2026.4.1", id="versions"),
        pytest.param("at most 1.00 points", id="budget"),
        pytest.param("can't be run without an NVIDIA GPU", id="notes"),
        pytest.param("latency invalid the processor's frequency fell by more than 5 % frequency-drop", id="invalid"),
        pytest.param("latency inconclusive processes got slower while they ran slowdown", id="inconclusive"),
        pytest.param("also: over 0.5 % of the calls took over 1.5 times the median spikes", id="note"),
        pytest.param("74.0 ms 31.0 ms 2.40 ms", id="first-load-warm-load-first-call"),
        pytest.param("2,410 effective calls; 7,376 are needed", id="refused-quantile"),
        pytest.param("131 µs 15 % compute-bound 8.20 Mop 420 kB 410 Gop/s 94.0 GB/s", id="compute-bound"),
        pytest.param("18 % memory-bound", id="memory-bound"),
        pytest.param("4.6 % overhead-bound", id="overhead-bound"),
        pytest.param("no place under the roof: the device's own peak was not measured", id="no-roofline"),
        pytest.param("2.30 mJ 2.10 mJ to 2.50 mJ 11.2 W rapl0", id="energy"),
        pytest.param("not measured: 3.1 s of calls; 10 s are needed", id="no-energy"),
        pytest.param("because the fixed work took too long: round 5.", id="dropped-round"),
        pytest.param("In rounds 2, 4, 6 the process got slower while it ran: all its calls count.", id="unsteady"),
        pytest.param(
            "4 more that are well, or measured again: onnxruntime int8, measured again;",
            id="folded",
        ),
        pytest.param("2 min 7 s; 3 steps were answered from the store", id="run"),
    ],
)
def test_says(page: _Page, words: str) -> None:
    assert words in page.text


def test_loads_nothing(page: _Page) -> None:
    assert page.loads == []
    assert "link" not in page.tags
    assert "iframe" not in page.tags


def test_is_small_with_many_calls(fake: ModuleType, tmp_path: Path) -> None:
    many = fake.make_result(tmp_path, calls=20_000, processes=10)
    assert len(render(many).encode()) < 3_000_000


def test_stays_small_with_many_candidates(result: RunResult) -> None:
    """Most of the page's size is what is drawn over time, and that has an upper bound."""
    one = result.candidates[0]
    names = [f"candidate {index}" for index in range(40)]
    many = replace(
        result,
        candidates=(*result.candidates, *(replace(one, name=name) for name in names)),
        measurements=dict(result.measurements) | dict.fromkeys(names, result.measurements[one.name]),
    )
    text = render(many)
    assert len(text.encode()) < 6_000_000
    assert "Not all candidates are drawn here" in text


def test_every_section_can_be_jumped_to(page: _Page) -> None:
    assert len(page.jumps) >= 8
    assert {jump.removeprefix("#") for jump in page.jumps} <= set(page.anchors)


def _words(result: RunResult) -> str:
    """The page's words without the plots of calls, which take most of the time."""
    return _Page(render(replace(result, measurements={}, confirmation={}))).text


def _with_latency(result: RunResult, **changes: Any) -> RunResult:
    """The result with these fields changed in every latency."""
    changed = [replace(c, latency=replace(c.latency, **changes)) if c.latency else c for c in result.candidates]
    return replace(result, candidates=tuple(changed))


def test_what_was_not_measured_is_said_once(result: RunResult) -> None:
    text = _words(_with_latency(result, roofline=None, energy=None))
    assert text.count("Not available: the device's own peak was not measured.") == 1
    assert text.count("Not measured: it was not asked for.") == 1


def test_sources_that_the_device_has_not_are_named(result: RunResult) -> None:
    device = replace(result.device, sensors=("zone0_soc_millicelsius",))
    text = _words(replace(result, device=device))
    assert "not told cpufreq: clock frequencies are not known" in text
    assert "not told thermal zones" not in text


def test_why_there_is_no_energy_is_told(result: RunResult) -> None:
    refused = Energy(refused="not measured: this machine has no meter that may be read (RAPL, NVML, INA)")
    text = _words(_with_latency(result, energy=refused))
    assert text.count("Not measured: this machine has no meter that may be read (RAPL, NVML, INA).") == 1


def test_a_sensor_that_is_not_there_is_named(result: RunResult, page: _Page) -> None:
    blind = {
        name: replace(found, traces=tuple(replace(trace, telemetry=()) for trace in found.traces))
        for name, found in result.measurements.items()
    }
    one = {result.chosen: blind[result.chosen]}
    text = _Page(render(replace(result, measurements=one, confirmation={}))).text
    assert "Not available on this machine: clock frequency, temperature, the load of other processes" in text
    assert "Not available on this machine" not in page.text


def test_what_ships_in_doubt_says_so(result: RunResult) -> None:
    doubted = _with_latency(result, flags=("rival-load",), outcome=Outcome.INCONCLUSIVE)
    text = _words(doubted)
    assert "Its latency as an absolute number is inconclusive: other processes had more than 15 %" in text
    assert "The gain is paired, so both sides saw the same." in text


def test_doubt_without_a_flag_is_explained(result: RunResult) -> None:
    text = _words(_with_latency(result, flags=(), steady=0.3, outcome=Outcome.INCONCLUSIVE))
    assert "latency inconclusive 30 % of the processes came to rest; half of them must" in text


def test_a_flag_that_nobody_knows_is_invalid(result: RunResult) -> None:
    text = _words(_with_latency(result, flags=("haunted",), outcome=Outcome.INVALID))
    assert "latency invalid unknown to this release haunted" in text


def test_the_gain_is_told_against_the_float_that_it_was_taken_from(result: RunResult) -> None:
    """The winner has to beat floats near the best one, too; its gain is the smallest of them all."""
    near = "onnxruntime fp32"
    ours = result.confirmation[result.chosen]
    twice = tuple(replace(t, latency_ns=tuple(round(1.3 * x) for x in t.latency_ns)) for t in ours.traces)
    told = replace(
        result.candidates[0], against_float=replace(compare(replace(ours, traces=twice), ours), against=near)
    )
    changed = replace(
        result,
        candidates=(told, *result.candidates[1:]),
        confirmation=dict(result.confirmation) | {near: replace(ours, traces=twice)},
    )
    text = _Page(render(changed)).text
    assert f"It runs 1.30 times as fast as {near}, the float that was hardest to beat" in text
    assert f"beside a fresh one of {near} , the float that was hardest to beat" in text.replace(f"{near},", f"{near} ,")


MARKED = "\N{MULTIPLICATION SIGN}*"


def test_a_gain_says_what_it_divides_where_that_is_not_the_p50_beside_it(result: RunResult) -> None:
    winner, *others = result.candidates
    assert winner.against_float is not None
    before = _Page(render(result)).text
    again = replace(
        winner.against_float, against=result.best_float, again_ns={winner.name: 90e3, result.best_float: 225e3}
    )
    confirmed = replace(result, candidates=(replace(winner, against_float=again), *others))
    words = _Page(render(confirmed)).text
    assert f"{winner.name} took 90.0 µs, {result.best_float} 225 µs. p50 and p90 are of the screening" in words
    assert MARKED in words
    assert "median latency (p50), when screened" in words
    assert not any(each in before for each in ("Measured again", MARKED, "when screened"))


def test_equal_results_give_equal_words(result: RunResult, page: _Page) -> None:
    assert _Page(render(result)).text == page.text


def test_when_float_ships_it_says_why(variants: ModuleType, result: RunResult) -> None:
    text = _words(variants.without_winner(result))
    assert "openvino bf16 ships" in text
    assert "no quantized candidate was certainly faster" in text
    assert "no certain gain" in text
    assert "The winner, measured again" not in text


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome.FAIL, "no candidate keeps to the budget"),
        (Outcome.INCONCLUSIVE, "too thin"),
        (Outcome.INVALID, "must not be believed"),
        (Outcome.UNMEASURED, "nothing here can run"),
    ],
    ids=str,
)
def test_when_nothing_ships_it_says_why(variants: ModuleType, result: RunResult, outcome: Outcome, why: str) -> None:
    text = _words(replace(variants.with_nothing(result), outcome=outcome))
    assert "Nothing ships" in text
    assert why in text


def test_a_metric_that_is_no_share_is_shown_as_it_is(result: RunResult) -> None:
    judged = [replace(c, accuracy=replace(c.accuracy, metric="sqnr")) if c.accuracy else c for c in result.candidates]
    text = _words(replace(result, candidates=tuple(judged)))
    assert "0.9956" in text
    assert "of sqnr" in text


def test_hostile_names_are_text(fake: ModuleType, variants: ModuleType, tmp_path: Path) -> None:
    evil = variants.hostile(fake.make_result(tmp_path, calls=60))
    text = render(evil)
    page = _Page(text)
    assert "<script>window.evil" not in text
    assert "<img" not in text
    assert "img" not in page.tags
    assert "window.evil=1" in page.text
    assert page.loads == []
    # Bokeh would take what stands between two $$ for TeX and fetch a renderer.
    assert "$$" not in text.rpartition("Bokeh.safely")[0].rpartition("<script")[2]


def test_a_link_is_not_followed(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "report.html").symlink_to(tmp_path / "target")
    with pytest.raises(OutputError, match="a link"):
        write_report(result, tmp_path / "report.html")
    assert not (tmp_path / "target").exists()


def test_an_older_report_is_replaced_and_nothing_else_left(result: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    small = replace(result, measurements={}, confirmation={})
    write_report(small, path)
    write_report(replace(small, name="newer"), path)
    assert "<title>newer: what ships</title>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("module", ["bokeh", "jinja2"])
def test_a_missing_package_names_the_extra(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name.partition(".")[0] == module:
            raise ImportError(f"No module named {module!r}", name=module)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DependencyError, match=r'pip install "edgeport\[report\]"'):
        write_report(result, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_symbolic_and_fixed_shapes_are_shown(result: RunResult) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    text = _words(replace(result, model=replace(result.model, inputs=(spec,))))
    assert "x: float32 [batch, 3]" in text


def test_a_model_that_came_quantized_is_called_no_float(result: RunResult) -> None:
    (given,) = (one for one in result.candidates if one.name == result.best_float)
    given = replace(given, name="openvino as given", variant=AS_GIVEN, refusal=None, outcome=Outcome.PASS)
    only = {given.name: result.measurements[result.best_float]}
    came = replace(
        result, candidates=(given,), chosen=given.name, best_float=given.name, measurements=only, confirmation={}
    )

    text = _Page(render(came)).text

    assert "It came quantized and was not quantized again" in text
    assert "fastest float" not in text
    assert "best float" not in text.partition("What really ran")[0].partition("against the best float.")[2]


def test_each_step_of_a_compression_is_a_row(result: RunResult, variants: ModuleType) -> None:
    page = _Page(render(variants.compressed(result)))

    assert "steps" in page.anchors
    assert "prune units by taylor to 2x the speed" in page.text
    assert "2.90\N{MULTIPLICATION SIGN} 2.80 to 3.00" in page.text
    assert "131,178 weights to 67,162" in page.text
    assert "nothing came of it there are 3; ask for fewer" in page.text
    assert "steps" not in _Page(render(result)).anchors
