"""External data that would reach outside the model's folder or file. Each refusal comes before any runtime opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import TensorProto

from edgeport.errors import ModelFormatError, UnsafeFileError
from edgeport.onnx_files import open_onnx, read_ir

SIZE = 48  # bytes of the weight: float32 [3, 4]


def _refer(small_onnx, **entries: str):
    """Moves the weight out of the model; `entries` say where to."""
    weight = small_onnx.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    return small_onnx


def _refused(path: Path, found: str) -> UnsafeFileError:
    for read in (open_onnx, read_ir):
        with pytest.raises(UnsafeFileError) as caught:
            read(path)
        assert found in caught.value.found
        assert "'w'" in caught.value.found
        assert "nothing was read" in caught.value.fix
        assert caught.value.code == "UNSAFE_FILE"
    return caught.value


@pytest.fixture
def outside(tmp_path) -> Path:
    """A file that the model has no business with."""
    file = tmp_path / "outside.bin"
    file.write_bytes(b"\1" * SIZE)
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def _save(model, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../outside.bin", "sub/../../outside.bin", "./../outside.bin", ".."])
def test_external_data_with_dots(small_onnx, folder, outside, location):
    (folder / "sub").mkdir()
    _refused(_save(_refer(small_onnx, location=location), folder), "leaves the model's folder")


def test_external_data_with_an_absolute_path(small_onnx, folder, outside):
    _refused(_save(_refer(small_onnx, location=str(outside)), folder), "no plain relative path")


@pytest.mark.parametrize("location", ["", "..\\outside.bin", "C:outside.bin", "C:\\outside.bin", "a\0b", "file:///x"])
def test_external_data_with_a_path_that_other_systems_read_differently(small_onnx, folder, location):
    _refused(_save(_refer(small_onnx, location=location), folder), "no plain relative path")


def test_external_data_behind_a_symbolic_link(small_onnx, folder, outside):
    (folder / "w.bin").symlink_to(outside)
    _refused(_save(_refer(small_onnx, location="w.bin"), folder), "symbolic link")


def test_external_data_in_a_linked_folder(small_onnx, folder, outside):
    (folder / "sub").symlink_to(outside.parent)
    _refused(_save(_refer(small_onnx, location="sub/outside.bin"), folder), "symbolic link")


def test_external_data_that_is_a_hard_link(small_onnx, folder, outside):
    os.link(outside, folder / "w.bin")
    _refused(_save(_refer(small_onnx, location="w.bin"), folder), "hard link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_external_data_that_is_a_pipe(small_onnx, folder):
    os.mkfifo(folder / "w.bin")
    _refused(_save(_refer(small_onnx, location="w.bin"), folder), "no regular file")


@pytest.mark.parametrize(
    "extent",
    [
        {"offset": "-1"},
        {"length": "-48"},
        {"offset": "9223372036854775807"},
        {"offset": "18446744073709551615"},
        {"length": "99999999999999999999999"},
        {"offset": "1"},
        {"offset": "48"},
        {"length": "49"},
        {"length": "47"},
        {"length": "0"},
        {"offset": "0x0"},
        {"offset": " 0"},
        {"offset": "1_0"},
        {"offset": ""},
        {"offset": "٣"},
    ],
    ids=str,
)
def test_external_data_beyond_its_file(small_onnx, folder, extent):
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    _refused(_save(_refer(small_onnx, location="w.bin", **extent), folder), "extern")


def test_external_data_file_too_short(small_onnx, folder):
    (folder / "w.bin").write_bytes(b"\1" * (SIZE - 1))
    _refused(_save(_refer(small_onnx, location="w.bin"), folder), "external file with 47")


def test_external_data_huge_claim_allocates_nothing(small_onnx, folder):
    """A sparse file of a terabyte: seen from its size alone, so this ends at once."""
    (folder / "w.bin").write_bytes(b"")
    os.truncate(folder / "w.bin", 1 << 40)
    _refused(_save(_refer(small_onnx, location="w.bin", length=str(1 << 40)), folder), "which take 48")


@pytest.mark.parametrize("key", ["basepath", "Location", "exec", ""])
def test_external_data_with_unknown_keys(small_onnx, folder, key):
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    error = _refused(_save(_refer(small_onnx, location="w.bin", **{key: "x"}), folder), "unknown external data keys")
    assert repr(key) in error.found


def test_external_data_with_two_locations(small_onnx, folder):
    model = _refer(small_onnx, location="w.bin")
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    _refused(_save(model, folder), "location must be given once")


def test_external_data_on_a_tensor_that_denies_it(small_onnx, folder):
    small_onnx.graph.initializer[0].external_data.add(key="location", value="../outside.bin")
    _refused(_save(small_onnx, folder), "says it has none")


def test_external_data_file_missing(small_onnx, folder):
    with pytest.raises(ModelFormatError, match="copy the data files"):
        open_onnx(_save(_refer(small_onnx, location="w.bin"), folder))


@pytest.mark.parametrize("place", ["attribute", "subgraph", "function", "sparse", "default"])
def test_external_data_hidden_deep_in_the_model(small_onnx, folder, outside, place):
    import onnx
    from onnx import helper

    hidden = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[12], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="../outside.bin")
    node = helper.make_node("Constant", [], ["c"], value=hidden)
    if place == "attribute":
        small_onnx.graph.node.append(node)
    elif place == "subgraph":
        body = helper.make_graph([], "body", [], [], [hidden])
        small_onnx.graph.node.append(helper.make_node("If", ["y"], [], then_branch=body, else_branch=body))
    elif place == "sparse":
        small_onnx.graph.sparse_initializer.append(onnx.SparseTensorProto(values=hidden, dims=[12]))
    else:
        function = helper.make_function("local", "f", [], ["c"], [], [helper.make_opsetid("", 20)])
        if place == "function":
            function.node.append(node)
        else:
            function.attribute_proto.append(helper.make_attribute("value", hidden))
        small_onnx.functions.append(function)
    _refused(_save(small_onnx, folder), "leaves the model's folder")
