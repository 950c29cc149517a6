"""Pruning for a latency beside pruning for multiplications, of ResNet-18 on CIFAR-10, without any training.

What `edgeport prune --speedup` does, by the same functions: channels of the lowest first-order Taylor scores for the
time that they save, of several such choices the one that loses least on other samples, until the measured latency is
that asked for, and BatchNorm's statistics anew. Networks of the same widths are timed once: the search measures the
same eight networks first for every goal.

What came out is measured anew when all searches are over, in three sittings: from one quarter of an hour to the next,
the same two files on the same idle machine came out a tenth apart.

Beside it the same criterion for the multiplications that channels save: by so many that the measured latency comes to
be the same. Its accuracy there is read between the slower and the faster of the networks that were measured. Groups are
left once with a multiple of 8, as by `edgeport prune --amount`, and once with one of 16: where a processor computes 16
channels at once, the first pays for channels that nobody asked for, and who knows the processor would not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, at_most, kept, networks, write
from benchmarks.harness.cifar import Images, drawn, judged
from benchmarks.harness.judging import top1_of
from edgeport.contracts import PruneStep, digest_json, dump_json, load_json, to_jsonable
from edgeport.exporter.onnx_export import export_onnx
from edgeport.exporter.prune.allocation import choose_counts
from edgeport.exporter.prune.bn_recalibration import recalibrate
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, RemovedUnits
from edgeport.exporter.prune.importance.criteria import criterion_named
from edgeport.exporter.prune.latency_search import Budgeted
from edgeport.exporter.prune.loss_eval import losses_of
from edgeport.exporter.prune.pruning import look, take_counts
from edgeport.exporter.prune.samples import JUDGED, Samples
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.benchmarking.compare import compare_artifacts
from edgeport.pipeline.compression.prune import search_counts

SPEEDUPS, SPEEDUPS_SHORT = (1.5, 2.0, 3.0), (2.0,)
SEEDS, SEEDS_SHORT = 3, 1
SAMPLES, SAMPLES_SHORT = 256, 64
IMAGES, IMAGES_SHORT = 5000, 500
ROUNDS = 6
ROUNDS_IN_THE_END = 12
SITTINGS, SITTINGS_SHORT = 3, 1
"""In which what came out is measured; the middle one counts."""
THREADS = 1
LEAST, MOST = 0.85, 1.0
"""Of the latency that is asked for."""
CRITERION = "taylor"
NETWORK = "resnet18"
BLOCKS = (8, 16)
"""Of channels, multiples of which are left by pruning for multiplications."""
_STEPS = 5
_EQUAL = 0.01
_FARTHER = 0.8
_FEWEST = 0.05
"""Share of the multiplications that is left at least."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A network pruned for multiplications.

    Attributes:
        left: Share of the multiplications that it has.
        time: Its latency over that of the whole network.
        top1: Accuracy, 0..1.

    """

    left: float
    time: float
    top1: float


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A network's speed over that of the whole one, and its 95 % interval, from pairs of fresh processes."""

    speedup: float
    low: float
    high: float

    @property
    def time(self) -> float:
        """Its latency over that of the whole network."""
        return 1 / self.speedup


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What pruning for multiplications comes to at the same latency.

    Attributes:
        round_to: What is left of a group is a multiple of it.
        top1: Accuracy, 0..1.
        points: What that was read from.

    """

    round_to: int
    top1: float
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One goal, and one draw of samples.

    Attributes:
        speedup: That was asked for.
        seed: Of the samples.
        found: Speed of what came out over that of the whole network, from fresh pairs of processes in three sittings.
        left: Share of the multiplications that it has.
        measured: Networks that the search looked at.
        top1: Accuracy, 0..1.
        by_macs: What is pruned for multiplications to this latency, by each of `BLOCKS`.

    """

    speedup: float
    seed: int
    found: Timed
    left: float
    measured: int
    top1: float
    by_macs: tuple[Beside, ...]

    @property
    def of_asked(self) -> float:
        """The latency over the one that was asked for."""
        return self.found.time * self.speedup


