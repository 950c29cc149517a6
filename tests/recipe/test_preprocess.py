"""`[inputs.NAME.preprocess]`: what arrives, what is derived, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeport.contracts import Preprocessing, PreprocessingFunction
from edgeport.errors import RecipeError
from edgeport.recipe import explain, load_recipe

IMAGE = '\n[inputs.image]\nshape = ["batch", 3, 224, 224]\n[inputs.image.preprocess]\n'
TEXT = '\n[inputs.ids]\nshape = ["batch", "length"]\ndtype = "int64"\n[inputs.ids.preprocess]\n'

FULL = """\
resize = 256
crop = 224
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
color = "BGR"
interpolation = "bicubic"
fold = true
raw = "pictures"
"""


@pytest.fixture
def load(write: Callable[[str], Path], minimal: str) -> Callable[[str], object]:
    return lambda text: load_recipe(write(minimal + text))


def test_every_key_arrives(load: Callable[[str], object]) -> None:
    (spec,) = load(IMAGE + FULL).inputs

    assert spec.preprocessing == Preprocessing(
        resize=256,
        crop=(224, 224),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        color="BGR",
        interpolation="bicubic",
        fold="NHWC",
        raw="pictures",
    )
    assert spec.value_range == pytest.approx((-0.485 / 0.229, (1 - 0.406) / 0.225))


@pytest.mark.parametrize(
    ("line", "declared"),
    [
        ("resize = [224, 224]", Preprocessing(resize=(224, 224))),
        ("mean = 127.5\nstd = 128", Preprocessing(mean=(127.5,), std=(128.0,))),
        ("scale = 2", Preprocessing(scale=2.0)),
        ('fold = "NCHW"', Preprocessing(fold="NCHW")),
        ("fold = false", Preprocessing()),
        ('function = "tokens:encode"\nship = true', PreprocessingFunction(function="tokens:encode", ship=True)),
    ],
    ids=["two-sides", "one-number", "integer-scale", "fold-nchw", "no-fold", "function"],
)
def test_each_spelling(load: Callable[[str], object], line: str, declared: object) -> None:
    assert load(IMAGE + line).inputs[0].preprocessing == declared


@pytest.mark.parametrize(
    "text",
    [IMAGE + FULL, IMAGE + "scale = 0.37", TEXT + 'function = "tokens:encode"', IMAGE + "mean = 3\n[data]"],
    ids=["full", "odd-scale", "function", "mean"],
)
def test_what_explain_prints_loads_to_the_same_recipe(
    load: Callable[[str], object], write: Callable[[str], Path], text: str
) -> None:
    recipe = load(text.removesuffix("[data]"))
    assert load_recipe(write(explain(recipe))) == recipe


def test_a_given_range_stays(load: Callable[[str], object]) -> None:
    text = IMAGE.replace("[inputs.image.pre", "range = [0.0, 2.0]\n[inputs.image.pre") + 'scale = "1/255"'
    assert load(text).inputs[0].value_range == (0.0, 2.0)


def test_preprocessed_samples_are_said_to_be(write: Callable[[str], Path], minimal: str) -> None:
    recipe = load_recipe(write(minimal + "data.preprocessed = true\n" + IMAGE + "scale = 2"))
    assert recipe.data.preprocessed


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    text: str
    found: str
    fix: str


MISTAKES = [
    Mistake(
        id="key", text="resise = 8", found=r"line 9, \[inputs.image.preprocess\] resise: no such", fix='mean "resize"'
    ),
    Mistake(id="foreign-key", text="dtype = 8", found="dtype: no such key", fix=r"belongs into \[inputs\]"),
    Mistake(id="choice", text='layout = "NWHC"', found='"NWHC" is none of', fix='did you mean "NHWC"'),
    Mistake(id="choice-of-two", text='fold = "NWHC"', found="fold 'NWHC'", fix="use one of 'NCHW', 'NHWC'"),
    Mistake(
        id="type", text='mean = "0.5"', found=r"line 9, \[inputs.image.preprocess\] mean: \"0.5\"", fix="give such"
    ),
    Mistake(id="scale", text='scale = "255"', found="is neither a number nor a fraction", fix='"1/255"'),
    Mistake(id="zero-fraction", text='scale = "1/0"', found="neither a number", fix='"1/255"'),
    Mistake(
        id="channels",
        text="mean = [0.5, 0.5]",
        found=r"preprocess\]?: 2 numbers in mean, 3 channels",
        fix="per channel",
    ),
    Mistake(id="size", text="crop = 192", found=r"images of \[192, 192\] pixels for shape", fix="make the crop that"),
    Mistake(id="empty", text="", found="is empty", fix="scale ="),
    Mistake(id="ship", text="ship = true", found="there is none", fix="remove it"),
    Mistake(
        id="both", text='function = "a:b"\nmean = 1', found=r"\] mean: does not go with function", fix="remove one"
    ),
    Mistake(id="function", text='function = "a.py"', found="function 'a.py'", fix="name a module and a function"),
    Mistake(id="three", text="resize = [1, 2, 3]", found="resize", fix=""),
]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.id)
def test_mistakes_are_named(load: Callable[[str], object], case: Mistake) -> None:
    with pytest.raises(RecipeError, match=case.found) as caught:
        load(IMAGE + case.text)
    assert case.fix.replace("\\", "") in caught.value.fix


def test_a_known_key_elsewhere_is_sent_to_its_section(load: Callable[[str], object]) -> None:
    with pytest.raises(RecipeError) as caught:
        load("\n[budget]\ninterpolation = 8\n")
    assert caught.value.fix == "interpolation belongs into [inputs.NAME.preprocess]"


def test_folded_graphs_take_no_floats(write: Callable[[str], Path], minimal: str) -> None:
    with pytest.raises(RecipeError, match=r"line 5, \[data\] preprocessed: with fold the graph of 'image'"):
        load_recipe(write(minimal + "data.preprocessed = true\n" + IMAGE + FULL))


STATE = """
[inputs.image]
shape = ["batch", 3, 8, 8]
[inputs.held]
shape = ["batch", 4]
[inputs.held.preprocess]
function = "my_states:begin"
[state]
next = "held"
"""
LENGTHS = '\ndata.lengths = { length = "sizes" }\n'


def test_a_state_is_not_preprocessed(write: Callable[[str], Path], minimal: str) -> None:
    with pytest.raises(RecipeError, match=r"\[inputs.held\] preprocess: is of a state, which output 'next' feeds"):
        load_recipe(write(minimal + "data.sequence = 4\n" + STATE))


def test_raw_samples_are_not_cut_to_lengths(write: Callable[[str], Path], minimal: str) -> None:
    text = TEXT + 'function = "words:encode"\n'
    with pytest.raises(RecipeError, match=r"lengths.*is an axis of input 'ids', whose samples are raw") as caught:
        load_recipe(write(minimal + LENGTHS + text))
    assert "preprocessed = true" in caught.value.fix
    assert load_recipe(write(minimal + LENGTHS + "data.preprocessed = true\n" + text)).data.lengths
