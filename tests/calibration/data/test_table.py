"""Tables: numbers, vectors, text and labels out of columns; every wrong cell is named by its line."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.data import TableSamples, columns_of, wanted
from edgeport.contracts import PreprocessingFunction, TensorSpec
from edgeport.errors import SamplesError

TABLE = 'a,b,text,label\n1,2.5,"yes, it is",dog\n3,-4e1,"two\nlines",cat\n\n5,6,,dog\n'


@pytest.fixture
def table(tmp_path):
    def write(text=TABLE, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def whole(samples):
    batches = list(samples)
    feeds = {name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds}
    return feeds, None if batches[0].target is None else np.concatenate([batch.target for batch in batches])


def wants(**specs):
    return wanted([TensorSpec(name=name, **rest) for name, rest in specs.items()], raw=True)


def test_columns_become_numbers_and_vectors(table):
    samples = TableSamples(table(), {"x": ("a", "b"), "y": "a"}, batch_size=2)

    feeds, target = whole(samples)

    assert [len(batch) for batch in samples] == [2, 1]
    assert len(samples) == 3
    assert target is None
    assert feeds["x"].tolist() == [[1, 2.5], [3, -40], [5, 6]]
    assert feeds["y"].tolist() == [1, 3, 5]
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.float32)}


def test_dtypes_are_those_of_the_inputs(table):
    known = wants(x={"dtype": "int64", "shape": ("n", 1)}, y={"dtype": "float64", "shape": ("n",)})

    feeds, _ = whole(TableSamples(table(), {"x": ("a",), "y": "b"}, wants=known))

    assert (feeds["x"].dtype, feeds["x"].tolist()) == (np.int64, [[1], [3], [5]])
    assert feeds["y"].dtype == np.float64


def test_text_goes_to_a_function_or_to_an_input_of_strings(table):
    tokens = {"dtype": "int64", "shape": ("n", "t"), "preprocessing": PreprocessingFunction(function="t:f", raw="s")}
    known = wants(ids=tokens, words={"dtype": "string", "shape": ("n",)})

    feeds, _ = whole(TableSamples(table(), {"s": "text", "words": "label"}, wants=known))

    assert feeds["s"].tolist() == ["yes, it is", "two\nlines", ""]
    assert feeds["words"].tolist() == ["dog", "cat", "dog"]

    pairs, _ = whole(TableSamples(table(), {"s": ("text", "label"), "words": "label"}, wants=known))

    assert pairs["s"].tolist() == [["yes, it is", "dog"], ["two\nlines", "cat"], ["", "dog"]]


def test_labels_are_counted_in_the_order_of_their_names_or_as_given(table):
    assert whole(TableSamples(table(), {"a": "a"}, target="label"))[1].tolist() == [1, 0, 1]
    given = TableSamples(table(), {"a": "a"}, target="label", classes=("emu", "dog", "cat"))
    assert whole(given)[1].tolist() == [1, 2, 1]
    numbers = whole(TableSamples(table(), {"b": "b"}, target="a"))[1]
    assert (numbers.dtype, numbers.tolist()) == (np.int64, [1, 3, 5])
    values = whole(TableSamples(table(), {"a": "a"}, target="b"))[1]
    assert (values.dtype, values.tolist()) == (np.float64, [2.5, -40, 6])


def test_tabs_byte_order_marks_and_line_ends_of_all_kinds(table, tmp_path):
    assert columns_of(table("a\tb\n1\t2\n", "t.tsv")) == ("a", "b")
    (tmp_path / "w.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n")

    assert whole(TableSamples(tmp_path / "w.csv", {"x": ("a", "b")}))[0]["x"].tolist() == [[1, 2]]


FAULTS = [
    pytest.param("a,b\n1,2\n", {"x": "c"}, "", "no column 'c' for input 'x' among 'a', 'b'", id="no such column"),
    pytest.param("alpha,b\n1,2\n", {"x": "alhpa"}, "", "did you mean 'alpha'?", id="mistyped column"),
    pytest.param("a;b\n1;2\n", {"x": "a"}, "", "separate cells by commas", id="semicolons"),
    pytest.param("a,b\n1,2\n", {"x": "a"}, "y", "no column 'y' for the labels", id="no such labels"),
    pytest.param("a,a\n1,2\n", {"x": "a"}, "", "two columns 'a'", id="a name twice"),
    pytest.param("", {"x": "a"}, "", "an empty file", id="empty"),
    pytest.param("a,b\n", {"x": "a"}, "", "no row but the first", id="no rows"),
    pytest.param("a,b\n1,2\n3\n", {"x": "a"}, "", "1 cells on line 3, and 2 columns", id="a cell too few"),
    pytest.param("a,b\n1,2\n\nx,4\n", {"x": "a"}, "", "'x' in column 'a' on line 4, which is no float32", id="text"),
    pytest.param("a,b\n1,2\n,4\n", {"x": "a"}, "", "'' in column 'a' on line 3", id="an empty cell"),
    pytest.param("a,b\n1_0,2\n", {"x": "a"}, "", "'1_0' in column 'a' on line 2", id="a spelling of Python's"),
    pytest.param('a,b\n"1,2\n', {"x": "a"}, "", "line 2: unexpected end of data", id="an open quote"),
    pytest.param("a,b\n1.5,2\n", {"i": "a"}, "", "'1.5' in column 'a' on line 2, which is no int8", id="no integer"),
    pytest.param("a,b\n300,2\n", {"i": "a"}, "", "'300' in column 'a' on line 2, which is no int8", id="too large"),
    pytest.param("a,b\n" + "9" * 200_000 + ",2\n", {"x": "a"}, "", "line 2: field larger than", id="endless cell"),
]


@pytest.mark.parametrize(("text", "columns", "target", "says"), FAULTS)
def test_what_is_wrong_is_named_with_its_line(table, text, columns, target, says):
    known = wants(i={"dtype": "int8", "shape": ("n",)})

    with pytest.raises(SamplesError, match=says):
        list(TableSamples(table(text), columns, wants=known, target=target))


def test_labels_that_are_no_class_are_named(table):
    with pytest.raises(SamplesError, match="the label 'dog', which is none of the 1 class names"):
        TableSamples(table(), {"a": "a"}, target="label", classes=("cat",))


def test_other_bytes_than_text_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SamplesError, match="no CSV in UTF-8"):
        list(TableSamples(tmp_path / "a.csv", {"x": "a"}))
    with pytest.raises(SamplesError, match="no CSV in UTF-8"):
        columns_of(tmp_path / "b.csv")


def test_a_nan_is_found_at_its_sample(table):
    from edgeport.calibration.data import check_samples

    spec = TensorSpec(name="x", dtype="float32", shape=("n",))
    with pytest.raises(SamplesError, match="NaN in sample 1 "):
        check_samples(TableSamples(table("a\n1\nnan\n"), {"x": "a"}), (spec,))
