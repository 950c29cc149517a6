"""What tests of several folders share. Heavy packages are imported by the fixtures that need them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import onnx

    from edgeport.contracts import Measurement


try:
    import fcntl
except ImportError:  # Windows: there they may disturb each other
    fcntl = None  # type: ignore[assignment]

# Several processes run tests side by side, and each starts hundreds of children: threads that NumPy's linear algebra
# starts at import, and that have nothing to do, took a sixth of their time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_HERE = Path(__file__).parent
_DOOR, _ROOM = _HERE / "README.md", _HERE / "conftest.py"  # any two files that exist: they are only locked


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that measures has the machine to itself: those of other processes wait outside, before their time counts.

    All go through the door one by one; so nobody enters while one that must be alone waits for the room to empty.
    """
    if fcntl is None:
        return (yield)
    alone = item.get_closest_marker("alone") or item.get_closest_marker("slow")
    with _DOOR.open("rb") as door, _ROOM.open("rb") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """No test reads or fills the store, or the devices, of the user who runs it.

    Nor does it wait for measurements of other processes' tests: those that must be alone say so.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPORT_LOCK_DIR", str(tmp_path_factory.mktemp("lock")))
        patch.setenv("EDGEPORT_STORE", str(tmp_path_factory.mktemp("store")))
        patch.setenv("EDGEPORT_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="class")
def ssh_board(tmp_path_factory):
    """A host that `ssh board` reaches, on the loopback; skipped where nothing can serve SSH here."""
    pytest.importorskip("asyncssh", reason="asyncssh, which serves SSH in tests, is not installed")
    if not Path("/usr/bin/ssh").exists():
        pytest.skip("OpenSSH's client is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_HERE / "loopback"))
        from ssh_server import SshServer

        server = SshServer(tmp_path_factory.mktemp("ssh"))
        patch.setenv("PATH", str(server.bin), prepend=os.pathsep)
        yield server
        server.close()


_OF_TOYBOX = (
    *("cat", "cut", "du", "flock", "grep", "head", "ln", "mkdir", "mv", "nice", "nproc", "rm", "sh", "sha256sum"),
    *("setsid", "taskset", "timeout", "uname"),
)
"""Programs of this machine that every Android has too."""


class FakeAdb:
    """An `adb` in PATH that plays devices.

    Attributes:
        native: Folder of the programs of those without a Python.
        home: Where those that work keep their files, each in a folder of its serial.

    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "phones"
        self.bin = folder / "bin"
        self.native = folder / "native-bin"
        self._programs = folder / "device-bin"
        for made in (self.bin, self.native, self._programs):
            made.mkdir(parents=True)
        for name in _OF_TOYBOX:
            if (there := shutil.which(name)) is not None:
                (self.native / name).symlink_to(there)
        text = (_HERE / "loopback" / "fake_adb.py").read_text()
        for path, script in (
            (self.bin / "adb", f"#!{sys.executable}\n{text}"),
            (self._programs / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
        ):
            path.write_text(script)
            path.chmod(0o755)

    def play(self, **devices: str) -> None:
        """Serial to state; see `loopback/fake_adb.py`."""
        values = {
            "home": str(self.home),
            "path": f"{self._programs}:/usr/bin:/bin",
            "native": str(self.native),
            "devices": devices,
        }
        (self.bin / "devices.json").write_text(json.dumps(values))

    def calls(self) -> list[list[str]]:
        """Arguments of every call."""
        return [json.loads(line) for line in (self.bin / "calls.jsonl").read_text().splitlines()]


@pytest.fixture(scope="class")
def fake_adb(tmp_path_factory):
    """No real device is asked for."""
    adb = FakeAdb(tmp_path_factory.mktemp("adb"))
    adb.play(phone="device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(adb.bin), prepend=os.pathsep)
        yield adb


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Shells start what they put in the background with Ctrl-C ignored, and children would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def disturbed() -> Callable[[Mapping[str, Measurement]], bool]:
    """Whether rounds of an experiment were left out, or would have been, had enough others remained.

    Then, and only then, an experiment may have another number of rounds than was asked for.
    """
    from edgeport.devices.latency.interference import disturbed_rounds

    def disturbed(measurements: Mapping[str, Measurement]) -> bool:
        flags = [flag for one in measurements.values() for flag in one.flags]
        return bool(disturbed_rounds(measurements)) or any(flag.startswith("dropped-rounds") for flag in flags)

    return disturbed


@pytest.fixture
def small_onnx() -> onnx.ModelProto:
    """y = relu(x @ w) with x float32 [batch, 3] and w float32 [3, 4]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Relu", ["h"], ["y"], name="activation"),
        ],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def save_onnx(tmp_path) -> Callable[[onnx.ModelProto], Path]:
    def write(proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(proto.SerializeToString())
        return path

    return write


@pytest.fixture(autouse=True)
def _own_logger():
    """The command line takes the package's logger for itself, in fixtures of any scope; each test gets it untouched."""
    log = logging.getLogger("edgeport")
    log.propagate = True
    log.setLevel(logging.WARNING)  # said, because OpenVINO raises the level of the root logger
    log.handlers[:] = []


@pytest.fixture
def make_artifact_folder(tmp_path) -> Callable[..., Path]:
    """`make_artifact_folder("net")` makes a folder as `edgeport quantize` writes it, for the planted session.

    Its settings may be given: `busy_ns=1_000_000` is how long a call takes.
    """
    from edgeport.backends.artifacts import make_artifact
    from edgeport.contracts import ExecutionConfig, OnnxModel, Precision, TensorSpec, to_jsonable
    from edgeport.pipeline.output.artifact_folder import write_artifact_record

    def make(name: str, **settings) -> Path:
        folder = tmp_path / name
        (folder / "artifact").mkdir(parents=True)
        (folder / "artifact" / "weight.json").write_text("[[1.0], [1.0]]", encoding="utf-8")
        artifact = make_artifact(
            backend="planted",
            folder=folder / "artifact",
            entry="weight.json",
            session="planted_session",
            settings={"busy_ns": 1_000_000, **settings},
            precision=Precision.FP32,
            execution=ExecutionConfig(),
        )
        model = OnnxModel(
            path=folder / "net.onnx",
            inputs=(TensorSpec(name="images", dtype="float32", shape=("batch", 2)),),
            outputs=(TensorSpec(name="scores", dtype="float32", shape=("batch", 1)),),
            opset=20,
            digest="d",
        )
        write_artifact_record(folder, to_jsonable(artifact), to_jsonable(model))
        return folder

    return make


@pytest.fixture
def played(monkeypatch, make_artifact_folder) -> Callable[..., Path]:
    """`played("net", measurement)` makes an artifact whose processes are the traces of a recorded measurement.

    Everything but the processes is real: files, jobs, rounds, statistics, verdicts.
    """
    from dataclasses import replace

    from edgeport.devices.agent.digest import artifact_digest
    from edgeport.devices.local import LocalDevice

    recorded = {}

    def run(_, job):
        traces = recorded[Path(job.artifact).parent.name].traces
        trace = traces[getattr(job, "round", 0) % len(traces)]
        digest = artifact_digest(Path(job.artifact), dict(job.settings))
        if job.kind == "evaluate":
            return replace(trace, artifact_digest=digest)
        counted = {"samples": trace.samples or len(trace.latency_ns), "scenario": job.scenario}
        elapsed = trace.elapsed_ns or sum(trace.latency_ns)
        order = {"round": job.round, "position": job.position, "cold": job.cold}
        return replace(trace, artifact_digest=digest, elapsed_ns=elapsed, **counted, **order)

    monkeypatch.setattr(LocalDevice, "run", run)

    def play(name: str, measurement) -> Path:
        recorded[name] = measurement
        return make_artifact_folder(name)

    return play
