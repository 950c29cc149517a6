"""Who learns from whom, from which samples, and what is judged: images for WRN-16-1, sentences for three layers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.distillation.encoder import encoder, tokens_of
from benchmarks.distillation.wide import in_lines, student, teacher
from benchmarks.harness import zoo
from benchmarks.harness.cifar import judged, training
from benchmarks.harness.judging import outputs_of
from edgeport.contracts import Array
from edgeport.exporter.distill.teacher_student import Network
from edgeport.exporter.train.samples import LearningSamples

_SPLIT = 2024
_HELD_PAIRS = 500


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A case.

    Attributes:
        student, teacher: As they begin.
        samples: Of the training.
        outputs: Of a student, for what is judged.

    """

    student: Network
    teacher: Network
    samples: LearningSamples
    outputs: Callable[[torch.nn.Module], Array]


def images(spec: Mapping[str, Any]) -> Subject:
    """WRN-40-2 teaches WRN-16-1 from random weights on CIFAR-10."""
    samples, judges = training(spec["samples"]), judged(spec["judge"], spec["judged"])
    return Subject(
        student=Network(module=in_lines(student(spec["seed"]))),
        teacher=Network(module=in_lines(teacher())),
        samples=LearningSamples(feeds={"images": samples.floats()}, labels=samples.labels),
        outputs=lambda module: outputs_of(module, {"images": judges.floats()}),
    )


def _pairs(name: str) -> list[list[str]]:
    with zoo(name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _parted() -> tuple[list[list[str]], list[list[str]]]:
    """Pairs of the training file: those to learn from, and those that are held back for choosing hyperparameters."""
    every = _pairs("stsb_train.csv")
    order = np.random.default_rng(_SPLIT).permutation(len(every))
    return [every[row] for row in order[_HELD_PAIRS:]], [every[row] for row in order[:_HELD_PAIRS]]


def judged_pairs(judge: str, count: int) -> list[list[str]]:
    """Two sentences and how near people found them: of the dev file, or of the training file, held back."""
    found = _pairs("stsb_dev.csv") if judge == "dev" else _parted()[1]
    return [found[row] for row in np.random.default_rng(0).permutation(len(found))[:count]]


def sentences(spec: Mapping[str, Any]) -> Subject:
    """MiniLM's six layers teach every second of them, by the embeddings of sentences without labels."""
    pairs, _ = _parted()
    with zoo("sst2_train.tsv").open(encoding="utf-8") as file:
        reviews = [line.rpartition("\t")[0] for line in file]
    texts = list(dict.fromkeys([*(text for pair in pairs for text in pair[:2]), *reviews]))
    order = np.random.default_rng(0).permutation(len(texts))[: spec["samples"]]
    judges = judged_pairs(spec["judge"], spec["judged"])
    return Subject(
        student=Network(module=encoder(layers=(0, 2, 4))),
        teacher=Network(module=encoder()),
        samples=LearningSamples(feeds=tokens_of([texts[row] for row in order])),
        outputs=lambda module: nearness(module, judges),
    )


def nearness(module: torch.nn.Module, pairs: Sequence[Sequence[str]]) -> Array:
    """Cosines [N] of each pair's embeddings."""
    first, second = (outputs_of(module, tokens_of([pair[side] for pair in pairs])) for side in (0, 1))
    cosines: Array = (first * second).sum(axis=1)
    return cosines


SUBJECTS: Mapping[str, Callable[[Mapping[str, Any]], Subject]] = {"images": images, "sentences": sentences}
