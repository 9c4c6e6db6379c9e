"""ms_ddpm's text encoder for the harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from mindspore import nn, ops

from ms_ddpm.data.tokenizer import CLIPTokenizer
from ms_ddpm.models import clip_text
from parity_tests.backends.shared_mindspore import RNG
from portparity.case import Arrays


class WithEnd(nn.Cell):
    """Every token's vector and, behind them, the end's: ids (B, T) -> (B, T + 1, width)."""

    def __init__(self, **arguments):
        super().__init__()
        self.net = clip_text.CLIPTextModel(**arguments, rng=RNG)

    def construct(self, ids):
        every, end = self.net(ids)
        return ops.concat((every, end.expand_dims(1)), 1)


def _rng() -> np.random.Generator:
    return np.random.default_rng(RNG)


LAYERS: dict[str, Callable[..., nn.Cell]] = {
    "clip_embeddings": lambda **k: clip_text.CLIPTextEmbeddings(**k, factor=1, rng=_rng()),
    "clip_attention": lambda **k: clip_text.CLIPAttention(**k, std_in=1, std_out=1, rng=_rng()),
    "clip_mlp": lambda **k: clip_text.CLIPMLP(**k, std_in=1, std_out=1, rng=_rng()),
    "clip_layer": lambda **k: clip_text.CLIPEncoderLayer(**k, depth=1, factor=1, rng=_rng()),
    "clip_text": WithEnd,
}


def tokens(spec: Mapping, inputs: Arrays, mode: str = "graph") -> Arrays:
    """The numbers of the merges learnt from captions, and of prompts."""
    learnt = CLIPTokenizer.trained(spec["captions"], 514 + spec["merges"])
    numbers = learnt.vocab
    padded = CLIPTokenizer(numbers, learnt.merges, {"pad_token": spec["pad"]}, model_max_length=spec["length"])
    pairs = np.array([[numbers[symbol] for symbol in pair] for pair in learnt.merges])
    return {"merges": pairs, "ids": padded.encode(spec["prompts"]).astype(np.int64)}


KINDS = {"clip_tokens": tokens}
