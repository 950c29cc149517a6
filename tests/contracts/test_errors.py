"""The tree of errors: as drawn, with codes of their own, and the same again after a trip through JSON."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from edgeport import errors
from edgeport.errors import EdgeportError, error_from_dict

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, EdgeportError)]


def _drawn() -> dict[str, str]:
    """Class to base class, as the picture in the docstring has it."""
    tree: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:│   |    )*)(?:├── |└── )?(\w+)", line)
        if found is None:
            continue
        is_root = "──" not in line
        depth = 0 if is_root else len(found.group(1)) // 4 + 1
        path = [*path[:depth], found.group(2)]
        tree[path[-1]] = path[-2] if depth else "Exception"
    return tree


def test_the_picture_is_the_tree():
    assert _drawn() == {cls.__name__: cls.__base__.__name__ for cls in CLASSES}


def test_codes_are_unique_and_stable_words():
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", code) for code in codes)
    assert all("code" in vars(cls) for cls in CLASSES)  # none is inherited


def test_exit_codes_are_those_of_the_command_line():
    assert {cls.exit_code for cls in CLASSES} <= {1, 2, 3}
    assert [cls.code for cls in CLASSES if cls.exit_code == 3] == ["PLACEMENT"], "a missed bound"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_round_trip(cls):
    error = cls(asked="read x", found="y", fix="do z", details={"count": 3})
    again = error_from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is cls
    assert again.to_dict() == error.to_dict()
    assert str(error) == f"{cls.code}: asked to read x; found y; do z"


@pytest.mark.parametrize("data", [{}, {"code": "NO_SUCH_CODE"}, {"code": None, "details": [1]}])
def test_what_is_not_known_becomes_the_root(data):
    assert type(error_from_dict(data)) is EdgeportError


def test_a_reason_reads_without_what_was_asked():
    error = EdgeportError(asked="run it", found="that it has no GPU, that is seen", fix="leave gpu unset")

    assert error.reason == "it has no GPU, that is seen; leave gpu unset"
