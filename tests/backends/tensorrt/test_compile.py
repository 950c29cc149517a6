"""From a plan to an engine: its key, refusals, and what is said where nothing can run it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from types import SimpleNamespace
from unittest.mock import Mock

import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.backends.tensorrt import backend as module
from edgeport.backends.tensorrt import capabilities, create_backend, session
from edgeport.backends.tensorrt.build import EngineFromOnnx
from edgeport.backends.tensorrt.capabilities import describe, target_for
from edgeport.backends.tensorrt.engine_options import EngineOptions, engine_options
from edgeport.backends.tensorrt.runtime import Gpu, TensorRt, load_tensorrt
from edgeport.backends.tensorrt.session import digests_of
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig, Precision, QuantizationPlan
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import open_onnx

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
needs_tensorrt = pytest.mark.skipif(not KNOWN.installed, reason=f"tensorrt: {KNOWN.reason}")
ANSWERED = (
    "cuInit",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDriverGetVersion",
    "cuCtxSetCurrent",
    "cuDevicePrimaryCtxRelease_v2",
)
NO_GPU = "no NVIDIA driver (libcuda)"
H100 = Gpu(name="NVIDIA H100", compute_capability="9.0")
RTX_4090 = Gpu(name="NVIDIA GeForce RTX 4090", compute_capability="8.9")
T4 = Gpu(name="NVIDIA T4", compute_capability="7.5")


def runtime(name: str) -> TensorRt:
    """A TensorRT as far as what it says of itself goes."""
    members = dict.fromkeys(("NONE", "CURRENT", "SM75", "SM86", "SM89", "SM120"))
    rtx = {"ComputeCapability": SimpleNamespace(__members__=members)} if name == "tensorrt-rtx" else {}
    return TensorRt(name=name, version="1.7", module=SimpleNamespace(**rtx))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Here:
    """A runtime and a GPU, and what follows: whether it builds, whether it runs, the target, a word of the reason."""

    runtime: str
    gpu: Gpu | str
    builds: bool
    runs: bool
    target: str
    said: str


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Here(runtime="tensorrt-rtx", gpu=NO_GPU, builds=True, runs=False, target="8.6", said="no NVIDIA driver"),
            id="RTX without a GPU",
        ),
        pytest.param(
            Here(runtime="tensorrt-rtx", gpu=RTX_4090, builds=True, runs=True, target="8.9", said=""),
            id="RTX on its GPU",
        ),
        pytest.param(
            Here(
                runtime="tensorrt-rtx",
                gpu=H100,
                builds=True,
                runs=False,
                target="8.6",
                said="runs on 7.5, 8.6, 8.9, 12.0",
            ),
            id="RTX on an H100",
        ),
        pytest.param(
            Here(runtime="tensorrt", gpu=H100, builds=True, runs=True, target="9.0", said=""), id="TensorRT on an H100"
        ),
        pytest.param(
            Here(runtime="tensorrt", gpu=NO_GPU, builds=False, runs=False, target="8.6", said="no NVIDIA driver"),
            id="TensorRT without a GPU",
        ),
    ],
)
def test_capabilities_follow_the_gpu(case):
    known = describe(runtime(case.runtime), case.gpu)
    assert known.precisions[Precision.INT8].available == case.builds
    assert known.can_run == case.runs
    assert case.said in known.reason
    assert bool(known.reason) != case.runs
    assert target_for(runtime(case.runtime), case.gpu) == case.target


@pytest.fixture(scope="module")
def artifact(cnn, tmp_path_factory):
    if not KNOWN.installed:
        pytest.skip(f"tensorrt: {KNOWN.reason}")
    folder = tmp_path_factory.mktemp("engine") / "artifact"
    return BACKEND.compile(cnn.model, float_plan(cnn.model), ExecutionConfig(batch=2), folder)


def test_key_says_what_the_engine_was_built_with(artifact, cnn):
    written = json.loads((artifact.folder / "engine.json").read_bytes())
    assert written["model"] == cnn.model.digest
    assert written["runtime"] in KNOWN.version
    assert written["execution"]["batch"] == 2
    assert {key: written[key] for key in artifact.settings["engine"]} == artifact.settings["engine"]


def test_memory_of_the_processor_is_no_setting_of_an_engine(cnn, tmp_path):
    with pytest.raises(UnsupportedByBackend, match=r"huge pages on TensorRT; found .* the GPU's memory"):
        BACKEND.compile(cnn.model, float_plan(cnn.model), ExecutionConfig(huge_pages=True), tmp_path / "artifact")


@pytest.mark.skipif(KNOWN.can_run, reason="engines run here")
def test_open_says_why_not(artifact):
    with pytest.raises(UnsupportedByBackend, match="built, not run"):
        BACKEND.open(artifact)


def test_changed_engine_is_not_opened(artifact, cnn, tmp_path):
    copy = BACKEND.compile(cnn.model, float_plan(cnn.model), ExecutionConfig(), tmp_path / "copy")
    (copy.folder / copy.entry).write_bytes(b"something else")
    with pytest.raises(BackendError, match="compile it again"):
        BACKEND.open(copy)


@needs_tensorrt
def test_unknown_operator_names_node_and_module(foreign_model, tmp_path):
    with pytest.raises(UnsupportedByBackend) as caught:
        BACKEND.compile(foreign_model, float_plan(foreign_model), ExecutionConfig(), tmp_path / "artifact")
    assert caught.value.found.startswith("node 'fold' (module 'neck.fold') uses Fold: ")
    assert "write that module without Fold" in caught.value.fix
    assert caught.value.details["nodes"] == ["fold"]
    assert not list(tmp_path.rglob("*"))


@needs_tensorrt
def test_an_operator_that_the_parser_says_nothing_of(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"], name="relu"), helper.make_node("Det", ["r"], ["y"], name="det")],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    model = open_onnx(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedByBackend, match="node 'det' uses Det: its parser does not take it"):
        BACKEND.compile(model, float_plan(model), ExecutionConfig(), tmp_path / "artifact")


@needs_tensorrt
class TestASecondOpenAxis:
    @pytest.fixture
    def model(self, tmp_path):
        tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length"]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", tensor[:1], tensor[1:])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(proto, tmp_path / "m.onnx")
        return open_onnx(tmp_path / "m.onnx")

    def test_is_refused_by_name_without_its_range(self, model, tmp_path):
        with pytest.raises(UnsupportedByBackend, match="no range of sizes for its axis 'length'"):
            BACKEND.compile(model, float_plan(model), ExecutionConfig(), tmp_path / "artifact")

    def test_is_built_for_its_range(self, model, tmp_path):
        execution = ExecutionConfig(batch=2, runtime_device="GPU:axis.length=1/64/128")
        artifact = BACKEND.compile(model, float_plan(model), execution, tmp_path / "artifact")
        assert artifact.settings["engine"]["profiles"] == [{"x": [[1, 1], [2, 64], [2, 128]]}]

    def test_an_axis_that_no_input_has_is_refused(self, model, tmp_path):
        execution = ExecutionConfig(runtime_device="GPU:axis.length=1/64/128,axis.lenght=1/64/128")
        with pytest.raises(UnsupportedByBackend, match="the axis 'lenght'; found open axes batch, length"):
            BACKEND.compile(model, float_plan(model), execution, tmp_path / "artifact")

    def test_is_built_for_several_ranges(self, model, tmp_path):
        asked = "GPU:axis.length=1/16/32+33/64/128,axis.batch=1/1/2"
        execution = ExecutionConfig(batch=2, runtime_device=asked)
        artifact = BACKEND.compile(model, float_plan(model), execution, tmp_path / "artifact")
        assert artifact.settings["engine"]["profiles"] == [
            {"x": [[1, 1], [1, 16], [2, 32]]},
            {"x": [[1, 33], [1, 64], [2, 128]]},
        ]


def test_older_runtimes_are_served_by_what_they_have():
    """TensorRT 10 asks for strong typing with a flag; later there is no other kind, and no flag."""
    asked = []
    builder = SimpleNamespace(create_network=asked.append)
    ten = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    TensorRt(name="tensorrt", version="10.3", module=ten).network(builder)
    TensorRt(name="tensorrt", version="12.0", module=SimpleNamespace()).network(builder)
    assert asked == [2, 0]


@pytest.mark.parametrize(
    ("asked", "runs_on", "device", "flags"),
    [
        pytest.param("", "tensorrt", 0, {}, id="the first GPU"),
        pytest.param("GPU:device=1", "tensorrt-rtx", 1, {}, id="another"),
        pytest.param(
            "gpu:hardware=ampere+,version_compatible=1",
            "tensorrt",
            0,
            {"hardware": "ampere+", "version_compatible": "1"},
            id="compatible",
        ),
        pytest.param("GPU:capabilities=8.6+8.9", "tensorrt-rtx", 0, {"capabilities": "8.6+8.9"}, id="several"),
        pytest.param("DLA:core=1,fallback=1", "tensorrt", 0, {"dla": "1", "fallback": "1"}, id="DLA"),
    ],
)
def test_options_of_an_engine(asked, runs_on, device, flags):
    assert engine_options(asked, runtime(runs_on)) == EngineOptions(device=device, flags=flags)


@pytest.mark.parametrize(
    ("asked", "runs_on", "said"),
    [
        pytest.param("NPU", "tensorrt", "no device NPU", id="device"),
        pytest.param("GPU:fast=1", "tensorrt", "options fast", id="option"),
        pytest.param("GPU:device=one", "tensorrt", "values that can't be read", id="number"),
        pytest.param("GPU:hardware=all", "tensorrt", "hardware=all", id="level"),
        pytest.param("GPU:capabilities=8.6", "tensorrt", "builds for the GPU that is in the machine", id="other GPUs"),
        pytest.param("GPU:capabilities=9.0", "tensorrt-rtx", "builds for 7.5, 8.6, 8.9, 12.0", id="unknown GPU"),
        pytest.param("GPU:capabilities=", "tensorrt-rtx", "builds for 7.5, 8.6, 8.9, 12.0", id="no GPU"),
        pytest.param("GPU:capabilities=8.6+", "tensorrt-rtx", "builds for 7.5, 8.6, 8.9, 12.0", id="half a list"),
        pytest.param("GPU:axis.length=8/4/16", "tensorrt", "axis.length=8/4/16", id="sizes out of order"),
        pytest.param("GPU:axis.length=8", "tensorrt", "axis.length=8", id="one size"),
        pytest.param(
            "GPU:axis.a=1/2/3+4/5/6,axis.b=1/2/3+4/5/6+7/8/9",
            "tensorrt",
            "2 ranges of axis 'a', and 3 of another",
            id="profiles that differ in number",
        ),
        pytest.param("DLA", "tensorrt-rtx", "has no DLA", id="DLA"),
        pytest.param("GPU:hardware=same", "tensorrt-rtx", "has no hardware", id="compatible"),
    ],
)
def test_options_that_an_engine_can_not_have(asked, runs_on, said):
    with pytest.raises(UnsupportedByBackend) as caught:
        engine_options(asked, runtime(runs_on))
    assert said in caught.value.found


@needs_tensorrt
def test_an_engine_for_several_gpus_ships_what_it_was_built_from(cnn, tmp_path):
    if "rtx" not in KNOWN.version:
        pytest.skip("the full TensorRT builds for the GPU in the machine")
    execution = ExecutionConfig(runtime_device="GPU:capabilities=8.6+8.9")
    artifact = BACKEND.compile(cnn.model, float_plan(cnn.model), execution, tmp_path / "artifact")
    key = artifact.settings["engine"]
    assert key["compute_capability"] == "8.6+8.9"
    assert key["source"] == digests_of(artifact.folder / "model.onnx")
    assert (key["gpu"], key["driver"]) == ("", "")


@needs_tensorrt
def test_what_is_not_built_for_is_said_and_what_else_is_raised_is_passed_on(cnn, monkeypatch):
    if "rtx" not in KNOWN.version:
        pytest.skip("the full TensorRT builds for the GPU in the machine")
    build = EngineFromOnnx(tensorrt=load_tensorrt(), target="1.0", batch=1)
    with pytest.raises(UnsupportedByBackend, match=r"compute capability 1\.0.*none such.*take the full TensorRT"):
        build(cnn.model)

    def fail(*_):
        raise RuntimeError("a fault of the runtime's")

    monkeypatch.setattr(TensorRt, "config", fail)
    with pytest.raises(RuntimeError, match="a fault of the runtime's"):
        build(cnn.model)


def test_an_engine_is_for_the_gpu_of_the_number_that_is_asked_for(monkeypatch):
    gpus = (H100, RTX_4090)
    monkeypatch.setattr(module, "find_gpu", lambda device: gpus[device] if device < len(gpus) else "2 GPUs")
    plan = QuantizationPlan(dialect="float", model_digest="0" * 64)
    for device, gpu in enumerate(gpus):
        about = module._about(runtime("tensorrt"), EngineOptions(device=device), plan)
        assert (about["gpu"], about["compute_capability"]) == (gpu.name, gpu.compute_capability)
    with pytest.raises(UnsupportedByBackend, match="build an engine for GPU 2; found 2 GPUs"):
        module._about(runtime("tensorrt"), EngineOptions(device=2), plan)


def test_what_is_refused_follows_the_gpu_of_the_number_that_is_asked_for(cnn, monkeypatch, tmp_path):
    gpus = (H100, T4)
    plan = dataclasses.replace(float_plan(cnn.model), default=Precision.BF16)
    for one in (module, capabilities):
        monkeypatch.setattr(one, "load_tensorrt", lambda: runtime("tensorrt"))
        monkeypatch.setattr(one, "find_gpu", lambda device: gpus[device] if device < len(gpus) else "2 GPUs")
    monkeypatch.setattr(EngineFromOnnx, "__call__", Mock(side_effect=RuntimeError("it is built")))
    monkeypatch.setattr(TensorRt, "building_for", lambda *_: contextlib.nullcontext())

    def compiled(device):
        return BACKEND.compile(cnn.model, plan, ExecutionConfig(runtime_device=f"GPU:device={device}"), tmp_path / "a")

    with pytest.raises(RuntimeError, match="it is built"):
        compiled(0)
    with pytest.raises(UnsupportedByBackend, match=r"bfloat16 needs compute capability 8\.0; this is 7\.5"):
        compiled(1)
    with pytest.raises(UnsupportedByBackend, match="build an engine for GPU 2; found 2 GPUs"):
        compiled(2)


@pytest.mark.parametrize("gpus", [(T4, H100), (H100, T4)], ids=["the second has it", "the first has it"])
def test_what_one_of_several_gpus_has_is_offered(gpus, monkeypatch):
    monkeypatch.setattr(capabilities, "load_tensorrt", lambda: runtime("tensorrt"))
    monkeypatch.setattr(capabilities, "find_gpu", lambda device: gpus[device] if device < len(gpus) else "2 GPUs")
    known = BACKEND.capabilities()
    assert known.can_run
    assert [name.partition(" (")[0] for name in known.devices] == [gpu.name for gpu in gpus]
    assert known.precisions[Precision.BF16].available
    assert not known.precisions[Precision.INT16].available


def test_an_engine_is_opened_where_its_own_gpu_is(artifact, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "capabilities_here", lambda device: asked.append(device) or KNOWN)
    moved = dataclasses.replace(artifact, settings={**artifact.settings, "device": 1})
    monkeypatch.setattr(module, "check_artifact", lambda one: one.folder / one.entry)
    monkeypatch.setattr(module, "open_artifact", lambda one: None)
    with contextlib.suppress(UnsupportedByBackend):
        BACKEND.open(moved)
    assert asked == [1]


def test_it_is_built_while_that_gpu_is_the_current_one(monkeypatch):
    driver = Mock(**{"cuDeviceGetCount.side_effect": lambda count: setattr(count._obj, "value", 2) or 0})
    driver.configure_mock(**{f"{name}.return_value": 0 for name in ANSWERED})
    driver.cuDevicePrimaryCtxRetain.side_effect = lambda context, _: setattr(context._obj, "value", 1) or 0
    monkeypatch.setattr(session, "_driver", lambda: driver)
    with runtime("tensorrt").building_for(1):
        assert driver.cuDeviceGet.call_args.args[1].value == 1
        assert driver.cuCtxSetCurrent.call_count == 1
        assert driver.cuDevicePrimaryCtxRelease_v2.call_count == 0
    assert driver.cuDevicePrimaryCtxRelease_v2.call_count == 1
    with runtime("tensorrt-rtx").building_for(1):
        assert driver.cuCtxSetCurrent.call_count == 1  # it builds for GPUs that are not here
