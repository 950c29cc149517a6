"""Criteria before any fine-tuning: pruned by each, judged, and compared with chance and with other libraries.

Every network, by whomever it was pruned, gets its BatchNorm statistics anew over the samples of its seed.

Hyperparameters are looked at on training images that are held back:
`python -m benchmarks.pruning.criteria --judge train --out FOLDER`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.pruning.cases import CASES, Case
from benchmarks.pruning.checks import Row, checks, table
from benchmarks.pruning.cifar import missing
from benchmarks.pruning.data import Images, drawn, judged
from benchmarks.quantization.networks import resnet20
from benchmarks.results import Arguments, Part, argument_parser, at_least, parsed, report
from edgeport.exporter.prune.recalibrating import recalibrate
from edgeport.exporter.prune.samples import Samples

__all__ = ["criteria_part"]

SEEDS, SEEDS_SHORT = 5, 2
SAMPLES = 256
IMAGES, IMAGES_SHORT = 5000, 500


def criteria_part(common: Arguments, *, judge: str = "dev", only: Sequence[str] = (), seeds: int = 0) -> Part:
    """Goes through cases and seeds; what was judged in an earlier start is taken."""
    lacking = missing()
    if lacking:
        print(f"criteria: skipped, without {', '.join(lacking)}")
        return Part(figures=[], checks=(at_least("criteria: measured", 0.0, 1.0),))
    images = judged(judge, IMAGES_SHORT if common.short else IMAGES)
    folder = common.out / f"criteria-{judge}-{len(images.labels)}"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for case in CASES:
        if only and not any(part in case.name for part in only):
            continue
        for seed in range((seeds or (SEEDS_SHORT if common.short else SEEDS)) if case.drawn else 1):
            rows.append(_row(case, seed, images, folder))
            print(f"{case.name}, seed {seed}: {rows[-1].top1:.4f}", flush=True)
    whole = Row(structure="none", by="none", maker="none", seed=0, top1=_top1(resnet20().eval(), images))
    rows.insert(0, whole)
    return Part(figures=[asdict(row) for row in rows], checks=tuple(checks(rows)), tables=(table(rows),))


def _row(case: Case, seed: int, images: Images, folder: Path) -> Row:
    """Judged in an earlier start, or now."""
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{case.name}-{seed}")
    kept = folder / f"{name}.json"
    if not kept.exists():
        images_drawn = drawn(SAMPLES, seed)
        network = case.make(images_drawn, seed)
        recalibrate(network, Samples(feeds={"images": images_drawn.images}, batch=64))
        found = {"top1": _top1(network, images)}
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(kept)
    top1 = float(json.loads(kept.read_text(encoding="utf-8"))["top1"])
    return Row(structure=case.structure, by=case.by, maker=case.maker, seed=seed, top1=top1)


def _top1(network: Any, images: Images) -> float:
    import torch

    right = 0
    with torch.no_grad():
        for start in range(0, len(images.labels), 500):
            rows = slice(start, start + 500)
            told = network(torch.from_numpy(images.images[rows])).argmax(dim=1).numpy()
            right += int((told == images.labels[rows]).sum())
    return right / len(images.labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs this part alone, with a choice of images."""
    parser = argument_parser("Pruning criteria before fine-tuning")
    parser.add_argument("--judge", choices=("dev", "train"), default="dev", help="which images [default: dev]")
    parser.add_argument("--case", action="append", default=[], help="only cases with this in their name")
    parser.add_argument("--seeds", type=int, default=0, help="[default: 5]")
    given = parser.parse_args(arguments)
    common = parsed(given)
    part = criteria_part(common, judge=given.judge, only=given.case, seeds=given.seeds)
    return report("pruning", common, {"criteria": part.figures}, part.checks, seed=0, tables=part.tables)


if __name__ == "__main__":
    sys.exit(main())
