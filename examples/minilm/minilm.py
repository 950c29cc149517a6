"""How near in meaning are two sentences? The MiniLM encoder of a package, applied to both."""

import csv
import os
import re
import sys
from pathlib import Path
from pydoc_data import topics

from tokens import MODEL
from torch import nn
from transformers import AutoModel


class Nearness(nn.Module):
    """Token ids and mask int64 [N, 2, 48] of pairs of sentences to their cosine float32 [N]."""

    def __init__(self):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(MODEL, attn_implementation="eager", local_files_only=True)

    def forward(self, ids, mask):
        ids, mask = ids.flatten(0, 1), mask.flatten(0, 1)
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        means = (states * weights).sum(dim=1) / weights.sum(dim=1)
        units = nn.functional.normalize(means, dim=1).unflatten(0, (-1, 2))
        return (units[:, 0] * units[:, 1]).sum(dim=1)


def manual():
    """Sentences of Python's own manual, which every Python has."""
    prose = re.sub(r"\s+", " ", " ".join(topics.topics[name] for name in sorted(topics.topics)))
    sentences = re.split(r"(?<=[.;:]) ", prose)
    return list(dict.fromkeys(one for one in sentences if re.fullmatch(r"[A-Z][a-zA-Z ,']{40,160}[.;:]", one)))


def sts(name):
    """Pairs of the STS benchmark, and how near people found them, 0..5."""
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write(name, *rows):
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    if sys.argv[1:] == ["sts"]:
        write("sts-calibration.csv", ["first", "second", "score"], *sts("stsb_train.csv")[::45])
        write("sts-evaluation.csv", ["first", "second", "score"], *sts("stsb_dev.csv"))
    else:
        sentences = manual()
        write("calibration.csv", ["first", "second"], *zip(sentences[:128:2], sentences[1:128:2], strict=True))
        others = sentences[128:448]  # each with the next one, and with one from further on
        pairs = [pair for far in (1, 20) for pair in zip(others, others[far:], strict=False)]
        write("evaluation.csv", ["first", "second"], *pairs)