def latency_part(common: Arguments) -> PartResult:
    """Measures all networks of all seeds and goals, then judges them; what an earlier start has done is taken."""
    short = common.short
    folder = common.out / f"latency{'-short' if short else ''}"
    subjects = [
        _Subject(folder, seed, SAMPLES_SHORT if short else SAMPLES) for seed in range(SEEDS_SHORT if short else SEEDS)
    ]
    goals = [(one, speedup) for one in subjects for speedup in (SPEEDUPS_SHORT if short else SPEEDUPS)]
    sittings = SITTINGS_SHORT if short else SITTINGS
    new = [(subject, speedup) for subject, speedup in goals if not subject.row_file(speedup).exists()]
    for number in range(sittings):
        for subject, speedup in new:
            subject.sitting(speedup, _searched(subject, speedup).counts, number)
    for subject, speedup in new:
        _timed(subject, speedup, sittings)
    print("all is measured: what follows needs no quiet machine", flush=True)
    images = judged("dev", IMAGES_SHORT if short else IMAGES).scaled(NETWORK)
    rows = []
    for subject, speedup in goals:
        row = kept(subject.row_file(speedup), LatencyRow, partial(_row, subject, speedup, images, sittings))
        print(
            f"{speedup:g}x, seed {subject.seed}: {row.of_asked:.3f} of the latency asked, top-1 {row.top1:.4f}, "
            f"for multiplications {', '.join(f'{one.top1:.4f} by {one.round_to}' for one in row.by_macs)}",
            flush=True,
        )
        rows.append(row)
    return PartResult(figures=[asdict(row) for row in rows], checks=latency_checks(rows), tables=(_table(rows),))


def _short(counts: RemovedUnits) -> str:
    return digest_json(dict(sorted(counts.items())))[-16:]


class _Subject:
    """ResNet-18 as the samples of a seed see it; makes networks with fewer channels, and times them."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        self.seed, self.count, self._folder = seed, count, folder
        images = drawn((1 + JUDGED) * count, seed).scaled(NETWORK)
        everything = Samples(feeds={"images": images.images}, target=images.labels)
        self._samples, self._unseen = everything.first(count), everything.unseen(count)

    def row_file(self, speedup: float) -> Path:
        """Where a goal's row is kept."""
        return self._folder / f"row-{speedup:g}-{self.seed}.json"

    @cached_property
    def seen(self) -> dict[str, Any]:
        """Scores and costs, as `edgeport.pipeline.compression.prune.search_counts` takes them."""

        def make() -> dict[str, Any]:
            scores = look(networks.resnet18().eval(), criterion_named(CRITERION), self._samples)
            return {"group_specs": to_jsonable(scores.group_specs), "costs": to_jsonable(scores.costs)}

        return kept(self._folder / f"seen-{self.seed}.json", dict, make)

    @property
    def group_specs(self) -> list[GroupSpec]:
        """Groups with their scores."""
        return [load_json(GroupSpec, json.dumps(one)) for one in self.seen["group_specs"]]

    @property
    def costs(self) -> Costs:
        """Of the layers."""
        return load_json(Costs, json.dumps(self.seen["costs"]))

    def network(self, counts: RemovedUnits) -> torch.nn.Module:
        """Without so many channels of each group, with statistics taken anew."""
        network = networks.resnet18().eval()
        if any(counts.values()):
            take_counts(network, self._samples.first(2), self.group_specs, counts, by=CRITERION)
            recalibrate(network, self._samples)
        return network

    def time(self, counts: RemovedUnits) -> float:
        """Its latency over that of the whole network; measured once for each choice of widths."""
        return self.timed(counts, ROUNDS, f"time-{_short(counts)}").time if any(counts.values()) else 1.0

    def again(self, counts: RemovedUnits) -> float:
        """Its speed over the whole network's, measured anew; once for each choice of widths."""
        return self.timed(counts, ROUNDS, f"again-{_short(counts)}").speedup

    def sitting(self, speedup: float, counts: RemovedUnits, number: int) -> Timed:
        """What came out for a goal, measured once more; once for each number."""
        return self.timed(counts, ROUNDS_IN_THE_END, f"sitting-{number}-{speedup:g}-{_short(counts)}")

    def losses(self, several: Sequence[RemovedUnits]) -> list[float]:
        """What networks lose on the samples; computed once for each choice of widths."""
        files = [self._folder / f"loss-{self.seed}-{_short(counts)}.json" for counts in several]
        new = [(file, counts) for file, counts in zip(files, several, strict=True) if not file.exists()]
        if new:
            network, counts = networks.resnet18().eval(), [counts for _, counts in new]
            losses = losses_of(
                network, self._samples, self.group_specs, counts, judged_by=self._unseen, recalibrated=True
            )
            for (file, _), loss in zip(new, losses, strict=True):
                write(file, dump_json(loss))
        return [load_json(float, file.read_bytes()) for file in files]

    def timed(self, counts: RemovedUnits, rounds: int, kept_as: str) -> Timed:
        """By as many pairs; taken from where it is kept."""
        return kept(self._folder / f"{kept_as}.json", Timed, lambda: self._measured(counts, rounds))

    def _measured(self, counts: RemovedUnits, rounds: int) -> Timed:
        whole, trial = self._folder / "whole.onnx", self._folder / "trial.onnx"
        if not whole.exists():
            self._export({}, whole)
        self._export(counts, trial)
        compared = compare_artifacts(whole, trial, BenchSettings(threads=THREADS, rounds=rounds))
        speedup = compared.comparison.speedup
        return Timed(speedup=speedup.estimate, low=speedup.low, high=speedup.high)

    def _export(self, counts: RemovedUnits, output: Path) -> None:
        export_onnx(self.network(counts), self._samples.first(2).feeds, output=output)


