"""One reading for many graphs: what is mapped is what was read, and is written as if it had been in memory."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import EncodeError

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.errors import ModelFormatError, OutputError
from edgeport.onnx_files import open_onnx, read_ir, read_once, reading, write_ir, write_scratch
from edgeport.onnx_files.mapped_weights import lay_out_weights, locate_weights

ROWS, COLUMNS = 3, 400


@pytest.fixture
def saved(small_onnx, save_onnx):
    """A model with one weight that is large enough, float32 [3, 400], and one that is not, [400]."""
    array = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    small_onnx.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "w"))
    small_onnx.graph.initializer[0].doc_string = "of the product"
    small_onnx.graph.initializer.append(onnx.numpy_helper.from_array(array[0], "b"))
    small_onnx.graph.node[1].CopyFrom(onnx.helper.make_node("Add", ["h", "b"], ["y"], name="sum"))
    small_onnx.graph.output[0].type.tensor_type.shape.dim[1].dim_value = COLUMNS
    return save_onnx(small_onnx)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "weights"
    made.mkdir()
    return made


def test_every_graph_is_what_was_read(saved, folder):
    alone = read_ir(saved)
    with read_once(saved, folder) as model:
        assert model == open_onnx(saved)
        first, second = read_ir(model), read_ir(model)
        first.graph.remove(first.graph[-1])  # each is its own
        for name, value in second.graph.initializers.items():
            np.testing.assert_array_equal(value.const_value.numpy(), alone.graph.initializers[name].const_value.numpy())
        assert [node.name for node in second.graph] == ["product", "sum"]
    assert (folder / "weights.data").stat().st_size == 4 * ROWS * COLUMNS


def test_what_is_written_of_it_is_the_same_file(saved, folder, tmp_path):
    alone = write_ir(read_ir(saved), tmp_path / "alone.onnx")
    with read_once(saved, folder) as model:
        mapped = write_ir(read_ir(model), tmp_path / "mapped.onnx")
    assert mapped.path.read_bytes() == alone.path.read_bytes()


def test_a_file_that_changes_meanwhile_is_not_read_again(saved, folder):
    with read_once(saved, folder) as model:
        saved.write_bytes(b"something else")
        assert len(read_ir(model).graph) == 2
    with pytest.raises(ModelFormatError):
        read_ir(model)


def test_another_file_than_was_opened_is_refused(saved, folder):
    model = open_onnx(saved)
    changed = onnx.load(saved)
    changed.graph.node[1].name = "other"
    onnx.save(changed, saved)
    with pytest.raises(ModelFormatError, match="other content"), read_once(model, folder):
        pass


def test_a_runtime_opens_a_scratch_file_of_either(saved, folder, tmp_path):
    feeds = {"x": np.random.default_rng(1).standard_normal((2, ROWS)).astype(np.float32)}
    with open_reference(write_scratch(read_ir(saved), tmp_path, "alone.onnx")) as run:
        expected = run(feeds)
    with read_once(saved, folder) as model:
        files = [write_scratch(read_ir(model), tmp_path, "mapped.onnx") for _ in range(2)]
        assert [file.parent for file in files] == [folder, tmp_path], "beside the weights where the name is free there"
        assert files[0].stat().st_size < files[1].stat().st_size - 4 * ROWS * COLUMNS // 2
        for file in files:
            with open_reference(file) as run:
                np.testing.assert_array_equal(run(feeds)["y"], expected["y"])


def test_what_protobuf_can_not_hold_once_more_stays_as_it_was_read(saved, folder):
    def too_large():
        raise EncodeError("Failed to serialize proto")

    proto = onnx.load(saved)
    model = SimpleNamespace(graph=proto.graph, SerializeToString=too_large)
    assert lay_out_weights(model, folder) is model
    graph = ir.from_proto(proto)
    locate_weights(graph, folder)
    expected = read_ir(saved).graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(graph.graph.initializers["w"].const_value.numpy(), expected)


def test_a_full_disk_is_said(saved, folder, monkeypatch):
    def full(model, where):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(reading, "lay_out_weights", full)
    with pytest.raises(OutputError, match="No space left"), read_once(saved, folder):
        pass
