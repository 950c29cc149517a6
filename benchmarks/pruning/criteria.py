"""Criteria, before any training and after an equal short one: pruned by each, judged, and compared with chance and with
other libraries.

A seed draws the samples that criteria look at, the weights or channels that chance takes, and the samples over which
BatchNorm's statistics are taken anew, of every network, by whomever it was pruned. Then, in the second part, it learns:
the same images in the same order as all networks of its seed.

Hyperparameters are looked at on training images that are held back:
`python -m benchmarks.pruning.criteria --judge train --rate 0.001 --out FOLDER`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from benchmarks.harness import Arguments, PartResult, argument_parser, kept, parsed, report
from benchmarks.harness.cifar import Images, drawn, judged
from benchmarks.harness.judging import top1_of
from benchmarks.harness.networks import resnet20
from benchmarks.pruning.cases import CASES, Case, Tune
from benchmarks.pruning.checks import Row, checks, table
from edgeport.contracts import FineTuning
from edgeport.exporter.prune.bn_recalibration import recalibrate
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.train.fine_tuning import fine_tune
from edgeport.exporter.train.samples import LearningSamples

SEEDS, SEEDS_SHORT = 5, 2
SAMPLES = 256
IMAGES, IMAGES_SHORT = 5000, 500
LEARNED, LEARNED_SHORT = 2000, 320
RATE = 1e-3


def criteria_part(common: Arguments, *, only: Sequence[str] = (), seeds: int = 0) -> PartResult:
    """Before any training: goes through seeds and cases; what was judged in an earlier start is taken."""

    def tune(module: torch.nn.Module, seed: int) -> None:
        _recalibrate(module, seed)

    return _part(common, tune, only, seeds, folder="criteria", title="Top-1 before training", trained=False)


def trained_part(common: Arguments, *, only: Sequence[str] = (), seeds: int = 0, rate: float = RATE) -> PartResult:
    """After one walk over `LEARNED` images, the same for all networks of a seed."""
    count = LEARNED_SHORT if common.short else LEARNED

    def tune(module: torch.nn.Module, seed: int) -> None:
        _recalibrate(module, seed)
        _learn(module, seed, count, rate)

    title = f"Top-1 after one epoch of {count} images"
    return _part(common, tune, only, seeds, folder=f"trained-{count}-{rate:g}", title=title, trained=True)


def _part(  # noqa: PLR0913 (what the two parts differ in)
    common: Arguments,
    tune: Callable[..., None],
    only: Sequence[str],
    seeds: int,
    *,
    folder: str,
    title: str,
    trained: bool,
) -> PartResult:
    images = judged(common.on, IMAGES_SHORT if common.short else IMAGES).scaled("resnet20")
    place = common.out / f"{folder}-{common.on}-{len(images.labels)}"
    chosen = [case for case in CASES if not only or any(part in case.name for part in only)]
    if trained:  # chance by other libraries says nothing new
        chosen = [case for case in chosen if case.maker == "edgeport" or case.by != "random"]
    found: dict[str, list[Row]] = {}
    for seed in range(seeds or (SEEDS_SHORT if common.short else SEEDS)):
        for case in chosen:  # seed by seed, so that what is stopped has looked at all cases alike
            row = _row(case, seed, images, place, partial(tune, seed=seed))
            found.setdefault(case.name, []).append(row)
            print(f"{case.name}, seed {seed}: {row.top1:.4f}", flush=True)
    whole = Row(structure="none", by="none", maker="none", seed=0, top1=top1_of(resnet20().eval(), images))
    rows = [whole, *(row for case in CASES for row in found.get(case.name, ()))]
    return PartResult(
        figures=[asdict(row) for row in rows], checks=checks(rows, trained=trained), tables=(table(rows, title),)
    )


def _row(case: Case, seed: int, images: Images, folder: Path, tune: Tune) -> Row:
    """Judged in an earlier start, or now."""
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{case.name}-{seed}")

    def judge() -> dict[str, float]:
        return {"top1": top1_of(case.make(_seen(seed), seed, tune).eval(), images)}

    top1 = kept(folder / f"{name}.json", dict, judge)["top1"]
    return Row(structure=case.structure, by=case.by, maker=case.maker, seed=seed, top1=top1)


def _recalibrate(module: torch.nn.Module, seed: int) -> None:
    recalibrate(module, Samples(feeds={"images": _seen(seed).images}, batch=64))


@lru_cache(maxsize=1)
def _seen(seed: int) -> Images:
    """What criteria look at, decoded once for all cases of a seed."""
    return drawn(SAMPLES, seed).scaled("resnet20")


@lru_cache(maxsize=1)
def _lesson(seed: int, count: int) -> LearningSamples:
    """Images to learn from, decoded once for all cases of a seed."""
    images = drawn(count, seed).scaled("resnet20")
    return LearningSamples(feeds={"images": images.images}, labels=images.labels)


def _learn(module: torch.nn.Module, seed: int, count: int, rate: float) -> None:
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub has it; twice as fast on a CPU
    asked = FineTuning(epochs=1, batch_size=64, rate=rate, seed=seed)
    with tempfile.TemporaryDirectory(prefix="edgeport-learns-") as folder:
        fine_tune(module, _lesson(seed, count), asked, Path(folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of these parts alone, with a choice of images."""
    parser = argument_parser("Pruning criteria before training, or with --rate after it")
    parser.add_argument("--judge", choices=("dev", "train"), default="dev", help="which images [default: dev]")
    parser.add_argument("--case", action="append", default=[], help="only cases with this in their name")
    parser.add_argument("--seeds", type=int, default=0, help="[default: 5]")
    parser.add_argument("--rate", type=float, help="train, at this rate")
    given = parser.parse_args(arguments)
    common = replace(parsed(given), on=given.judge)
    run = criteria_part if given.rate is None else partial(trained_part, rate=given.rate)
    part = run(common, only=given.case, seeds=given.seeds)
    return report("pruning", common, {"criteria": part.figures}, part.checks, seed=0, tables=part.tables)


if __name__ == "__main__":
    sys.exit(main())
