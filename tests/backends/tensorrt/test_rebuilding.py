"""A foreign engine is built again from its model; what was built is kept, and believed only where it is ours."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from edgeport.backends.tensorrt import session as module
from edgeport.backends.tensorrt.session import KeptFiles, configure, digests_of, open_session

FOREIGN, BUILT = b"an engine of elsewhere", b"an engine of here"
MODEL = b"a model"


class Machine:
    """A GPU, and a TensorRT that notes what it builds and what it is handed."""

    def __init__(self) -> None:
        self.gpu = SimpleNamespace(name="A10", compute_capability="8.6", driver="580.1")
        self.built: list[tuple[int, ...]] = []
        self.handed: list[bytes] = []
        self.timings: list[bytes] = []
        self.host_code = False
        self.current = ""
        self.built_on: list[str] = []

    @contextmanager
    def as_current(self):
        """As `Cuda.current`."""
        self.current = self.gpu.name
        yield
        self.current = ""

    def build(self, network, config) -> bytes:
        self.built_on.append(self.current)
        return BUILT

    def tensorrt(self) -> SimpleNamespace:
        cache = SimpleNamespace(serialize=lambda: b"times")
        config = SimpleNamespace(
            create_timing_cache=lambda data: self.timings.append(data) or cache,
            set_timing_cache=lambda cache, ignore_mismatch: True,
            get_timing_cache=lambda: cache,
            add_optimization_profile=lambda profile: None,
            set_flag=lambda flag: None,
        )
        profile = SimpleNamespace(set_shape=lambda name, low, best, high: self.built.append(high))
        builder = SimpleNamespace(
            create_network=lambda flags: None,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=self.build,
        )
        parser = SimpleNamespace(parse_from_file=lambda path: True)
        runtime = SimpleNamespace(deserialize_cuda_engine=self.handed.append, engine_host_code_allowed=False)
        self.runtime = runtime
        return SimpleNamespace(
            __version__="11.4",
            Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
            BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE=0),
            HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS=1, SAME_COMPUTE_CAPABILITY=2),
            Builder=lambda logger: builder,
            OnnxParser=lambda network, logger: parser,
            Runtime=lambda logger: runtime,
        )


@pytest.fixture
def machine(monkeypatch, tmp_path) -> Machine:
    here = Machine()
    monkeypatch.setenv("EDGEPORT_TENSORRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "import_tensorrt", lambda: ("tensorrt", here.tensorrt()))
    monkeypatch.setattr(module, "Cuda", lambda device: here.gpu)
    here.gpu.activate = lambda: None
    here.gpu.current = here.as_current
    return here


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "artifact"
    made.mkdir()
    (made / "model.engine").write_bytes(FOREIGN)
    (made / "model.onnx").write_bytes(MODEL)
    return made


def opened(folder, batch: int = 4, **said) -> None:
    """Opens it, up to where the imitated runtime has nothing more to give: it deserialises to None."""
    key = {
        "runtime": "tensorrt",
        "version": "11.4",
        "compute_capability": "8.6",
        "gpu": "A10",
        "driver": "580.1",
        "sha256": hashlib.sha256(FOREIGN).hexdigest(),
        "source": digests_of(folder / "model.onnx"),
        "profiles": [{"x": [[1, 3], [batch, 3], [batch, 3]]}],
        **said,
    }
    (folder / "engine.json").write_text(json.dumps(key))
    with pytest.raises(RuntimeError, match="TensorRT refused it"):
        open_session(str(folder / "model.engine"), {"engine": key})


def test_one_that_was_built_for_this_machine_is_handed_over(machine, folder):
    opened(folder)
    assert (machine.handed, machine.built) == ([FOREIGN], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("runtime", "tensorrt-rtx", id="runtime"),
        pytest.param("version", "10.3", id="version"),
        pytest.param("compute_capability", "8.9", id="compute capability"),
        pytest.param("gpu", "A2", id="GPU"),
        pytest.param("driver", "550.2", id="driver"),
        pytest.param("sha256", "0" * 64, id="bytes"),
    ],
)
def test_a_foreign_one_is_built_again_once(machine, folder, name, value):
    for _ in range(2):
        opened(folder, **{name: value})
    assert machine.handed == [BUILT, BUILT]
    assert machine.built == [(4, 3)]
    assert machine.built_on == ["A10"]  # whatever number it has


def test_what_is_kept_is_of_one_key(machine, folder):
    opened(folder, version="10.3")
    opened(folder, version="10.3", batch=8)
    machine.gpu.driver = "590.0"
    opened(folder, version="10.3")
    assert machine.built == [(4, 3), (8, 3), (4, 3)]


def test_it_is_built_again_with_every_profile(machine, folder):
    ranges = [{"x": [[1, 3], [1, 3], [8, 3]]}, {"x": [[9, 3], [16, 3], [32, 3]]}]
    opened(folder, version="10.3", profiles=ranges)
    assert machine.built == [(8, 3), (32, 3)]


def test_a_kept_one_that_was_changed_is_built_again(machine, folder, tmp_path):
    opened(folder, version="10.3")
    (kept,) = (tmp_path / "cache").glob("*.engine")
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    opened(folder, version="10.3")
    assert machine.handed == [BUILT, BUILT]
    assert len(machine.built) == 2


def test_kernels_times_are_handed_on_to_the_next_build(machine, folder):
    opened(folder, version="10.3")
    opened(folder, version="10.3", batch=8)
    assert machine.timings == [b"", b"times"]


def test_a_model_that_was_changed_is_not_built_from(machine, folder):
    source = digests_of(folder / "model.onnx")
    (folder / "model.onnx").write_bytes(b"another model")
    (folder / "engine.json").write_text("{}")
    with pytest.raises(RuntimeError, match="is not what it was built from; compile it again"):
        open_session(str(folder / "model.engine"), {"engine": {"source": source, "profiles": []}})
    assert (machine.handed, machine.built) == ([], [])


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        pytest.param(
            {"flags": {"hardware": "ampere+"}, "compute_capability": "8.0", "gpu": "A100"}, True, id="ampere+"
        ),
        pytest.param({"flags": {"hardware": "same"}, "gpu": "A2"}, True, id="another GPU of its capability"),
        pytest.param({"flags": {"hardware": "same"}, "compute_capability": "8.9"}, False, id="another capability"),
        pytest.param({"compute_capability": "8.6+8.9", "gpu": "", "driver": ""}, True, id="one of several"),
        pytest.param({"compute_capability": "8.9+12.0", "gpu": "", "driver": ""}, False, id="none of several"),
        pytest.param({"flags": {"version_compatible": "1"}, "version": "11.0.3"}, True, id="an older minor version"),
        pytest.param({"flags": {"version_compatible": "1"}, "version": "11.5"}, False, id="a newer minor version"),
        pytest.param({"flags": {"version_compatible": "1"}, "version": "10.9"}, False, id="another major version"),
    ],
)
def test_what_an_engine_is_compatible_with(machine, folder, said, fits):
    opened(folder, **said)
    assert machine.handed == [FOREIGN if fits else BUILT]
    assert machine.runtime.engine_host_code_allowed is ("version_compatible" in said.get("flags", {}))


class TestKeptFiles:
    def test_nothing_is_believed_under_another_key_or_kind(self, tmp_path):
        kept = KeptFiles(str(tmp_path))
        kept.put("engine", {"gpu": "A10"}, b"data")
        assert kept.get("engine", {"gpu": "A10"}) == b"data"
        (made,) = tmp_path.glob("*.engine")
        made.with_suffix(".timings").write_bytes(made.read_bytes())
        kept._path("engine", {"gpu": "A2"}).write_bytes(made.read_bytes())
        assert kept.get("timings", {"gpu": "A10"}) is None
        assert kept.get("engine", {"gpu": "A2"}) is None

    def test_nothing_is_believed_once_others_can_read_the_secret(self, tmp_path):
        kept = KeptFiles(str(tmp_path))
        kept.put("engine", {}, b"data")
        (tmp_path / "secret").chmod(0o644)
        assert kept.get("engine", {}) is None
        kept.put("engine", {}, b"new")
        assert kept.get("engine", {}) == b"new"
        assert (tmp_path / "secret").stat().st_mode & 0o077 == 0

    def test_a_folder_that_can_not_be_written_keeps_nothing(self, tmp_path):
        (tmp_path / "file").touch()
        kept = KeptFiles(str(tmp_path / "file" / "below"))
        kept.put("engine", {}, b"data")
        assert kept.get("engine", {}) is None


def test_dla_is_asked_for_where_there_is_one():
    flags = []
    config = SimpleNamespace(set_flag=flags.append)
    builder = SimpleNamespace(create_builder_config=lambda: config, num_DLA_cores=2)
    runtime = SimpleNamespace(
        DeviceType=SimpleNamespace(DLA="DLA"), BuilderFlag=SimpleNamespace(GPU_FALLBACK="fallback")
    )
    configure(runtime, builder, "8.7", {"dla": "1", "fallback": "1"})
    assert (config.default_device_type, config.DLA_core, flags) == ("DLA", 1, ["fallback"])
    with pytest.raises(RuntimeError, match="asked for DLA core 2; found 2 DLA cores here"):
        configure(runtime, builder, "8.7", {"dla": "2"})
