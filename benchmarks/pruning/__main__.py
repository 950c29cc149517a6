"""Runs the parts that were asked for; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from benchmarks.harness import Part, argument_parser, run_parts
from benchmarks.harness.cifar import FILES
from benchmarks.pruning.criteria import criteria_part, trained_part
from benchmarks.pruning.latency import latency_part
from benchmarks.pruning.qat import qat_part
from benchmarks.pruning.twice import twice_part

RESNET18, RESNET20 = ((*FILES, f"models/cifar_{name}.safetensors") for name in ("resnet18", "resnet20"))
PARTS: Mapping[str, Part] = {
    "criteria": Part(run=criteria_part, files=RESNET20),
    "trained": Part(run=trained_part, files=RESNET20),
    "latency": Part(run=latency_part, files=RESNET18),
    "twice": Part(run=twice_part, files=RESNET18),
    "qat": Part(run=qat_part, files=RESNET20),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the parts one by one."""
    parser = argument_parser("Pruning and quantization-aware training on CIFAR-10")
    return run_parts("pruning", parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
