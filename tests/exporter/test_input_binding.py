"""Which feed goes where, and how outputs are named."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.errors import ExportError, SamplesError  # noqa: E402 (after the skip)
from edgeport.exporter.input_binding import bind_feeds, name_outputs, reference_outputs  # noqa: E402

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


class One(torch.nn.Module):
    def forward(self, x):
        return x


class Open(torch.nn.Module):
    def forward(self, a, b, *others):
        return sum(others, a + b)


@dataclass(frozen=True, kw_only=True)
class Misfit:
    id: str
    names: tuple[str, ...]
    found: str
    fix: str
    module: type[torch.nn.Module] = Plain


MISFITS = [
    Misfit(id="labels", names=("x", "y"), found="that y fits no input; x does", fix="say --target y", module=One),
    # In order, the labels would become the mask.
    Misfit(id="labels-where-a-mask-may-be", names=("x", "y"), found="that y fits no input; x does", fix="--target y"),
    Misfit(
        id="two-strangers",
        names=("label", "mask", "x", "weight"),
        found="that label, weight fit no input; mask, x do",
        fix="one of x, mask, scale",
    ),
    Misfit(
        id="other-names", names=("a", "b"), found="2 arrays for 1 input, and no name", fix="forward (x)", module=One
    ),
    Misfit(id="too-few", names=("mask",), found="nothing for x", fix="give x too, in the samples or as a declared"),
    Misfit(id="too-many", names=tuple("abcd"), found="4 arrays for 1 to 2 inputs", fix="forward (x, mask, scale)"),
    Misfit(id="too-few-of-any-number", names=("z",), found="1 array for 2 or more inputs", fix="(a, b)", module=Open),
]


@pytest.mark.parametrize("case", MISFITS, ids=lambda case: case.id)
def test_what_fits_no_input_is_named(case):
    with pytest.raises(SamplesError) as caught:
        bind_feeds(case.module(), dict.fromkeys(case.names, ONE), {})

    assert case.found in caught.value.found
    assert case.fix in caught.value.fix


def test_a_variadic_forward_takes_more_arrays_of_any_name():
    assert bind_feeds(Variadic(), dict.fromkeys(("first", "b", "c"), ONE), {}).feeds == ("first", "b", "c")


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
            return x.sum(0)

    with pytest.raises(ExportError, match="axis 0 of every output"):
        reference_outputs(Total(), {"x": ONE}, 2)
