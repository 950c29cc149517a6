"""The session, on a driver and a runtime that are imitated: what is checked before an engine is handed over, and
that every buffer is filled, used and given back."""

from __future__ import annotations

import ctypes
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeport.backends.tensorrt import session as module
from edgeport.backends.tensorrt.runtime import find_gpu
from edgeport.backends.tensorrt.session import Cuda, open_session

ENGINE = b"twice the input"
PROFILES = [[(1, 3), (4, 3), (4, 3)], [(3, 3), (16, 3), (32, 3)], [(3, 3), (8, 3), (32, 3)]]


class Driver:
    """libcuda with host memory for GPU memory; counts what is allocated."""

    def __init__(self) -> None:
        self.buffers: dict[int, ctypes.Array] = {}
        self.count = 1
        self.streams = 0
        self.current: set[int] = set()

    def __getattr__(self, name: str):
        if name.startswith("cu"):
            return lambda *arguments: 0
        raise AttributeError(name)

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGetAttribute(self, value, number, device):  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[number.value]
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        context._obj.value = 1
        return 0

    def cuMemAlloc_v2(self, pointer, size):  # noqa: N802
        buffer = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(buffer)
        self.buffers[pointer._obj.value] = buffer
        return 0

    cuMemAllocHost_v2 = cuMemAlloc_v2  # noqa: N815

    def cuMemFree_v2(self, pointer):  # noqa: N802
        del self.buffers[pointer.value]
        return 0

    cuMemFreeHost = cuMemFree_v2  # noqa: N815

    def cuCtxSetCurrent(self, context):  # noqa: N802
        self.current.add(threading.get_ident())
        return 0

    def cuMemcpyHtoDAsync_v2(self, to, source, size, stream):  # noqa: N802
        if threading.get_ident() not in self.current:
            return 201  # CUDA_ERROR_INVALID_CONTEXT
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2  # noqa: N815

    def cuStreamCreate(self, stream, flags):  # noqa: N802
        self.streams += 1
        stream._obj.value = self.streams
        return 0

    def cuStreamDestroy_v2(self, stream):  # noqa: N802
        self.streams -= 1
        return 0