def _searched(subject: _Subject, speedup: float) -> Budgeted:
    """The search, of which nothing is measured that was."""
    found, _ = search_counts(
        PruneStep(by=CRITERION, speedup=speedup, samples=subject.count, recalibrate=True),
        subject.seen,
        whole_ns=lambda: 1.0,
        speedup=lambda counts: 1 / subject.time(counts),
        again=subject.again,
        losses=subject.losses,
        on_trial=lambda number: print(f"  {speedup:g}x, seed {subject.seed}: network {number}", flush=True),
    )
    return found


def _timed(subject: _Subject, speedup: float, sittings: int) -> tuple[Budgeted, Timed, list[list[RemovedUnits]]]:
    """All that a goal leads to: what the search finds, its speed in sittings, and the networks around it that are
    pruned for multiplications, for each of `BLOCKS`.
    """
    found, costs = _searched(subject, speedup), subject.costs
    fresh = [subject.sitting(speedup, found.counts, number) for number in range(sittings)]
    middle = Timed(
        speedup=median(one.speedup for one in fresh),
        low=min(one.low for one in fresh),
        high=max(one.high for one in fresh),
    )
    left = costs.macs(found.counts) / costs.macs({})
    return (
        found,
        middle,
        [
            by_multiplications(subject.group_specs, costs, subject.time, middle.time, begin=left, round_to=block)
            for block in BLOCKS
        ],
    )


def _row(subject: _Subject, speedup: float, images: Images, sittings: int) -> LatencyRow:
    found, middle, by_macs = _timed(subject, speedup, sittings)
    beside = []
    for block, several in zip(BLOCKS, by_macs, strict=True):
        points = tuple(_point(subject, counts, images) for counts in several)
        beside.append(Beside(round_to=block, top1=top1_at(points, middle.time), points=points))
    return LatencyRow(
        speedup=speedup,
        seed=subject.seed,
        found=middle,
        left=subject.costs.macs(found.counts) / subject.costs.macs({}),
        measured=len(found.trials),
        top1=top1_of(subject.network(found.counts), images),
        by_macs=tuple(beside),
    )


def _point(subject: _Subject, counts: RemovedUnits, images: Images) -> Point:
    return Point(
        left=subject.costs.macs(counts) / subject.costs.macs({}),
        time=subject.time(counts),
        top1=top1_of(subject.network(counts), images),
    )


