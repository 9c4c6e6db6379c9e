"""torch_ref's text encoder for the harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from portparity.case import Arrays
from torch_ref.systems import clip_text


class WithEnd(nn.Module):
    """Every token's vector and, behind them, the end's: ids (B, T) -> (B, T + 1, width)."""

    def __init__(self, **arguments):
        super().__init__()
        self.net = clip_text.TextEncoder(**arguments)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Both outputs as one."""
        every, end = self.net(ids)
        return torch.cat([every, end[:, None]], 1)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "clip_embeddings": lambda **k: clip_text.Embeddings(**k),
    "clip_attention": lambda positions, **k: clip_text.CausalAttention(**k),
    "clip_mlp": lambda **k: clip_text.Mlp(**k),
    "clip_layer": lambda positions, **k: clip_text.Layer(**k),
    "clip_text": WithEnd,
}


def tokens(spec: Mapping, inputs: Arrays, dtype: str = "float32") -> Arrays:
    """The numbers of the merges learnt from captions, and of prompts."""
    merges = clip_text.learn(spec["captions"], spec["merges"])
    numbers = clip_text.vocabulary(merges)
    ids = clip_text.encode(spec["prompts"], merges, spec["length"], spec["pad"])
    pairs = np.array([[numbers[symbol] for symbol in pair] for pair in merges])
    return {"merges": pairs, "ids": ids.numpy().astype(np.int64)}


KINDS = {"clip_tokens": tokens}
