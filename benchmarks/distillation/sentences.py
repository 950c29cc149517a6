"""MiniLM to three of its six layers, taught by the embeddings of sentences without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.distillation.encoder import encoder, tokens_of
from benchmarks.distillation.learn import spec_of
from benchmarks.distillation.subjects import judged_pairs, nearness
from benchmarks.harness import ROOT, Arguments, Check, PartResult, Table, at_most, kept_by_key
from benchmarks.harness.training import quick_precision, trained
from edgeport import api
from edgeport.contracts import Array, ModelSource, digest_file, digest_json
from edgeport.npz import save_npz

FILES = ("stsb_train.csv", "stsb_dev.csv", "sst2_train.tsv")
LAYERS = (0, 2, 4)
"""Of six, those that are taught."""
TERMS = ("cosine", "relational")
DROP, RATIO = 0.03, 0.55
PAIRS, PAIRS_SHORT = 1500, 200
ROUNDS, ROUNDS_SHORT = 20, 6
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class SentenceRow:
    """An encoder that was judged.

    Attributes:
        name: For the table.
        spearman: Of its cosines and what people found.
        drop: From the teacher's, low and high end of the 95 % bootstrap interval over pairs; None of the teacher.

    """

    name: str
    spearman: float
    drop: tuple[float, float] | None = None


def sentences_part(common: Arguments) -> PartResult:
    """Trains, judges, and times both encoders on ONNX Runtime."""
    count = PAIRS_SHORT if common.short else PAIRS
    spec = spec_of(
        subject="sentences",
        L=TERMS,
        seed=0,
        judge=common.on,
        judged=count,
        batch=32,
        optimizer="adamw",
        rate=1e-4,
        weight_decay=0.01,
        precision=quick_precision(),
        samples=256 if common.short else 16_000,
        epochs=1 if common.short else 4,
    )
    folder = common.out.resolve() / f"sentences-{common.on}{'-short' if common.short else ''}"
    taught = trained("benchmarks.distillation.learn", folder / "taught", spec)
    pairs = judged_pairs(common.on, count)
    truth = np.array([float(pair[2]) for pair in pairs])
    whole, cut = (_untaught(folder, layers, pairs) for layers in (range(6), LAYERS))
    rows = [SentenceRow(name="six layers", spearman=_spearman(whole, truth))]
    for name, own in (("untrained", cut), ("taught", np.load(taught / "outputs.npy"))):
        drop = drop_interval(whole, own, truth)
        rows.append(SentenceRow(name=f"three layers, {name}", spearman=_spearman(own, truth), drop=drop))
    rounds = ROUNDS_SHORT if common.short else ROUNDS
    weights = taught / "student.safetensors"
    key = {"student": digest_file(weights), "rounds": rounds}
    low, middle, high = kept_by_key(folder, "latency", key, lambda place: _ratio(place, weights, rounds))
    ratio = low, middle, high
    figures = {"rows": [asdict(row) for row in rows], "latency ratio": ratio}
    return PartResult(figures=figures, checks=sentences_checks(rows, ratio), tables=(_table(rows, ratio),))


def _untaught(folder: Path, layers: Sequence[int], pairs: Sequence[Sequence[str]]) -> Array:
    """Cosines of each pair by so many layers of the encoder as it is."""
    key = {"layers": list(layers), "pairs": digest_json([list(pair) for pair in pairs])}
    found = kept_by_key(folder, f"untaught-{len(layers)}", key, lambda _: nearness(encoder(layers), pairs).tolist())
    return np.array(found, np.float32)


def sentences_checks(rows: list[SentenceRow], ratio: tuple[float, float, float]) -> list[Check]:
    """What is claimed, from figures alone."""
    drop = rows[-1].drop or (float("inf"), float("inf"))
    return [
        at_most("sentences: drop of Spearman's correlation (high end, 95 %)", drop[1], DROP),
        at_most("sentences: latency of three layers over six (high end, 95 %)", ratio[2], RATIO),
    ]


def _spearman(found: Array, truth: Array) -> float:
    return float(spearmanr(found, truth).statistic)


def drop_interval(whole: Array, cut: Array, truth: Array) -> tuple[float, float]:
    """95 % of the drop over pairs drawn with replacement, the same for both (percentile bootstrap)."""
    random = np.random.default_rng(0)
    drops = []
    for _ in range(_DRAWS):
        rows = random.integers(0, len(truth), len(truth))
        drops.append(_spearman(whole[rows], truth[rows]) - _spearman(cut[rows], truth[rows]))
    low, high = np.quantile(drops, [0.025, 0.975])
    return float(low), float(high)


def _ratio(folder: Path, weights: Path, rounds: int) -> tuple[float, float, float]:
    """Latency of the taught encoder over the whole one's: low, estimate, high; pairs of fresh processes."""
    save_npz(folder / "example.npz", tokens_of(["A man is playing a guitar.", "Two dogs run through the snow."]))
    made = {"whole": {}, "cut": {"layers": list(LAYERS), "weights": str(weights)}}
    for name, arguments in made.items():
        source = ModelSource(location="benchmarks.distillation.encoder:encoder", arguments=arguments, search_path=ROOT)
        api.export(source, example=folder / "example.npz", output=folder / f"{name}.onnx")
    found = api.compare(
        folder / "whole.onnx", folder / "cut.onnx", options=api.CompareOptions(threads=1, rounds=rounds)
    )
    speedup = found.comparison.speedup
    return 1 / speedup.high, 1 / speedup.estimate, 1 / speedup.low


def _table(rows: list[SentenceRow], ratio: tuple[float, float, float]) -> Table:
    lines = [
        (
            row.name,
            f"{row.spearman:.4f}",
            "" if row.drop is None else f"{row.drop[0]:.4f} to {row.drop[1]:.4f}",
            "" if row.drop is None else f"{ratio[1]:.3f}",
        )
        for row in rows
    ]
    columns = ("MiniLM", "Spearman, STS-B", "drop (95 %)", "latency over six layers")
    return Table(title="Sentences", columns=columns, rows=tuple(lines))