def by_multiplications(
    group_specs: Sequence[GroupSpec],
    costs: Costs,
    time: Callable[[RemovedUnits], float],
    goal: float,
    *,
    begin: float,
    round_to: int = 8,
) -> list[RemovedUnits]:
    """RemovedUnits of one or two networks, pruned for multiplications, whose latencies are at the goal or around it.

    Args:
        group_specs: Groups with their scores.
        costs: What layers cost.
        time: Of a network over that of the whole one.
        goal: That it is to come to, 0..1.
        begin: Share of the multiplications that is looked at first.
        round_to: What is left of a group is a multiple of it.

    """
    whole = costs.macs({})

    def chosen(left: float) -> RemovedUnits:
        return choose_counts(
            group_specs,
            lambda counts: costs.macs(counts) <= whole * left,
            round_to=round_to,
            saving=lambda one, other: costs.macs(one) - costs.macs(other),
            far=True,
        )

    slower: tuple[float, float, RemovedUnits] = (1.0, 1.0, {one.name: 0 for one in group_specs})
    faster: tuple[float, float, RemovedUnits] | None = None
    left = begin
    for _ in range(_STEPS):
        counts = chosen(left)
        found = (left, time(counts), counts)
        if abs(found[1] / goal - 1) <= _EQUAL:
            return [counts]
        if found[1] > goal:
            slower = found
        else:
            faster = found
        left = _between(slower, faster, goal)
    return [slower[2], *([faster[2]] if faster is not None else [])]


def _between(
    slower: tuple[float, float, RemovedUnits], faster: tuple[float, float, RemovedUnits] | None, goal: float
) -> float:
    """The share of multiplications that meets the goal, were latency linear in it; less until one is faster."""
    if faster is None:
        return max(_FARTHER * slower[0] * goal / slower[1], _FEWEST)
    part = (goal - faster[1]) / (slower[1] - faster[1])
    return faster[0] + part * (slower[0] - faster[0])


def top1_at(points: Sequence[Point], time: float) -> float:
    """Accuracy at a latency, linear between the points around it; outside, that of the nearest."""
    known = sorted((one.time, one.top1) for one in points)
    if time <= known[0][0]:
        return known[0][1]
    for (before, worse), (after, better) in pairwise(known):
        if before <= time <= after:
            return worse + (better - worse) * (time - before) / (after - before)
    return known[-1][1]


def latency_checks(rows: Sequence[LatencyRow]) -> list[Check]:
    """The latency is that asked for, and no accuracy is lost against pruning for multiplications."""
    asked = [row.of_asked for row in rows]
    found = [
        at_most("measured p50 over the one asked for, at most", max(asked), MOST),
        at_least("measured p50 over the one asked for, at least", min(asked), LEAST),
    ]
    for speedup in dict.fromkeys(row.speedup for row in rows):
        same = [row for row in rows if row.speedup == speedup]
        for block, several in zip(BLOCKS, zip(*(row.by_macs for row in same), strict=True), strict=True):
            gain = mean(row.top1 - one.top1 for row, one in zip(same, several, strict=True))
            name = f"{speedup:g}x: top-1 less that of pruning for multiplications by {block}, mean"
            found.append(at_least(name, gain, 0.0))
    return found


def _table(rows: Sequence[LatencyRow]) -> Table:
    return Table(
        title="ResNet-18, pruned for a latency, without training",
        columns=(
            "asked",
            "seed",
            "p50 of that asked",
            "multiplications left",
            "measured",
            "top-1",
            *(f"for multiplications, by {block}" for block in BLOCKS),
        ),
        rows=tuple(
            (
                f"{row.speedup:g}x",
                str(row.seed),
                f"{row.of_asked:.3f}",
                f"{row.left:.1%}",
                str(row.measured),
                f"{row.top1:.4f}",
                *(f"{one.top1:.4f}" for one in row.by_macs),
            )
            for row in rows
        ),
    )
