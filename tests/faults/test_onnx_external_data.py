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


def _refusals(path: Path) -> list[str]:
    """What was found, as each way of reading the file says it when it refuses it unread."""
    found = []
    for read in (open_onnx, read_ir):
        with pytest.raises(UnsafeFileError, match=r"'w'.*nothing was read") as caught:
            read(path)
        found.append(caught.value.found)
    return found


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
    assert all(
        "leaves the model's folder" in found
        for found in _refusals(_save(_refer(small_onnx, location=location), folder))
    )


def test_external_data_with_an_absolute_path(small_onnx, folder, outside):
    assert all(
        "no plain relative path" in found
        for found in _refusals(_save(_refer(small_onnx, location=str(outside)), folder))
    )


@pytest.mark.parametrize("location", ["", "..\\outside.bin", "C:outside.bin", "C:\\outside.bin", "a\0b", "file:///x"])
def test_external_data_with_a_path_that_other_systems_read_differently(small_onnx, folder, location):
    assert all(
        "no plain relative path" in found for found in _refusals(_save(_refer(small_onnx, location=location), folder))
    )


def test_external_data_behind_a_symbolic_link(small_onnx, folder, outside):
    (folder / "w.bin").symlink_to(outside)
    assert all("symbolic link" in found for found in _refusals(_save(_refer(small_onnx, location="w.bin"), folder)))


def test_external_data_in_a_linked_folder(small_onnx, folder, outside):
    (folder / "sub").symlink_to(outside.parent)
    assert all(
        "symbolic link" in found for found in _refusals(_save(_refer(small_onnx, location="sub/outside.bin"), folder))
    )


def test_external_data_that_is_a_hard_link(small_onnx, folder, outside):
    os.link(outside, folder / "w.bin")
    assert all("hard link" in found for found in _refusals(_save(_refer(small_onnx, location="w.bin"), folder)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_external_data_that_is_a_pipe(small_onnx, folder):
    os.mkfifo(folder / "w.bin")
    assert all("no regular file" in found for found in _refusals(_save(_refer(small_onnx, location="w.bin"), folder)))


@pytest.mark.parametrize(
    ("extent", "says"),
    [
        ({"offset": "-1"}, "external offset or length '-1'"),
        ({"length": "-48"}, "external offset or length '-48'"),
        (
            {"offset": "9223372036854775807"},
            "bytes 9223372036854775807..9223372036854775855 of an external file with 48",
        ),
        ({"offset": "18446744073709551615"}, "external offset or length '18446744073709551615'"),
        ({"length": "99999999999999999999999"}, "external offset or length '99999999999999999999999'"),
        ({"offset": "1"}, "bytes 1..49 of an external file with 48"),
        ({"offset": "48"}, "bytes 48..96 of an external file with 48"),
        ({"length": "49"}, "bytes 0..49 of an external file with 48"),
        ({"length": "47"}, "47 external bytes for 12 elements, which take 48"),
        ({"length": "0"}, "0 external bytes for 12 elements, which take 48"),
        ({"offset": "0x0"}, "external offset or length '0x0'"),
        ({"offset": " 0"}, "external offset or length ' 0'"),
        ({"offset": "1_0"}, "external offset or length '1_0'"),
        ({"offset": ""}, "external offset or length ''"),
        ({"offset": "٣"}, "external offset or length '٣'"),
    ],
    ids=str,
)
def test_external_data_beyond_its_file(small_onnx, folder, extent, says):
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    assert all(says in found for found in _refusals(_save(_refer(small_onnx, location="w.bin", **extent), folder)))


def test_external_data_file_too_short(small_onnx, folder):
    (folder / "w.bin").write_bytes(b"\1" * (SIZE - 1))
    assert all(
        "external file with 47" in found for found in _refusals(_save(_refer(small_onnx, location="w.bin"), folder))
    )


def test_external_data_huge_claim_allocates_nothing(small_onnx, folder):
    """A sparse file of a terabyte: seen from its size alone, so this ends at once."""
    (folder / "w.bin").write_bytes(b"")
    os.truncate(folder / "w.bin", 1 << 40)
    assert all(
        "which take 48" in found
        for found in _refusals(_save(_refer(small_onnx, location="w.bin", length=str(1 << 40)), folder))
    )


@pytest.mark.parametrize("key", ["basepath", "Location", "exec", ""])
def test_external_data_with_unknown_keys(small_onnx, folder, key):
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    path = _save(_refer(small_onnx, location="w.bin", **{key: "x"}), folder)
    assert all(f"unknown external data keys [{key!r}]" in found for found in _refusals(path))


def test_external_data_with_two_locations(small_onnx, folder):
    model = _refer(small_onnx, location="w.bin")
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    (folder / "w.bin").write_bytes(b"\1" * SIZE)
    assert all("location must be given once" in found for found in _refusals(_save(model, folder)))


def test_external_data_on_a_tensor_that_denies_it(small_onnx, folder):
    small_onnx.graph.initializer[0].external_data.add(key="location", value="../outside.bin")
    assert all("says it has none" in found for found in _refusals(_save(small_onnx, folder)))


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
    assert all("leaves the model's folder" in found for found in _refusals(_save(small_onnx, folder)))
