"""Free axes, values, state and sequences in a recipe: what arrives, and each mistake with its line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeport.contracts import AxisRange
from edgeport.errors import RecipeError
from edgeport.recipe import explain, load_recipe

STREAM = """\
model.source = "net:create"

[inputs.frame]
shape = ["batch", "length", 8]

[inputs.held]
shape = [2, "batch", 24]
initial = 0.5

[inputs.rate]
value = 16000

[axes.length]
range = [1, 512]
timed = 128

[state]
next = "held"

[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
sequence = "clip"
lengths = { length = "lengths" }
"""


def test_everything_arrives(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(STREAM))

    assert [spec.name for spec in recipe.inputs] == ["frame", "held"]
    assert [spec.name for spec in recipe.fed] == ["frame"]
    assert recipe.axes == {"length": AxisRange(minimum=1, maximum=512, timed=128)}
    assert (recipe.state, recipe.initial) == ({"next": "held"}, {"held": 0.5})
    assert recipe.constants == {"rate": 16000}
    assert (recipe.data.sequence, recipe.data.lengths) == ("clip", {"length": "lengths"})
    # The state's axis 0 counts layers: it fixes no batch.
    assert recipe.export.dynamic_batch


def test_what_explain_prints_loads_to_the_same_recipe(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(STREAM))

    assert load_recipe(write(explain(recipe))) == recipe


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    old: str
    new: str
    line: str
    """A line of the recipe, which the error must point at."""
    says: str


MISTAKES = [
    Mistake(
        id="axis-that-no-input-has",
        old="[axes.length]",
        new="[axes.lenght]",
        line="[axes.lenght]",
        says='did you mean "length"?',
    ),
    Mistake(id="range-upside-down", old="[1, 512]", new="[512, 1]", line="range =", says="the smaller size first"),
    Mistake(id="range-of-one-size", old="[1, 512]", new="[8, 8]", line="range =", says="a number in the shape"),
    Mistake(id="timed-outside", old="timed = 128", new="timed = 1024", line="timed =", says="a size of the range"),
    Mistake(id="no-range", old="range = [1, 512]\n", new="", line="[axes.length]", says="range = [1, 512]"),
    Mistake(
        id="range-of-the-batch", old="[axes.length]", new="[axes.batch]", line="[axes.batch]", says="leaves it free"
    ),
    Mistake(id="state-into-nothing", old='"held"\n', new='"hell"\n', line="next =", says='did you mean "held"?'),
    Mistake(
        id="state-twice", old='next = "held"', new='next = "held"\nmore = "held"', line="next =", says="from one output"
    ),
    Mistake(id="state-with-a-value", old='"held"\n', new='"rate"\n', line="next =", says="remove the value"),
    Mistake(
        id="sequences-begin-nowhere",
        old='sequence = "clip"\n',
        new="",
        line="[data]",
        says="the number of samples in each",
    ),
    Mistake(id="no-steps", old='"clip"', new="0", line="sequence =", says="1 or more"),
    Mistake(id="sequence-without-state", old='[state]\nnext = "held"\n', new="", line="sequence =", says="[state]"),
    Mistake(
        id="length-of-no-axis",
        old='{ length = "lengths" }',
        new='{ seconds = "lengths" }',
        line="lengths =",
        says='name it in the shape of an input: ["batch", "seconds"]',
    ),
    Mistake(
        id="shape-beside-a-value", old="value = 16000", new="value = 1\nshape = [1]", line="shape = [1]", says="not fed"
    ),
    Mistake(
        id="initial-of-no-state",
        old="value = 16000",
        new="shape = [1]\ninitial = 1.0",
        line="initial = 1.0",
        says="[state]",
    ),
    Mistake(
        id="no-shape", old='shape = ["batch", "length", 8]\n', new="", line="[inputs.frame]", says="or give a value"
    ),
    Mistake(id="no-name", old='"length", 8', new='"a length", 8', line="shape =", says='"32*height"'),
    Mistake(id="unknown-key", old="timed = 128", new="time = 128", line="time =", says='did you mean "timed"?'),
]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.id)
def test_a_mistake_is_told_with_its_line(write: Callable[[str], Path], case: Mistake) -> None:
    text = STREAM.replace(case.old, case.new, 1)
    assert text != STREAM

    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text))

    numbers = [number for number, line in enumerate(text.splitlines(), start=1) if line.startswith(case.line)]
    assert caught.value.details["line"] in numbers
    assert case.says in caught.value.fix
