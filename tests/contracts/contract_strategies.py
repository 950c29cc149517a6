"""Any contract with any values that it allows, made from its own annotations; so a new field is tested at once."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from edgeport import contracts
from edgeport.errors import ContractError, PlanError

WITH_ARRAYS = {"Sample", "Calibration"}
"""Not JSON: these have a form of their own, and tests of their own."""

CONTRACTS = [
    getattr(contracts, name)
    for name in contracts.__all__
    if dataclasses.is_dataclass(getattr(contracts, name)) and name not in WITH_ARRAYS
]

_TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
_NUMBER = st.floats(allow_nan=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
_ORDERED = st.lists(_NUMBER, min_size=3, max_size=3).map(sorted)

# Fields whose values hang together, or are narrower than their annotation.
_FIELDS: dict[str, dict[str, st.SearchStrategy]] = {
    "ActivationQuantization": {"minimum": st.floats(-9, 0), "maximum": st.floats(0, 9)},
    "Budget": {
        "accuracy_drop": st.floats(0, 1),
        "latency_quantile": st.floats(0.01, 0.99),
        "latency_ns": st.none() | st.integers(1),
        "throughput_per_s": st.none() | st.floats(1, 1e9),
        "peak_memory_bytes": st.none() | st.integers(1),
        "size_bytes": st.none() | st.integers(1),
        "first_inference_ns": st.none() | st.integers(1),
    },
    "DataParallel": {"streams": st.integers(1, 64), "cores": st.just(()), "wait_ns": st.none() | st.integers(0)},
    "DistillStep": {
        "lambda_": st.floats(0, 9),
        "generations": st.integers(1, 3),
        "epochs": st.integers(1, 9),
        "batch_size": st.integers(1, 9).map(lambda count: 12 * count),
        "processes": st.integers(1, 4),
        "rate": st.floats(1e-6, 1),
        "weight_decay": st.floats(0, 1),
        "held_out": st.floats(0.01, 0.5),
    },
    "ExecutionConfig": {
        "threads": st.none() | st.integers(1, 64),
        "batch": st.integers(1, 64),
        "priority": st.integers(0, 19),
    },
    "FineTuning": {
        "epochs": st.integers(1, 9),
        "batch_size": st.integers(1, 9).map(lambda count: 12 * count),
        "processes": st.integers(1, 4),
        "rate": st.floats(1e-6, 1),
        "weight_decay": st.floats(0, 1),
        "loss": st.sampled_from([*contracts.LOSSES, "net:loss"]),
        "teacher": st.floats(0, 1),
        "temperature": st.floats(0.5, 9),
        "held_out": st.floats(0.01, 0.5),
    },
    "Limits": {"time_s": st.floats(0.1, 9), "memory_bytes": st.integers(1)},
    "Measurement": {"artifact_digest": st.just("artifact")},
    "ModelSource": {"location": st.just("pkg.mod:factory")},
    "ModelParallel": {"stages": st.integers(2, 9), "cores": st.just(())},
    "OnnxModel": {"state": st.just({})},
    "Preprocessing": {
        "resize": st.sampled_from([None, 256, (224, 240)]),
        "crop": st.sampled_from([None, (224, 192)]),
        "scale": st.floats(1e-3, 1),
        "mean": st.sampled_from([(), (0.5,), (0.5, 2.0)]),
        "std": st.just((0.5, 2.0)),
        "layout": st.sampled_from(contracts.tensors.LAYOUTS),
        "color": st.sampled_from(contracts.tensors.COLORS),
        "interpolation": st.sampled_from(contracts.tensors.INTERPOLATIONS),
        "fold": st.sampled_from(["", *contracts.tensors.LAYOUTS]),
    },
    "PreprocessingFunction": {"function": st.just("tokens:encode")},
    "ProcessTrace": {"artifact_digest": st.just("artifact")},
    "PruneStep": {
        "what": st.sampled_from(["units", "channels", "neurons", "heads"]),
        "amount": st.none(),
        "latency_ns": st.none(),
        "speedup": st.floats(1.5, 9),
        "scope": st.just("global"),
        "schedule": st.just("one-shot"),
        "samples": st.integers(2, 99),
        "fine_tune": st.just(""),
        "epochs_between": st.integers(0, 9),
    },
    "QuantizationPlan": {"default": st.sampled_from([p for p in contracts.Precision if p.is_float])},
    "Recipe": {"targets": st.just((contracts.Target(backend="openvino", precisions=(contracts.Precision.BF16,)),))},
    "Search": {
        "rounds": st.integers(1),
        "screening_rounds": st.integers(1),
        "duration_s": st.floats(1, 9),
        "warmup_s": st.just(0.0),
    },
    "StudentStep": {"scale": st.none(), "latency_ns": st.none(), "speedup": st.none()},
    "Target": {"precisions": st.permutations(list(contracts.Precision)).map(tuple)},
    "TensorSpec": {
        "dtype": st.sampled_from(sorted(contracts.DTYPES)),
        "shape": st.lists(st.integers(0, 9) | st.sampled_from(["batch", "n"]), max_size=4).map(tuple),
        "value_range": st.none() | st.lists(_NUMBER, min_size=2, max_size=2).map(sorted).map(tuple),
        # An image's preprocessing must fit the shape; see test_tensors.py.
        "preprocessing": st.sampled_from([None, contracts.PreprocessingFunction(function="tokens:encode", raw="text")]),
    },
    "WithoutDataStep": {
        "steps": st.integers(1, 9),
        "lambda_": st.floats(0, 9),
        "batch_size": st.integers(1, 99),
        "rate": st.floats(1e-6, 1),
        "weight_decay": st.floats(0, 1),
    },
}


@functools.cache
def strategy(cls: type) -> st.SearchStrategy:
    """Valid objects of the class."""
    if cls is contracts.Interval:
        return st.builds(
            lambda three, confidence: contracts.Interval(
                low=three[0], estimate=three[1], high=three[2], confidence=confidence
            ),
            _ORDERED,
            st.floats(0, 1),
        )
    hints = typing.get_type_hints(cls)
    own = _FIELDS.get(cls.__name__, {})
    fields = {
        field.name: own[field.name] if field.name in own else _of(hints[field.name])
        for field in dataclasses.fields(cls)
        if field.name not in ("schema_version", "kind")
    }

    @st.composite  # whose name is short: hypothesis refuses to print a strategy of 30 kB
    def made(draw):
        try:
            return cls(**draw(st.fixed_dictionaries(fields)))
        except (ContractError, PlanError):
            return None

    return made().filter(lambda one: one is not None)


def _of(hint) -> st.SearchStrategy:  # noqa: PLR0911 (one case a line)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_of(argument) for argument in arguments])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_of(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*[_of(argument) for argument in arguments])
    if origin is Mapping:
        return st.dictionaries(_of(arguments[0]), _of(arguments[1]), max_size=2)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if dataclasses.is_dataclass(hint):
        return st.deferred(lambda: strategy(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    return _PLAIN[hint]


_PLAIN = {
    type(None): st.none(),
    object: _VALUES,
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63),
    float: _NUMBER,
    str: _TEXT,
    Path: st.sampled_from([Path("/a/b c"), Path("é.onnx"), Path("relative/x")]),
}
