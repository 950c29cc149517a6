"""Every command's help has examples, and they run: with the real parser, and an API that notes how it is called."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

from edgeport import api, doctor
from edgeport.cli.app import COMMANDS, app
from edgeport.contracts import (
    Artifact,
    Calibration,
    Capabilities,
    Change,
    Comparison,
    DataParallel,
    DeviceProbe,
    DistillStep,
    Endurance,
    ExecutionConfig,
    Interval,
    LatencySummary,
    Measurement,
    ModelParallel,
    ModelSource,
    Outcome,
    OutputDifference,
    Placement,
    Precision,
    PruneStep,
    Quantile,
    QuantizationPlan,
    RunResult,
    SearchedGroup,
    Verification,
    dump_json,
)
from edgeport.devices.profiles import PROFILES
from edgeport.exporter.distill.options import DistillResult
from edgeport.exporter.qat import QatResult
from edgeport.pipeline.benchmarking.bench import BenchResult
from edgeport.pipeline.benchmarking.compare import Compared, CompareResult
from edgeport.pipeline.benchmarking.experiment import Certainty
from edgeport.pipeline.benchmarking.soak import SoakResult
from edgeport.pipeline.compression.reports import (
    DistillReport,
    ImitateReport,
    PruneReport,
    QatReport,
    WithoutDataReport,
)
from edgeport.pipeline.dry_run import DryRun, DryStep
from edgeport.pipeline.search.colocation import Resident, ScheduleResult, Tried
from edgeport.pipeline.search.execution import ExecutionTuned, TunedArm
from edgeport.pipeline.search.mixed_precision_command import TuneResult
from edgeport.pipeline.selection.constraints import Check
from edgeport.recipe_init.draft import Draft


def _commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*names, name))


def examples_in(command: click.Command) -> list[str]:
    return re.findall(r"^\s+(edgeport .+)$", command.help or "", flags=re.MULTILINE)


_DEVICES = {
    **{name: f"{name}_device" for name in ("add", "remove", "probe", "prepare", "clean")},
    "list": "list_devices",
    "profiles": "device_profiles",
}
_WITHOUT = ["distill", "net:create", "--student", "net:small", "--without-data", "fast", "--input", "x=batch,3"]
ALL = list(_commands(app))
EXAMPLES = sorted({example for _, command in ALL for example in examples_in(command)})


@pytest.mark.parametrize("command", [command for _, command in ALL], ids=[" ".join(names) for names, _ in ALL])
def test_every_command_has_an_example_of_itself(command: click.Command) -> None:
    assert any(f" {command.name}" in example for example in examples_in(command))


@pytest.mark.parametrize(
    "command",
    [command for names, command in ALL if not isinstance(command, click.Group)],
    ids=[" ".join(names) for names, command in ALL if not isinstance(command, click.Group)],
)
def test_every_command_can_be_read_by_machines(command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}

    assert {"--json", "--quiet"} <= options


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, finished: RunResult) -> dict[str, Any]:
    summary = LatencySummary(
        quantiles=(Quantile(q=0.5, interval_ns=None, refused="too few"),),
        processes=1,
        calls=1,
        effective_calls=1.0,
        correlation_time=1.0,
        steady=1.0,
        load_ns=1.0,
        first_inference_ns=1.0,
        peak_memory_bytes=1,
        outcome=Outcome.PASS,
    )
    raw = Measurement(artifact_digest="a", device="d", seed=0, traces=())
    compared = Compared(
        name="net", backend="b", precision="int8", batch=1, size_bytes=1, summary=summary, measurement=raw
    )
    speedup = Interval(low=1.1, estimate=1.2, high=1.3)
    answers: dict[str, Any] = {
        "run": finished,
        "quickstart": finished,
        "dry_run": DryRun(
            name="net",
            steps=(
                DryStep(name="export", what="export in PyTorch", seconds=0.0, stored=True),
                DryStep(name="screen", what="6 fresh processes", seconds=90.0, stored=False),
            ),
            seconds=90.0,
            store=Path("store"),
        ),
        "init": Draft(
            recipe=Path("edgeport.toml"),
            files=(Path("edgeport.toml"),),
            inputs=finished.model.inputs,
            outputs={"scores": (10,)},
            found=("It takes images.",),
            guessed=("The samples are random.",),
            notes=(),
            next="edgeport run edgeport.toml",
        ),
        "export": SimpleNamespace(model=finished.model, notes=("a note",)),
        "prune": PruneReport(
            file=Path("small.safetensors"),
            step=PruneStep(speedup=2.0),
            weights=(100, 60),
            macs=(1000.0, 500.0),
            size_bytes=240,
            zeros=0.1,
            removed={"conv1": (8, 16)},
            blocks=("layer.1",),
            left={f"layer{index}": "its units are an output of the network" for index in range(7)},
            latency_ns=(5e6, 2.4e6),
            goal_ns=2.5e6,
            speedup=speedup,
        ),
        "distill": DistillReport(
            file=Path("student.safetensors"),
            teacher="net:create",
            student=ModelSource(location="net:small"),
            step=DistillStep(),
            results=tuple(
                DistillResult(
                    objective="0.1 CrossEntropy + 0.9 SoftTargets",
                    before={"top1": 0.1, "loss": 2.3},
                    after={"top1": top1, "loss": 0.4},
                    teacher={"top1": 0.95, "loss": 0.2},
                    best_step=9,
                    steps=12,
                )
                for top1 in (0.9, 0.92)
            ),
            best=1,
            weights=(1000, 60),
            macs=(1000.0, 50.0),
            size_bytes=240,
            log=Path("student.metrics.jsonl"),
            latency_ns=(5e6, 1.2e6),
            goal_ns=1.25e6,
            speedup=speedup,
            trials=((16.0, 1e6),),
        ),
        "verify": Verification(
            outputs=(OutputDifference(name="o", max_abs=1e-6, mean_abs=1e-7, sqnr_db=float("inf")),),
            samples=2,
            batch_sizes=(1, 2),
            tolerance=1e-3,
            outcome=Outcome.PASS,
        ),
        "calibrate": Calibration(model_digest="a", samples_fingerprint="b", sample_count=2, statistics={}),
        "quantize": Artifact(
            backend="openvino",
            folder=Path("/out"),
            entry="m.xml",
            session="s",
            precision=Precision.INT8,
            size_bytes=12,
            digest="d",
        ),
        "bench": BenchResult(
            name="net", summary=summary, device=finished.device, outcome=Outcome.PASS, measurement=raw
        ),
        "tune": TuneResult(
            name="net",
            backend="onnxruntime",
            rest=Precision.FP32,
            groups=(
                SearchedGroup(name="head", nodes=("head", "relu"), noise=0.1, precision=Precision.FP32),
                SearchedGroup(name="body", nodes=("body",), noise=None, precision=Precision.INT8),
                SearchedGroup(name="neck", nodes=("neck",), noise=float("inf"), precision=Precision.FP32),
            ),
            nodes={"head": Precision.FP32, "relu": Precision.FP32, "neck": Precision.FP32},
            said="onnxruntime, search of 9 s: 2 of 3 groups of nodes are left in fp32: head, neck.",
            finished=True,
            spent_s=9.0,
            judged=3,
            timed=2,
            candidates=finished.candidates,
            chosen=finished.chosen,
            folder=Path("edgeport-tuned"),
            against={"onnxruntime fp32": Comparison(speedup=speedup, change=Change.FASTER, pairs=10, delta=0.02)},
        ),
        "tune_execution": ExecutionTuned(
            goal="throughput",
            p99_ns=2e7,
            tried=25,
            arms=(
                TunedArm(
                    name="2 streams of 1 thread",
                    artifact="net",
                    execution=ExecutionConfig(threads=1, layout=DataParallel(streams=2)),
                    default=False,
                    summary=summary,
                ),
                TunedArm(
                    name="the runtime's defaults",
                    artifact="net",
                    execution=ExecutionConfig(),
                    default=True,
                    summary=summary,
                ),
            ),
            chosen="2 streams of 1 thread",
            execution=ExecutionConfig(threads=1, layout=DataParallel(streams=2)),
            default="the runtime's defaults",
            gain=speedup,
            finished=False,
            spent_s=9.0,
            reason="p99: all of the interval is within the limit",
            folder=Path("edgeport-tuned"),
            device=finished.device,
            outcome=Outcome.PASS,
        ),
        "schedule": ScheduleResult(
            budgets={"detector": "p90 at most 30 ms", "speech": "p99 at most 10 ms"},
            alone_ns={"detector": {1: 2e7, 2: 1e7}, "speech": {1: 8e6, 2: 5e6}},
            tried=(
                Tried(
                    name="as they are",
                    layout=None,
                    residents=(
                        Resident(
                            name="detector",
                            quantile_ns=3.1e7,
                            alone_ns=None,
                            limit_ns=3e7,
                            outcome=Outcome.FAIL,
                            reason="over",
                        ),
                    ),
                    outcome=Outcome.FAIL,
                ),
            ),
            chosen="detector: 1 thread, on processor 0",
            impossible=2,
            outcome=Outcome.PASS,
            reason="every budget is kept",
            folder=Path("both"),
            device=finished.device,
        ),
        "distill_without_data": WithoutDataReport(
            file=Path("student.safetensors"),
            teacher="net:create",
            student=ModelSource(location="net:small"),
            method="fast",
            result=DistillResult(
                objective="1 SoftTargets, of inputs by Fast",
                before={"top1": 0.1},
                after={"top1": 0.8},
                teacher={"top1": 0.9},
                best_step=10,
                steps=10,
            ),
            weights=(100, 10),
            size_bytes=40,
            made=Path("made.npz"),
            notes=("a note",),
        ),
        "imitate": ImitateReport(file=Path("drawn.npz"), count=5000, learned_from=100),
        "qat": QatReport(
            name="net",
            backend="onnxruntime",
            precision=Precision.INT8,
            learned=QatResult(
                model=finished.model,
                plan=QuantizationPlan(dialect="d", model_digest="m"),
                loss="cross-entropy",
                before={"loss": 0.5, "top1": 0.9},
                after={"loss": 0.4, "top1": 0.95},
                best_step=9,
                steps=12,
                left_float=("head",),
            ),
            difference=0.001,
            untrained=next(one.accuracy for one in finished.candidates if one.accuracy is not None),
            candidates=finished.candidates,
            trained=finished.candidates[0].name,
            chosen=finished.chosen,
            folder=Path("edgeport-qat"),
            outcome=Outcome.PASS,
            against={"onnxruntime fp32": Comparison(speedup=speedup, change=Change.FASTER, pairs=10, delta=0.02)},
            notes=("Not found in the PyTorch graph, and so in float: head.",),
        ),
        "soak": SoakResult(
            name="net-int8",
            backend="onnxruntime",
            precision="int8",
            endurance=Endurance(
                burst_ns=Interval(low=4.1e6, estimate=4.2e6, high=4.3e6, confidence=0.95),
                sustained_ns=Interval(low=5.8e6, estimate=5.9e6, high=6e6, confidence=0.95),
                duration_s=3600.0,
                slowed_after_s=214.0,
                first_celsius=47.0,
                hottest_celsius=85.0,
                throttled=True,
            ),
            device=finished.device,
            missing=("throttle counters: only a change of speed can show throttling",),
            outcome=Outcome.PASS,
            measurement=Measurement(artifact_digest="d", device="d", seed=0, traces=()),
        ),
        "add_device": {"local": "local", "pi5": "ssh://pi@raspberrypi.local"},
        "list_devices": {"local": "local"},
        "device_profiles": PROFILES,
        "remove_device": {"local": "local"},
        "probe_device": DeviceProbe(facts=finished.device, missing=("cpufreq: clock frequencies are not known",)),
        "prepare_device": finished.device,
        "clean_device": {"freed_bytes": 1, "folder": "/home/pi/.cache/edgeport-device"},
        "compare": CompareResult(
            old=compared,
            new=compared,
            comparison=Comparison(speedup=speedup, change=Change.FASTER, pairs=10, delta=0.02),
            check=Check(name="against net", outcome=Outcome.PASS, found="faster"),
            certainty=Certainty(of="the speedup", half_width=0.1, wanted=None, seconds=1.0, processes=10),
            device=finished.device,
            outcome=Outcome.PASS,
        ),
    }
    called: dict[str, Any] = {}

    def stand_in(name: str) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            called[name] = (args, kwargs)
            return answers[name]

        return function

    for name in answers:
        monkeypatch.setattr(api, name, stand_in(name))
    return called


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs(
    example: str, edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)
    monkeypatch.setattr(doctor, "_probed", lambda name: Capabilities(backend=name, can_run=True))
    arguments = shlex.split(example)[1:]

    ran = edgeport(*arguments)

    if arguments[0] == "bundle":
        assert ran.code == 5
        assert ran.out.endswith("edgeport-quickstart/edgeport-out/bundle: changed\n")
        return
    assert ran.code == 0, ran.err
    assert ran.out
    if arguments[0] == "devices":
        assert _DEVICES[arguments[1]] in stub
    elif arguments[0] == "tune" and not arguments[1].endswith(".toml"):
        assert "tune_execution" in stub
    elif "--soak" in arguments:
        assert "soak" in stub
    elif "--without-data" in arguments:
        assert "distill_without_data" in stub
    elif arguments[0] != "doctor" and "--explain" not in arguments:
        assert ("dry_run" if "--dry-run" in arguments else arguments[0]) in stub


def _make_files(folder: Path) -> None:
    for name in ("net.safetensors", "net.onnx", "net.calibration.safetensors"):
        (folder / name).write_bytes(b"")
    for name in ("samples", "calibration"):
        np.savez(folder / f"{name}.npz", image=np.zeros((2, 3), np.float32))
    for name in ("net-int8", "net-onnxruntime", "net-openvino", "detector", "speech"):
        (folder / name).mkdir()
    (folder / "edgeport-quickstart" / "edgeport-out" / "bundle").mkdir(parents=True)
    (folder / "recipe.toml").write_text(
        'model.source = "net:create"\ndata.calibration = "calibration.npz"\ndata.evaluation = "samples.npz"\n',
        encoding="utf-8",
    )


def test_students_arrive_as_the_api_wants_them(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)

    asked = ("--student", "net:small", "--student-argument", "depth=2", "--scale", "width=8,16", "--speedup", 4)
    terms = ("-L", "0.9 soft-targets:4", "-R", "confidence", "--lambda", 0.1, "--epochs", 2, "--fresh")
    assert edgeport("distill", "net:create", "--samples", "samples.npz", *asked, *terms).code == 0
    (source, given), others = stub["distill"]
    options = others["options"]
    assert (source.location, given) == ("net:create", Path("samples.npz"))
    assert (others["student"].location, others["student"].arguments) == ("net:small", {"depth": 2})
    assert (options.scale, options.speedup, options.epochs, others["fresh"]) == ({"width": (8, 16)}, 4.0, 2, True)
    assert (options.L, options.R, options.lambda_) == (("0.9 soft-targets:4",), ("confidence",), 0.1)
    pruned = ("--samples", "m:samples", "--student-weights", "net.safetensors", "--argument", "depth=2")
    assert edgeport("distill", "net:create", *pruned).code == 0
    (_, given), others = stub["distill"]
    assert (given, others["student"].weights) == ("m:samples", Path("net.safetensors"))
    assert (others["student"].location, others["student"].arguments) == ("net:create", {"depth": 2})


def test_options_without_data_arrive_as_the_api_wants_them(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)
    asked = ("--student-argument", "width=4", "--without-data", "fast", "--input", "image=batch,3,8,8", "--mirror")
    asked = (*asked, "--range", "0:1", "--steps", 50, "--value", "inner=5", "--keep", "made.npz", "-R", "confidence")
    assert edgeport("distill", "net:create", *asked, "--samples", "samples.npz", "--target", "label").code == 0
    (teacher, student, inputs), others = stub["distill_without_data"]
    options = others["options"]
    assert (teacher.location, student.location, student.arguments) == ("net:create", "net:create", {"width": 4})
    assert (inputs.name, inputs.shape, inputs.value_range) == ("image", ("batch", 3, 8, 8), (0.0, 1.0))
    assert (options.method, options.values, options.steps) == ("fast", {"inner": 5}, 50)
    assert (others["judged"], others["target"], options.made) == (Path("samples.npz"), "label", Path("made.npz"))
    assert (options.mirror, options.R, others["fresh"]) == (True, ("confidence",), False)


def test_options_arrive_as_the_api_wants_them(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)

    assert (
        edgeport("export", "net:create", "--argument", "width=16", "--input", "image=2,3x8", "--fixed-batch").code == 0
    )
    (source,), options = stub["export"]
    assert (source.location, source.arguments, source.search_path) == ("net:create", {"width": 16}, tmp_path)
    assert options["input_shapes"] == {"image": (2, 3, 8)}
    assert options["options"] == api.ExportSettings(opset=20, dynamic_batch=False, allow_legacy_exporter=False)
    assert options["target"] == ""
    assert edgeport("export", "net:create", "--example", "samples.npz", "--target", "label").code == 0
    assert stub["export"][1]["target"] == "label"

    timed = ("--threads", 2, "--until", "1%", "--time", "90s", "--scenario", "server", "--rate", "100/s")
    assert edgeport("bench", "net.onnx", "--budget", "p90 <= 5 ms", "--budget", "size=1MB", *timed).code == 0
    (path,), others = stub["bench"]
    options = others["options"]
    assert (path, options.threads, options.cool_down_s) == (Path("net.onnx"), 2, 0.0)
    assert options.budgets == ("p90 <= 5 ms", "size=1MB")
    assert (options.until, options.time_s, options.rate_per_s) == (0.01, 90.0, 100.0)
    assert edgeport("compare", "net.onnx", "net-int8", "--delta", "3%", "--fail-on", "regressed").code == 0
    (old, new), others = stub["compare"]
    assert (old, new) == (Path("net.onnx"), Path("net-int8"))
    assert (others["options"].delta, others["options"].fail_on) == (0.03, "regressed")
    assert edgeport("tune", "recipe.toml", "--time", "10m", "--fresh", "-o", "out").code == 0
    (path,), others = stub["tune"]
    assert (path, others["options"].time_s) == (Path("recipe.toml"), 600.0)
    assert (others["fresh"], others["output"]) == (True, Path("out"))
    asked = ("--p99", "20ms", "--batch", 1, "--batch", 4, "--time", "1m", "--device", "pi5")
    assert edgeport("tune", "net-int8", "net.onnx", *asked).code == 0
    (paths,), others = stub["tune_execution"]
    options = others["options"]
    assert paths == (Path("net-int8"), Path("net.onnx"))
    assert (options.resolved_goal, options.p99_ns) == ("throughput", 2e7)
    assert (options.batches, options.time_s, options.device) == ((1, 4), 60.0, "pi5")
    asked = ("--samples", "samples.npz", "--epochs", 2, "--loss", "my.code:loss", "--mixed", "bf16", "--fresh")
    assert edgeport("qat", "recipe.toml", "--precision", "int4-weights-32", *asked).code == 0
    (path,), others = stub["qat"]
    options = others["options"]
    assert (path, options.samples, options.precision) == (Path("recipe.toml"), Path("samples.npz"), "int4-weights-32")
    assert (options.epochs, options.loss, options.mixed, others["fresh"]) == (2, "my.code:loss", "bf16", True)


def test_options_of_quantize_arrive_as_the_api_wants_them(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)
    nodes = tmp_path / "nodes.toml"
    nodes.write_text(
        'target = [{ backend = "b", rest = "bf16", nodes = { head = "bf16", neck = "fp32" } }]', encoding="utf-8"
    )
    chosen = ("quantize", "net.onnx", "--precision", "int8-dynamic", "--nodes", nodes, "--node", "head=int8")
    assert edgeport(*chosen).code == 0
    options = stub["quantize"][1]["options"]
    assert (list(options.nodes.items()), options.rest) == ([("neck", "fp32"), ("head", "int8")], "bf16")
    assert stub["quantize"][1]["execution"] == ExecutionConfig()
    assert edgeport("quantize", "net.onnx", "--precision", "fp32", "--threads", 1, "--stages", 3).code == 0
    assert stub["quantize"][1]["execution"] == ExecutionConfig(threads=1, layout=ModelParallel(stages=3))
    checked = ("--streams", 2, "--require-placement", "95%")
    assert edgeport("quantize", "net.onnx", "--precision", "fp32", *checked).code == 0
    assert stub["quantize"][1]["execution"] == ExecutionConfig(layout=DataParallel(streams=2))
    assert stub["quantize"][1]["options"].require_placement == 0.95
    assert stub["quantize"][1]["options"].form == "onnx"
    placed = ("--affinity", "0,1", "--no-spinning", "--huge-pages", "--runtime-device", "AUTO", "--form", "ort")
    assert edgeport("quantize", "net.onnx", "--precision", "fp32", *placed).code == 0
    assert stub["quantize"][1]["execution"] == ExecutionConfig(
        affinity=(0, 1), spinning=False, huge_pages=True, runtime_device="AUTO"
    )
    assert stub["quantize"][1]["options"].form == "ort"


def test_what_became_of_fusing_is_said(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)
    placement = Placement(nodes=(), source="optimised graph; its optimizer found nothing to fuse")
    (tmp_path / "placement.json").write_bytes(dump_json(placement))
    ran = edgeport("quantize", "net.onnx", "--precision", "fp32", "--form", "onnx-fused", "-o", tmp_path)
    assert (ran.code, stub["quantize"][1]["options"].form) == (0, "onnx-fused")
    assert "its optimizer found nothing to fuse" in ran.out
    assert "not measured yet" in ran.out


def test_what_nothing_here_runs_is_called_built(
    edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)
    (tmp_path / "placement.json").write_bytes(dump_json(Placement(nodes=(), source="parsed network", ran=False)))
    ran = edgeport("quantize", "net.onnx", "--precision", "fp32", "-o", tmp_path)
    assert (ran.code, "quantize" in stub) == (0, True)
    assert "Built, not run" in ran.out
    assert "edgeport bench" not in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["export", "net:create"], id="no-example"),
        pytest.param(["export", "net:create", "--input", "image"], id="no-shape"),
        pytest.param(["export", "net:create", "--input", "image=2,0"], id="empty-axis"),
        pytest.param(["export", "absent.pt2", "--input", "image=2,3"], id="absent-source"),
        pytest.param(["export", "net:create", "--argument", "kind=small", "--input", "i=2"], id="unquoted-argument"),
        pytest.param(["bench", "net.onnx", "--until", "soon"], id="no-precision"),
        pytest.param(["bench", "net.onnx", "--time", "0s"], id="no-time"),
        pytest.param(["bench", "net.onnx", "--rate", "fast"], id="no-rate"),
        pytest.param(["compare", "net.onnx", "net.onnx", "--delta", "200%"], id="no-delta"),
        pytest.param(["bench", "absent.onnx"], id="absent-file"),
        pytest.param(["quantize", "net.onnx", "--precision", "int4"], id="unknown-precision"),
        pytest.param(["quantize", "net.onnx", "--precision", "fp32", "--nodes", "samples.npz"], id="no-nodes"),
        pytest.param(["quantize", "net.onnx", "--affinity", "all"], id="no-processors"),
        pytest.param(["tune", "recipe.toml", "--time", "5"], id="time-without-unit"),
        pytest.param(["tune", "recipe.toml", "--for", "latency"], id="goal-of-a-recipe"),
        pytest.param(["tune", "recipe.toml", "net.onnx"], id="recipe-beside-a-model"),
        pytest.param(["quantize", "net.onnx", "--stages", "2", "--streams", "2"], id="two-layouts"),
        pytest.param(
            ["schedule", "detector", "speech", "net.onnx", "--budget", "p90=1s", "--budget", "p50=1s"],
            id="two-of-three",
        ),
        pytest.param(["bench", "net.onnx", "--require-placement", "120%"], id="more-than-all"),
        pytest.param(["distill", "net:create", "--student", "net:small"], id="no-samples"),
        pytest.param(
            ["distill", "net:create", "--student", "net:small", "--without-data", "fast"], id="no-word-of-the-input"
        ),
        pytest.param([*_WITHOUT, "--range", "1:0"], id="range-the-wrong-way"),
        pytest.param([*_WITHOUT, "--augment", "crop-flip"], id="augment-without-data"),
        pytest.param([*_WITHOUT, "--prune", "0.5"], id="prune-without-data"),
        pytest.param([*_WITHOUT, "--epochs", "30"], id="epochs-without-data"),
        pytest.param([*_WITHOUT, "--by", "l2"], id="by-without-data"),
        pytest.param([*_WITHOUT, "--threads", "1"], id="threads-without-data"),
        pytest.param([*_WITHOUT, "--input", "y=batch,3"], id="two-inputs-without-data"),
        pytest.param(
            ["distill", "net:create", "--samples", "samples.npz", "--prune", "0.5", "--steps", "9"], id="steps-of-data"
        ),
        pytest.param(
            ["distill", "net:create", "--samples", "samples.npz", "--prune", "0.5", "--keep", "m.npz"],
            id="keep-of-data",
        ),
        pytest.param(["distill", "net:create", "--without-data", "fast", "--input", "x=batch,3"], id="no-student"),
        pytest.param(["qat", "recipe.toml", "--teacher", "2"], id="teacher-above-one"),
        pytest.param(["qat", "recipe.toml", "--precision", "int8-dynamic"], id="nothing-to-learn"),
        pytest.param(["run"], id="no-recipe"),
        pytest.param(["run", "--explian"], id="unknown-option"),
        pytest.param(["runn"], id="unknown-command"),
    ],
)
def test_wrong_usage_is_exit_code_two(
    arguments: list[str], edgeport: Any, stub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _make_files(tmp_path)

    ran = edgeport(*arguments)

    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("Error USAGE\n  asked to")
    assert not stub


def test_the_names_in_help_are_the_commands() -> None:
    assert [names[0] for names, _ in ALL if len(names) == 1] == list(COMMANDS)
