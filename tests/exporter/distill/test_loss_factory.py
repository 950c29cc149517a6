"""Objectives as commands and recipes spell them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeport.errors import DistillationError, EdgeportError, SourceError
from edgeport.exporter.distill import loss_spec
from edgeport.exporter.distill.loss_factory import (
    DEFAULTS,
    REGULARISERS,
    TERMS,
    make_augment,
    make_objective,
    make_term,
)
from edgeport.exporter.distill.losses.feature import Attention, Hints, Relational
from edgeport.exporter.distill.losses.regularizers import ActivityPenalty, ConfidencePenalty
from edgeport.exporter.distill.losses.response import CosineDistance, Decoupled, OutputDifference, SoftTargets
from edgeport.exporter.distill.losses.task import Callback, CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import BatchOutputs, Objective, Tap
from edgeport.exporter.train.augment import CropAndFlip

NEED_MORE = ("hints", "attention", "adversarial", "variational")
"""Modules, or a network of their own; none of them takes labels where there are none."""
PAIRS = (Tap(student="layers.1", teacher="layers.3"), Tap(student="stem", teacher="stem"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("cross-entropy", CrossEntropy()),
        ("0.1 cross-entropy:0.2", CrossEntropy(weight=0.1, smoothing=0.2)),
        ("squared-error", SquaredError()),
        ("0.9 soft-targets", SoftTargets(weight=0.9)),
        ("0.9 soft-targets:2.5", SoftTargets(weight=0.9, temperature=2.5)),
        ("1e-1 decoupled:2", Decoupled(weight=0.1, temperature=2.0)),
        ("output-difference:box", OutputDifference(output="box")),
        ("2 cosine", CosineDistance(weight=2.0)),
        ("hints:layers.1=layers.3,stem", Hints(taps=PAIRS)),
        ("100 attention:layers.1=layers.3,stem", Attention(weight=100.0, taps=PAIRS)),
        ("relational", Relational()),
        ("relational:stem", Relational(taps=PAIRS[1:])),
    ],
)
def test_terms_of_l(text: str, term: object) -> None:
    assert make_term(text, TERMS) == term


def test_the_whole_objective_and_functions_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "spelled_loss.py").write_text("def boxes(seen): return seen.output().mean()\n", encoding="utf-8")

    made = make_objective(
        ["0.5 spelled_loss:boxes", "cosine"], ["confidence", "0.1 activity:stem"], 0.01, search_path=tmp_path
    )

    assert isinstance(made.L[0], Callback)
    assert (made.L[0].weight, made.L[0].function.__name__) == (0.5, "boxes")
    assert made == Objective(
        L=(made.L[0], CosineDistance()),
        R=(ConfidencePenalty(), ActivityPenalty(weight=0.1, modules=("stem",))),
        lambda_=0.01,
    )
    for terms in DEFAULTS.values():
        assert make_objective(terms, (), 0.0)
    with pytest.raises(SourceError, match="gets BatchOutputs"):
        make_term("spelled_loss:none", TERMS, tmp_path)


@pytest.mark.parametrize(
    ("text", "known", "says"),
    [
        pytest.param("soft-target", TERMS, "did you mean 'soft-targets'", id="near"),
        pytest.param("confidence", TERMS, "take one of cross-entropy", id="of the other group"),
        pytest.param("soft-targets:warm", TERMS, "no number", id="no number"),
        pytest.param("much soft-targets", TERMS, "no term", id="no weight"),
        pytest.param("0.1.2 cosine", TERMS, "no number", id="two points"),
        pytest.param("", TERMS, "WEIGHT NAME:SETTING", id="empty"),
        pytest.param("hints", TERMS, "no modules", id="no taps"),
        pytest.param("-1 cosine", TERMS, "weight -1", id="negative"),
        pytest.param("activty", REGULARISERS, "'activity'", id="regulariser"),
    ],
)
def test_what_is_no_term_is_refused_with_the_next_step(text: str, known: object, says: str) -> None:
    with pytest.raises(EdgeportError, match=says):
        Objective(L=(make_term(text, known),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("soft-target:4", "did you mean 'soft-targets'", id="near, with a setting"),
        pytest.param("activity:stem", "no term 'activity'", id="of the other group, with a setting"),
        pytest.param("soft-targets:0", "a temperature above 0", id="temperature"),
        pytest.param("soft-targets:warm", "suits soft-targets: warm", id="no number"),
        pytest.param("cross-entropy:1", "a share of 0 to below 1", id="smoothing"),
        pytest.param("attention", "no modules", id="no taps"),
        pytest.param("-1 cosine", "the weight -1", id="weight"),
        pytest.param("1e999 cosine", "the weight inf", id="endless weight"),
    ],
)
def test_mistakes_in_a_term_are_found_before_anything_is_loaded(text: str, says: str) -> None:
    with pytest.raises(DistillationError, match=says):
        loss_spec.check_term(text, loss_spec.TERMS, labels=True)


@pytest.mark.parametrize(
    "text", ["0.9 soft-targets:4", "cross-entropy:0.1", "hints:a=b,c", "0 my.code:loss", "cosine:z"]
)
def test_terms_that_are_some(text: str) -> None:
    loss_spec.check_term(text, loss_spec.TERMS, labels=True)


def test_names_are_known_without_pytorch() -> None:
    assert tuple(TERMS) == loss_spec.TERMS
    assert tuple(REGULARISERS) == loss_spec.REGULARISERS


@pytest.mark.parametrize("name", [name for name in TERMS if name not in NEED_MORE])
def test_terms_that_need_labels_are_known(name: str) -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.2, 0.1, 0.4], [3.0, 1.0, 1.0]])
    seen = BatchOutputs(student={"output": scores}, teacher={"output": scores.flip(0)})
    if name in loss_spec.OF_LABELS:
        with pytest.raises(DistillationError, match="samples without labels"):
            make_term(name, TERMS).loss(seen)
    else:
        assert make_term(name, TERMS).loss(seen).isfinite()


def test_augmentations(tmp_path: Path) -> None:
    (tmp_path / "spelled_augment.py").write_text("def noise(feeds): return feeds\n", encoding="utf-8")

    assert make_augment("") is None
    assert make_augment("crop-flip") == CropAndFlip(padding=4)
    assert make_augment("crop-flip:2") == CropAndFlip(padding=2)
    noise = make_augment("spelled_augment:noise", tmp_path)
    assert noise is not None
    assert noise({}) == {}
    for wrong in ("crop", "crop-flip:", "crop-flip:x", "my.code:"):
        for parsed in (make_augment, loss_spec.check_augment):
            with pytest.raises(EdgeportError, match="take crop-flip"):
                parsed(wrong)
