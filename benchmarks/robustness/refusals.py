"""What Edgeport refuses though the runtime takes the float file: the whole list, with the reason for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import Table


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One kind of file that is refused by name.

    Attributes:
        code: Of the error.
        found: A pattern that what it found must match.
        why: For readers of the page.

    """

    code: str
    found: str
    why: str


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        code="MODEL_FORMAT",
        found=r"of type (sequence|optional)_type$",
        why="Edgeport's samples, sessions and bundles hold tensors; no network of PyTorch's takes a sequence in ONNX",
    ),
    Refusal(
        code="SAMPLES_INVALID",
        found=r"lengths \{'[^']+': None\}|no arrays$|a model without inputs",
        why="a number alone, or nothing, is fed: nothing in it counts samples. Write such an input into the graph "
        "([constants] of a recipe)",
    ),
    Refusal(
        code="SAMPLES_INVALID",
        found=r"^dtype float32$",
        why="bfloat16 is fed, for which samples (.npz) have no type",
    ),
    Refusal(
        code="CALIBRATION_FAILED",
        found=r"^no values: it was empty in every sample|^NaN or Inf in all of its",
        why="the test feeds an empty array, so that no range can be had",
    ),
    Refusal(
        code="SAMPLES_INVALID", found=r"^arrays of length 0$|takes \[3,0,5\]$", why="the test feeds an empty array"
    ),
    Refusal(
        code="BACKEND_FAILED",
        found=r"^(NotImplemented|Fail): \[ONNXRuntimeError\]|No corresponding Numpy type",
        why="OpenVINO takes the file and ONNX Runtime does not, which is what runs a model to calibrate it",
    ),
)


def listed(refusals: Sequence[Refusal], code: str, found: str) -> bool:
    """Whether an error is one of them."""
    return any(code == each.code and re.search(each.found, found) for each in refusals)


def refusals_table(refusals: Sequence[Refusal]) -> Table:
    """The whole list."""
    return Table(
        title="The list of refusals",
        columns=("code", "found", "why"),
        rows=tuple((each.code, each.found, each.why) for each in refusals),
    )
