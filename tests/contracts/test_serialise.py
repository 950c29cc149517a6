"""Every contract goes to JSON and comes back as it was; what is not a contract's JSON is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from contract_strategies import CONTRACTS, strategy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport.contracts import (
    DataParallel,
    ExecutionConfig,
    Interval,
    Measurement,
    ModelParallel,
    OnnxModel,
    OutputDifference,
    ProcessTrace,
    ProgressEvent,
    SingleStream,
    TensorSpec,
    TimerFacts,
    digest_bytes,
    digest_file,
    digest_json,
    dump_json,
    load_json,
    to_jsonable,
)
from edgeport.errors import ContractError

_FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
_ONE = settings(_FEW, max_examples=1)


@pytest.mark.parametrize("cls", CONTRACTS, ids=lambda cls: cls.__name__)
@_FEW
@given(data=st.data())
def test_round_trip(cls, data):
    contract = data.draw(strategy(cls))
    stored = dump_json(contract)
    json.loads(stored, parse_constant=pytest.fail)  # strict JSON: no Infinity, no NaN
    again = load_json(cls, stored)
    assert again == contract
    assert dump_json(again) == stored


@pytest.mark.parametrize("cls", CONTRACTS, ids=lambda cls: cls.__name__)
@_ONE
@given(data=st.data())
def test_unknown_fields_are_refused(cls, data):
    values = to_jsonable(data.draw(strategy(cls)))
    with pytest.raises(ContractError, match="unknown field 'no_such_field'"):
        load_json(cls, json.dumps(values | {"no_such_field": 1}))


@pytest.mark.parametrize("cls", [cls for cls in CONTRACTS if hasattr(cls, "schema_version")], ids=lambda c: c.__name__)
@_ONE
@given(data=st.data())
def test_other_schema_versions_are_refused(cls, data):
    values = to_jsonable(data.draw(strategy(cls)))
    for version in (0, 99, None, "1"):
        with pytest.raises(ContractError, match="schema version"):
            load_json(cls, json.dumps(values | {"schema_version": version}))


def _model() -> OnnxModel:
    image = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    return OnnxModel(path=Path("m.onnx"), inputs=(image,), outputs=(image,), opset=20, digest="d")


def test_unknown_fields_are_refused_at_any_depth():
    values = to_jsonable(_model())
    values["inputs"][0]["colour"] = "red"
    with pytest.raises(ContractError, match=r"unknown field 'inputs\.0\.colour'"):
        load_json(OnnxModel, json.dumps(values))


@pytest.mark.parametrize(
    "text", ["", "{", "nul", "[" * 100_000, b"\xff\xfe", "{'a': 1}"], ids=lambda text: str(text[:9])
)
def test_damaged_json_is_refused(text):
    with pytest.raises(ContractError, match="damaged JSON"):
        load_json(ProgressEvent, text)


@pytest.mark.parametrize(
    ("values", "where"),
    [({}, "name"), ({"name": "x", "dtype": "float32", "shape": "3"}, "shape"), ([1], "the whole"), (None, "the whole")],
)
def test_missing_and_wrong_fields_are_named(values, where):
    with pytest.raises(ContractError, match=f"found {where}: "):
        load_json(TensorSpec, json.dumps(values))


def test_values_that_a_contract_does_not_allow_are_refused():
    with pytest.raises(ContractError):
        load_json(TensorSpec, json.dumps({"name": "x", "dtype": "float99", "shape": []}))
    with pytest.raises(ContractError):
        load_json(Interval, json.dumps({"low": 2, "estimate": 1, "high": 3}))


@pytest.mark.parametrize(
    "layout", [SingleStream(), DataParallel(streams=3), ModelParallel(stages=2, cores=((0,), (1, 2)))]
)
def test_the_kind_of_a_union_comes_back(layout):
    config = ExecutionConfig(layout=layout)
    assert load_json(ExecutionConfig, dump_json(config)) == config


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e308, 5e-324, 0.1, -0.0])
def test_floats_come_back_exactly(value):
    stored = dump_json(OutputDifference(name="y", max_abs=0.0, mean_abs=0.0, sqnr_db=value))
    again = load_json(OutputDifference, stored).sqnr_db
    assert math.copysign(1, again) == math.copysign(1, value)
    assert again == value


def test_a_long_trace_is_read_in_reasonable_time():
    timer = TimerFacts(clock="c", resolution_ns=1, overhead_ns=30)
    trace = ProcessTrace(
        artifact_digest="d",
        round=0,
        position=0,
        load_ns=1,
        first_inference_ns=1,
        warmup_ns=(),
        latency_ns=tuple(range(100_000)),
        timer=timer,
    )
    measurement = Measurement(artifact_digest="d", device="x", seed=0, traces=(trace,) * 3)
    assert load_json(Measurement, dump_json(measurement)) == measurement


def test_digests_are_the_same_for_equal_values_only(tmp_path):
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})
    assert digest_json(_model()) == digest_json(to_jsonable(_model()))
    assert digest_bytes([b"ab", b"c"]) != digest_bytes([b"a", b"bc"])
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