class Context:
    """Doubles x into y where the addresses say."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.profile = 0

    def set_optimization_profile_async(self, profile, stream):
        assert stream
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.shape = shape
        lowest, _, highest = PROFILES[self.profile]
        return all(a <= n <= b for a, n, b in zip(lowest, shape, highest, strict=True))

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream
        count = int(np.prod(self.shape))
        x, y = (
            np.frombuffer((ctypes.c_float * count).from_address(self.addresses[name]), dtype=np.float32)
            for name in "xy"
        )
        y[...] = 2 * x
        return True


def fake_tensorrt(seen: list[bytes]):
    """Holds what `session.py` uses of the module."""
    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: "yx"[index],
        get_tensor_mode=lambda name: f"TensorIOMode.{'INPUT' if name == 'x' else 'OUTPUT'}",
        get_tensor_dtype=lambda name: "float32",
        num_optimization_profiles=len(PROFILES),
        get_tensor_profile_shape=lambda name, profile: PROFILES[profile],
        create_execution_context=Context,
    )

    def deserialize(data: bytes):
        seen.append(data)
        return engine

    return SimpleNamespace(
        __version__="11.4",
        nptype=np.dtype,
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=deserialize),
    )


@pytest.fixture
def driver(monkeypatch):
    made = Driver()
    monkeypatch.setattr(module, "_driver", lambda: made)
    return made


@pytest.fixture
def handed_over(monkeypatch) -> list[bytes]:
    """What the runtime was given to deserialise."""
    seen: list[bytes] = []
    monkeypatch.setattr(module, "import_tensorrt", lambda: ("tensorrt", fake_tensorrt(seen)))
    return seen


KEY = {
    "runtime": "tensorrt",
    "version": "11.4",
    "compute_capability": "8.6",
    "sha256": hashlib.sha256(ENGINE).hexdigest(),
}


@pytest.fixture
def path(tmp_path) -> str:
    (tmp_path / "model.engine").write_bytes(ENGINE)
    (tmp_path / "engine.json").write_text(json.dumps(KEY))
    return str(tmp_path / "model.engine")


@pytest.mark.usefixtures("handed_over")
def test_runs_and_gives_everything_back(driver, path):
    session = open_session(path, {"engine": KEY, "inputs": ["x"], "outputs": ["y"]})
    for count in (1, 4):
        x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
        call = session.bind({"x": x})
        with pytest.raises(ValueError, match="nothing was run"):
            call.outputs()
        call.run()
        call.run()
        np.testing.assert_array_equal(call.outputs()["y"], 2 * x)
    assert len(driver.buffers) == 4
    del call
    assert not driver.buffers
    assert not driver.streams
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.bind({"x": x})


@pytest.mark.usefixtures("driver", "handed_over")
def test_a_call_may_run_in_another_thread_than_bound_it(path):
    session = open_session(path, {})
    call = session.bind({"x": np.ones((2, 3), np.float32)})
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call.run).result()
    np.testing.assert_array_equal(call.outputs()["y"], 2)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("runtime", "tensorrt-rtx", id="other runtime"),
        pytest.param("version", "10.3", id="other version"),
        pytest.param("compute_capability", "8.9", id="other GPU"),
        pytest.param("sha256", "0" * 64, id="other bytes"),
    ],
)
@pytest.mark.parametrize("where", ["file", "settings"])
def test_foreign_engine_is_never_handed_over(where, name, value, path, handed_over):
    wrong = {**KEY, name: value}
    if where == "file":
        Path(path).with_name("engine.json").write_text(json.dumps(wrong))
    with pytest.raises(RuntimeError, match="build it again"):
        open_session(path, {"engine": wrong if where == "settings" else KEY})
    assert not handed_over


@pytest.mark.usefixtures("driver", "handed_over")
@pytest.mark.parametrize(
    "feeds",
    [
        pytest.param({}, id="no input"),
        pytest.param({"z": np.zeros((1, 3), np.float32)}, id="name"),
        pytest.param({"x": np.zeros((1, 3))}, id="dtype"),
        pytest.param({"x": np.zeros((33, 3), np.float32)}, id="more than every profile allows"),
        pytest.param({"x": np.zeros(3, np.float32)}, id="rank"),
    ],
)
def test_feeds_that_do_not_fit(feeds, path):
    session = open_session(path, {})
    with pytest.raises(ValueError, match="asked to feed"):
        session.bind(feeds)


@pytest.mark.usefixtures("handed_over")
@pytest.mark.parametrize(("count", "profile"), [(2, 0), (4, 0), (7, 2), (9, 2), (20, 1), (32, 1)])
def test_a_call_has_the_profile_that_is_best_for_its_shapes(driver, path, count, profile):
    session = open_session(path, {})
    call = session.bind({"x": np.ones((count, 3), np.float32)})
    assert call._context.profile == profile
    call.run()
    np.testing.assert_array_equal(call.outputs()["y"], 2)
    del call
    assert not driver.streams


@pytest.mark.usefixtures("driver", "handed_over")
def test_every_range_is_named_where_none_holds(path):
    with pytest.raises(ValueError, match=r"takes \[1, 3\] to \[4, 3\] or \[3, 3\] to \[32, 3\]"):
        open_session(path, {}).bind({"x": np.ones((33, 3), np.float32)})


def test_no_driver_and_no_gpu_are_told(monkeypatch, driver):
    driver.count = 0
    with pytest.raises(RuntimeError, match="found 0 GPUs"):
        Cuda()
    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    find_gpu.cache_clear()
    assert find_gpu() == "no NVIDIA driver (libcuda)"
    find_gpu.cache_clear()
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        Cuda()


def test_driver_errors_carry_their_text(driver):
    def explain(status, text):
        text._obj.value = b"out of memory"
        return 0

    driver.cuMemAlloc_v2 = lambda *arguments: 2
    driver.cuGetErrorString = explain
    with pytest.raises(RuntimeError, match=r"error 2 \(out of memory\)"):
        Cuda().call("cuMemAlloc_v2", None, None)
