"""Where samples may be, as recipes say it, and what other keys must say beside that."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from edgeport.contracts import dump_json, load_json
from edgeport.contracts.recipe import Recipe, SamplesFile, SamplesFolder, SamplesTable
from edgeport.errors import RecipeError
from edgeport.pipeline.datasets.sources import location_from_json
from edgeport.recipe import explain, load_recipe
from edgeport.recipe.statistical_power import evaluation_count

HEAD = 'model.source = "net:create"\ntarget = [{ backend = "onnxruntime", precisions = ["fp32"] }]\n[data]\n'


@pytest.fixture
def places(folder):
    for name in ("images/cat", "images/dog", "flat"):
        (folder / name).mkdir(parents=True)
    for name in ("images/cat/1.png", "images/dog/1.png", "images/dog/2.png", "flat/1.wav", "flat/2.wav"):
        (folder / name).touch()
    (folder / "table.csv").write_text("a,b,y\n1,2,cat\n3,4,dog\n", encoding="utf-8")
    np.save(folder / "x.npy", np.zeros((5, 3), np.float32))
    return folder


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    text: str
    path: str
    metric: str
    count: int
    settings: dict = field(default_factory=dict)


CASES = [
    Case(
        id="class folders",
        text='evaluation = "images"',
        path="images",
        settings={"labelled": True},
        metric="top1",
        count=3,
    ),
    Case(
        id="class names",
        text='evaluation = "images"\nlabels = ["dog", "cat"]\nmetric = "top5"',
        path="images",
        settings={"labelled": True, "classes": ("dog", "cat")},
        metric="top5",
        count=3,
    ),
    Case(
        id="sounds",
        text='evaluation = "flat/"\nsample_rate = 8000',
        path="flat",
        settings={"sample_rate": 8000},
        metric="agreement",
        count=2,
    ),
    Case(
        id="table",
        text='evaluation = "table.csv"\ntarget = "y"\ncolumns = { x = ["a", "b"], z = "a" }',
        path="table.csv",
        settings={"columns": {"x": ("a", "b"), "z": "a"}},
        metric="top1",
        count=2,
    ),
    Case(id="npy", text='evaluation = "x.npy"', path="x.npy", metric="agreement", count=5),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_kind_is_read_explained_and_kept(places, write, case):
    text, path, settings = case.text, case.path, case.settings
    recipe = load_recipe(write(HEAD + text))

    location = recipe.data.evaluation
    kind = SamplesTable if "columns" in settings else SamplesFile if path == "x.npy" else SamplesFolder
    assert location == kind(path=places / path, **settings)
    assert recipe.data.metric == case.metric
    assert evaluation_count(recipe.data) == case.count
    assert location_from_json(json.loads(dump_json(location))) == location
    assert load_json(Recipe, dump_json(recipe)) == recipe
    explained = explain(recipe)
    assert load_recipe(write(explained)) == recipe
    line = next(line for line in explained.splitlines() if line.startswith("metric"))
    assert line.endswith("# default") == ("top5" not in text)


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        pytest.param('evaluation = "imags"', '"imags" is not there', 'did you mean "images"?', id="mistyped"),
        pytest.param('evaluation = "table.csv"', "columns: is missing", "columns = {", id="no columns"),
        pytest.param(
            'evaluation = "table.csv"\ncolumns = { x = [] }', "names no column", "a list of them", id="empty columns"
        ),
        pytest.param(
            'evaluation = "table.csv"\ncolumns = { x = ["a", "y"] }\ntarget = "y"',
            "the column 'y', which holds the labels",
            "take it out",
            id="labels among inputs",
        ),
        pytest.param('evaluation = "images"\ntarget = "y"', "a folder of files", "leave it out", id="folder, target"),
        pytest.param('evaluation = "x.npy"\ntarget = "y"', "holds one array", "numpy.savez", id="npy and target"),
        pytest.param('evaluation = "flat"\nmetric = "top1"', "needs labels", "a folder for each class", id="flat top1"),
        pytest.param('evaluation = "x.npy"\nmetric = "auc"', "needs labels", "agreement", id="npy auc"),
        pytest.param('evaluation = "x.npy"\ncolumns = { x = "a" }', "no .csv is read", "remove it", id="columns"),
        pytest.param('evaluation = "x.npy"\nsample_rate = 8000', "no folder of .wav", "remove it", id="sample rate"),
        pytest.param('evaluation = "names.txt"', "nothing that samples", "a folder of images", id="text file"),
    ],
)
def test_what_does_not_fit_is_said(places, write, text, found, fix):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(HEAD + text))

    assert found in caught.value.found
    assert fix in caught.value.fix
