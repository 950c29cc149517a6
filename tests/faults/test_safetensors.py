"""Safetensors files whose header lies; both readers of such files refuse them in bounded time and memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeport.contracts import Calibration
from edgeport.errors import ContractError, SourceError

FLOAT = {"dtype": "F32", "shape": [2]}
LONGEST_S = 10


def _file(entries: dict[str, object], data: bytes = bytes(16), *, length: int | None = None) -> bytes:
    header = json.dumps(entries).encode()
    size = len(header) if length is None else length
    return size.to_bytes(8, "little") + header + data


def _tensor(start: int, end: int, **changes: object) -> dict[str, object]:
    return {**FLOAT, "data_offsets": [start, end], **changes}


@dataclass(frozen=True, kw_only=True)
class Lie:
    name: str
    make: Callable[[], bytes]


LIES = [
    Lie(name="overlapping", make=lambda: _file({"a": _tensor(0, 8), "b": _tensor(4, 12)})),
    Lie(name="twice the same bytes", make=lambda: _file({"a": _tensor(0, 8), "b": _tensor(0, 8)}, bytes(8))),
    Lie(name="a hole", make=lambda: _file({"a": _tensor(0, 8), "b": _tensor(12, 20)}, bytes(20))),
    Lie(name="beyond the end", make=lambda: _file({"a": _tensor(8, 24, shape=[4])})),
    Lie(name="backwards", make=lambda: _file({"a": _tensor(8, 0)})),
    Lie(name="overflowing shape", make=lambda: _file({"a": _tensor(0, 8, shape=[1 << 32, 1 << 32, 2])})),
    Lie(name="overflowing offset", make=lambda: _file({"a": _tensor(0, (1 << 64) + 8)})),
    Lie(name="negative offset", make=lambda: _file({"a": _tensor(-8, 0)})),
    Lie(name="a size of 2^63", make=lambda: _file({"a": _tensor(0, 8)}, length=1 << 63)),
    Lie(name="a size beyond the file", make=lambda: _file({"a": _tensor(0, 8)}, length=10_000)),
    Lie(name="bytes behind the last", make=lambda: _file({"a": _tensor(0, 8)}, bytes(100))),
    Lie(name="an unknown dtype", make=lambda: _file({"a": _tensor(0, 8, dtype="F12")})),
    Lie(name="deeply nested", make=lambda: _nested(50_000)),
    Lie(name="100k entries", make=lambda: _many(100_000)),
]  # fmt: skip


def _nested(depth: int) -> bytes:
    header = b'{"a":' * depth + b"1" + b"}" * depth
    return len(header).to_bytes(8, "little") + header


def _many(count: int) -> bytes:
    return _file({f"t{i}": _tensor(8 * i, 8 * i + 8) for i in range(count)}, bytes(8 * count))


@pytest.fixture(params=LIES, ids=lambda lie: lie.name)
def lying(request, tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(request.param.make())
    return path


def test_weights_are_refused(lying):
    pytest.importorskip("torch", reason="the exporter needs the torch extra")
    from edgeport.exporter.checkpoint import read_state_dict

    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        read_state_dict(lying)
    assert caught.value.code == "SOURCE_INVALID"
    assert "save" in caught.value.fix
    assert time.monotonic() - started < LONGEST_S


def test_a_calibration_whose_record_is_nested_too_deep_is_refused(tmp_path):
    record = {"calibration": "[" * 100_000}
    (tmp_path / "model.safetensors").write_bytes(_file({"__metadata__": record, "a": _tensor(0, 16, shape=[4])}))
    with pytest.raises(ContractError, match="damaged"):
        Calibration.load(tmp_path / "model.safetensors")


def test_a_calibration_is_refused(lying):
    started = time.monotonic()
    with pytest.raises(ContractError) as caught:
        Calibration.load(lying)
    assert "edgeport calibrate" in caught.value.fix
    assert time.monotonic() - started < LONGEST_S
