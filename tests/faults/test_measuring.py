"""What can go wrong while something is timed, at the level of the command: never a PASS, and the reason is said."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.contracts import TelemetrySample
from edgeport.testing.synthetic import SyntheticSession, simulate

PLANTED = Path(__file__).parents[1] / "pipeline" / "planted"
QUIET = simulate(SyntheticSession(process_sd=0.003), processes=10, calls=200, seed=1)

ASKED = {
    "alone": (),
    "latency": ("--budget", "p90=1s", "--time", "0.2s"),
    "memory": ("--budget", "memory=300GB"),
    "size": ("--budget", "size=1GB"),
    "throughput": ("--budget", "throughput=1/s", "--time", "0.2s"),
}


@pytest.fixture(scope="module", autouse=True)
def planted():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLANTED))
        yield
    sys.modules.pop("planted_session", None)


@pytest.fixture
def edgeport(capsys):
    """Runs a command line; its exit code and what it printed as JSON."""

    def call(*arguments):
        from edgeport.cli.app import run

        capsys.readouterr()
        code = run([*map(str, arguments), "--json", "-q"])
        return code, json.loads(capsys.readouterr().out)

    return call


def with_telemetry(*values):
    samples = tuple(TelemetrySample(at_ns=200_000_000 * index, values=one) for index, one in enumerate(values))
    return replace(QUIET, traces=tuple(replace(trace, telemetry=samples) for trace in QUIET.traces))


def with_traces(**changes):
    return replace(QUIET, traces=tuple(replace(trace, **changes) for trace in QUIET.traces))


INVALID = {
    "throttled": with_telemetry({"package_throttle_count": 3.0}, {"package_throttle_count": 4.0}),
    "frequency-drop": with_telemetry(*({"cpu0_freq_khz": 3e6} for _ in range(8)), *({"cpu0_freq_khz": 2e6},) * 2),
    "clock-step": with_traces(flags=("clock-step",)),
    "outputs-mismatch": with_traces(outputs_match=False),
    "a-flag-of-the-future": with_traces(flags=("a-flag-of-the-future",)),
}


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("flag", INVALID, ids=str)
def test_evidence_that_must_not_be_used_is_invalid_whatever_was_asked(played, edgeport, flag, asked):
    code, found = edgeport("bench", played("net", INVALID[flag]), *ASKED[asked])

    assert (code, found["outcome"]) == (5, "invalid")
    assert flag in found["reason"]


@pytest.mark.parametrize("flag", INVALID, ids=str)
@pytest.mark.parametrize("place", ["old", "new"])
def test_a_comparison_with_such_evidence_is_invalid(played, edgeport, flag, place):
    other = {"old": "new", "new": "old"}[place]
    played(other, QUIET)
    folder = played(place, INVALID[flag]).parent

    code, found = edgeport("compare", folder / "old", folder / "new")

    assert (code, found["outcome"]) == (5, "invalid")
    assert flag in found["reason"]


def test_such_evidence_is_no_baseline(played, edgeport, tmp_path):
    code, found = edgeport("bench", played("net", INVALID["throttled"]), "--save-baseline", tmp_path / "kept.json")

    assert code == 5
    assert found["notes"] == ["No baseline was saved: throttled."]
    assert not (tmp_path / "kept.json").exists()


BUSY = [
    {"busy_ticks": 40.0 * i, "own_cpu_us": 2e5 * i, "processors": 2.0, "clock_tick_hz": 100.0, "steal_ticks": 0.0}
    for i in range(4)
]
OPEN = {
    "rival-load": with_telemetry(*BUSY),
    "steal": with_telemetry(*({**one, "busy_ticks": 0.0, "steal_ticks": 4.0 * i} for i, one in enumerate(BUSY))),
    "slowdown": simulate(SyntheticSession(drift=0.2), processes=10, calls=200),
}


@pytest.mark.parametrize("asked", ["alone", "latency", "throughput"])
@pytest.mark.parametrize("flag", OPEN, ids=str)
def test_a_disturbed_machine_leaves_it_open(played, edgeport, flag, asked):
    code, found = edgeport("bench", played("net", OPEN[flag]), *ASKED[asked])

    assert (code, found["outcome"]) == (4, "inconclusive")
    assert flag in found["reason"]


@pytest.mark.parametrize("flag", OPEN, ids=str)
def test_on_a_disturbed_machine_nothing_is_equal(played, edgeport, flag):
    code, found = edgeport("compare", played("old", OPEN[flag]), played("new", OPEN[flag]))

    assert (code, found["outcome"]) == (4, "inconclusive")


@pytest.mark.parametrize("budget", ["p50=1s", "p99=1s"])
def test_a_run_of_three_calls_proves_nothing(played, edgeport, budget):
    few = simulate(SyntheticSession(), processes=3, calls=1)

    code, found = edgeport("bench", played("net", few), "--rounds", 3, "--time", "0.2s", "--budget", budget)
    alone = edgeport("bench", played("alone", few), "--rounds", 3)

    assert (code, found["outcome"]) == (4, "inconclusive")
    assert (alone[0], alone[1]["outcome"]) == (4, "inconclusive")


def test_one_process_proves_nothing(played, edgeport):
    net = played("net", QUIET)

    for asked in ((), ("--budget", "p50=1s", "--time", "1us"), ("--budget", "throughput=1/s", "--time", "1us")):
        assert edgeport("bench", net, "--rounds", 1, *asked)[0] == 4


def test_a_rate_that_is_not_kept_fails_and_leaves_quantiles_open(played, edgeport):
    """100 queries of 5 ms that came within 250 ms: the last one waits for 250 ms."""
    waits = tuple(5_000_000 + 2_500_000 * index for index in range(100))
    queue = with_traces(latency_ns=waits, samples=100, elapsed_ns=500_000_000)

    code, found = edgeport(
        "bench", played("net", queue), "--scenario", "server", "--rate", "400/s", "--budget", "p99=1s", "--rounds", 4
    )

    assert code == 3
    by_name = {check["name"]: check["outcome"] for check in found["checks"]}
    assert by_name == {"p99 at most 1 s": "inconclusive", "rate of 400 per s kept": "fail"}
    assert "overload" in found["summary"]["flags"]


# From here on real processes run.

QUICK = ("--rounds", 2, "--duration", 0.03)


def test_a_session_that_dies_mid_way_is_an_error(make_artifact_folder, edgeport):
    code, found = edgeport("bench", make_artifact_folder("net", dies_after=20), *QUICK)

    assert (code, found["error"]["code"]) == (1, "BACKEND_CRASH")


def test_in_a_comparison_too(make_artifact_folder, edgeport):
    old, new = make_artifact_folder("old"), make_artifact_folder("new", dies_after=20)

    code, found = edgeport("compare", old, new, *QUICK)

    assert (code, found["error"]["code"]) == (1, "BACKEND_CRASH")


def test_wrong_outputs_in_a_timed_call_are_invalid(make_artifact_folder, edgeport):
    code, found = edgeport("bench", make_artifact_folder("net", wrong_after=20), *QUICK, "--budget", "size=1MB")

    assert (code, found["outcome"]) == (5, "invalid")
    assert {"outputs-mismatch", "unstable-output"} <= set(found["summary"]["flags"])


def test_a_rival_is_seen(make_artifact_folder, edgeport):
    import os

    net = make_artifact_folder("net")
    rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        code, found = edgeport("bench", net, "--rounds", 3, "--duration", 0.25, "--budget", "p50=1s", "--time", "2s")
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()

    assert (code, found["outcome"]) == (4, "inconclusive")
    assert "rival-load" in found["summary"]["flags"]


@pytest.mark.parametrize("change", ["file", "settings", "digest"])
def test_a_foreign_artifact_is_refused_before_it_runs(make_artifact_folder, edgeport, change):
    net = make_artifact_folder("net")
    record = json.loads((net / "artifact.json").read_text())
    if change == "file":
        (net / "artifact" / "weight.json").write_text("[[2.0], [2.0]]")
    elif change == "settings":
        (net / "artifact.json").write_text(json.dumps(record | {"settings": {"busy_ns": 1}}))
    else:
        (net / "artifact.json").write_text(json.dumps(record | {"digest": "0" * 64}))

    for arguments in (("bench", net), ("compare", net, net)):
        code, found = edgeport(*arguments, *QUICK)
        assert (code, found["error"]["code"]) == (1, "BACKEND_FAILED")
        assert "compile it again" in found["error"]["fix"]


def test_an_artifact_that_changes_while_it_is_timed_is_an_error(played, edgeport, monkeypatch):
    from edgeport.devices.local import LocalDevice

    net, run = played("net", QUIET), LocalDevice.run

    def changed(self, job):
        (net / "artifact" / "weight.json").write_text("[[2.0], [2.0]]")
        return run(self, job)

    monkeypatch.setattr(LocalDevice, "run", changed)

    code, found = edgeport("bench", net)

    assert (code, found["error"]["code"]) == (1, "MEASUREMENT_INVALID")


def test_a_link_or_a_folder_is_not_written_over(played, edgeport, tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()

    for option in ("--save-baseline", "--junit", "--markdown"):
        for place in ("link", "folder"):
            code, found = edgeport("bench", played(f"{option}-{place}", QUIET), option, tmp_path / place)
            assert (code, found["error"]["code"]) == (1, "OUTPUT_REFUSED")
    assert (tmp_path / "target").read_text() == "mine"


BASELINES = {
    "empty": lambda kept: b"",
    "truncated": lambda kept: kept[: len(kept) // 2],
    "no-json": lambda kept: b"\x80\x04\x95 pickle",
    "another-json": lambda kept: b'{"outcome": "pass"}',
    "list": lambda kept: b"[1, 2]",
    "deep": lambda kept: b"[" * 100_000,
    "another-version": lambda kept: kept.replace(b'"schema_version":1,', b'"schema_version":2,').replace(
        b'"schema_version":1}', b'"schema_version":2}'
    ),
    "unknown-field": lambda kept: b'{"run":"rm",' + kept[1:],
    "no-traces": lambda kept: json.dumps(
        json.loads(kept) | {"measurement": json.loads(kept)["measurement"] | {"traces": []}}
    ).encode(),
    "another-device": lambda kept: json.dumps(
        json.loads(kept) | {"device": json.loads(kept)["device"] | {"cpu": "Other"}}
    ).encode(),
    "another-artifact": lambda kept: json.dumps(json.loads(kept) | {"artifact_digest": "0" * 64}).encode(),
}


@pytest.mark.parametrize("damage", BASELINES, ids=str)
def test_a_damaged_or_foreign_baseline_is_refused(played, edgeport, tmp_path, damage):
    net, baseline = played("net", QUIET), tmp_path / "kept.json"
    assert edgeport("bench", net, "--save-baseline", baseline)[0] == 0
    baseline.write_bytes(BASELINES[damage](baseline.read_bytes()))

    code, found = edgeport("bench", net, "--baseline", baseline)

    assert (code, found["error"]["code"]) == (1, "CONTRACT_INVALID")
    assert found["error"]["asked"] == "compare with the baseline kept.json"
    assert "--save-baseline" in found["error"]["fix"]


def test_an_endless_baseline_is_not_read(played, edgeport, tmp_path):
    baseline = tmp_path / "kept.json"
    with baseline.open("wb") as file:
        file.truncate(1 << 40)

    code, found = edgeport("bench", played("net", QUIET), "--baseline", baseline)

    assert (code, found["error"]["code"]) == (2, "USAGE")
    assert "bytes" in found["error"]["found"]


def test_a_baseline_of_another_machine_tells_nothing(played, edgeport, tmp_path):
    from edgeport.contracts import dump_json
    from edgeport.pipeline.benchmarking.baseline import load_baseline

    net, baseline = played("net", QUIET), tmp_path / "kept.json"
    edgeport("bench", net, "--save-baseline", baseline)
    kept = load_baseline(baseline)
    device = replace(kept.device, cpu="Other")
    baseline.write_bytes(
        dump_json(replace(kept, device=device, measurement=replace(kept.measurement, device=device.digest)))
    )

    code, found = edgeport("bench", net, "--baseline", baseline)

    assert (code, found["outcome"]) == (4, "inconclusive")
    assert "another device" in found["reason"]
