"""Which feed goes where, and how outputs are named."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.errors import ExportError, SamplesError  # noqa: E402 (after the skip)
from edgeport.exporter.feeds import bind_feeds, name_outputs, reference_outputs  # noqa: E402

ONE = np.ones((2, 3), np.float32)
T = torch.ones(1)
Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 (what models return)


class Plain(torch.nn.Module):
    def forward(self, x, mask=None, *, scale=None):
        return x if scale is None else x * scale


class Variadic(torch.nn.Module):
    def forward(self, first, *others):
        return sum(others, first)


@pytest.mark.parametrize(
    ("module", "names", "parameters", "expected"),
    [
        (Plain(), ("x",), {}, (("x",), ())),
        (Plain(), ("mask", "x"), {}, (("x", "mask"), ())),
        (Plain(), ("scale", "x"), {}, (("x", "scale"), ("x", "scale"))),
        (Plain(), ("image",), {}, (("image",), ())),
        (Plain(), ("a", "b"), {"a": "scale", "b": "x"}, (("b", "a"), ("x", "scale"))),
        (Variadic(), ("a", "b", "c"), {}, (("a", "b", "c"), ())),
    ],
    ids=["name", "order-of-forward", "keyword-only", "by-position", "map", "variadic"],
)
def test_feeds_find_their_parameters(module, names, parameters, expected):
    binding = bind_feeds(module, dict.fromkeys(names, ONE), parameters)

    assert (binding.feeds, binding.keywords) == expected


@pytest.mark.parametrize(
    ("names", "parameters"),
    [((), {}), (("mask",), {}), (("a", "b", "c", "d"), {}), (("a",), {"a": "nothing"}), (("a",), {"b": "x"})],
    ids=["none", "required-missing", "too-many", "unknown-parameter", "unknown-feed"],
)
def test_feeds_that_do_not_fit_are_refused(names, parameters):
    with pytest.raises(SamplesError):
        bind_feeds(Plain(), dict.fromkeys(names, ONE), parameters)


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (T, ["output"]),
        ((T, T), ["output_0", "output_1"]),
        ([T, None, T], ["output_0", "output_2"]),
        ({"boxes": T, "scores": T}, ["boxes", "scores"]),
        (OrderedDict(out=T, aux=T), ["out", "aux"]),
        (Pair(T, T), ["left", "right"]),
        ({"levels": [T, T], "head": {"box": T}}, ["levels_0", "levels_1", "head.box"]),
    ],
    ids=["tensor", "tuple", "with-none", "dict", "ordered", "namedtuple", "nested"],
)
def test_outputs_are_named_by_where_they_stand(result, names):
    assert list(name_outputs(result)) == names


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_references_are_the_same_in_any_batch(batch):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

    found = reference_outputs(module, {"x": x}, batch)["output"]

    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(x)).numpy(), rtol=1e-6)


def test_an_output_without_samples_is_refused():
    class Total(torch.nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(ExportError, match="axis 0 of every output"):
        reference_outputs(Total(), {"x": ONE}, 2)
