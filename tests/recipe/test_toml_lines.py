import time
import tomllib

import pytest

from edgeport.recipe.toml_lines import line_of

TEXT = '''\
# comment
title.short = "x"
text = """
[not.a.table]
key = 1
"""
list = [
  1, # [neither]
  { inner = 2 },
]

[model]
source = "a"
arguments = { width = 1, height = [
  2 ] }

[inputs."odd name"]
shape = [1]

[[target]]
backend = "one"

[[target]]
backend = "two"
[target.more]
deep = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param(("title", "short"), 2, id="dotted-key"),
        pytest.param(("text",), 3, id="string-over-lines"),
        pytest.param(("list", 1, "inner"), 7, id="array-over-lines"),
        pytest.param(("model",), 12, id="table"),
        pytest.param(("model", "source"), 13, id="key-in-table"),
        pytest.param(("model", "arguments", "height", 0), 14, id="inline-table"),
        pytest.param(("inputs", "odd name", "shape"), 18, id="quoted-name"),
        pytest.param(("target", 0, "backend"), 21, id="first-of-array"),
        pytest.param(("target", 1, "backend"), 24, id="second-of-array"),
        pytest.param(("target", 1, "more", "deep"), 26, id="table-in-array"),
        pytest.param(("target", 1, "absent"), 23, id="missing-key-falls-back-to-its-table"),
        pytest.param(("absent", "key"), 1, id="missing-table"),
    ],
)
def test_a_key_is_found_in_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(TEXT, path) == line


def test_strings_that_look_like_tables_are_no_tables() -> None:
    assert line_of(TEXT, ("not", "a", "table")) == 1


def test_what_only_looks_like_brackets_and_ends_of_lines() -> None:
    text = '''a = "[" # ]
b = """
[not.a.table]
quotes: "" \\""" ""\"""
c = \'\'\'it's [
\'\'\'\'\'
d = ['{', "\\"]",
  # [[
  {e = ["#"]}]
[f]   # [
g = 1'''

    lines = [line_of(text, path) for path in (("a",), ("b",), ("c",), ("d",), ("d", 2, "e"), ("f",), ("f", "g"))]

    assert tomllib.loads(text)["d"][0] == "{"
    assert lines == [1, 2, 5, 7, 7, 10, 11]


def test_a_long_list_costs_no_more_per_line_than_a_short_one() -> None:
    """Ten thousand lines were read as often as there are lines, which took minutes."""
    text = "names = [\n" + '  "a class",\n' * 20_000 + "]\n[after]\nkey = 1\n"

    start = time.process_time()

    assert line_of(text, ("after", "key")) == 20_004
    assert time.process_time() - start < 5
