"""CLIP's text encoder in float64, forward alone, and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parity_tests.oracle.layers import part
from portparity.case import Arrays

from . import oracle

LAYERS: dict[str, Callable] = {  # kind: (arguments, weights, what it is called with) -> output
    "clip_embeddings": lambda a, w, ids: oracle.embeddings(ids, w),
    "clip_attention": lambda a, w, x: oracle.attention(x, w, a["heads"]),
    "clip_mlp": lambda a, w, x: oracle.mlp(x, w, a["act"]),
    "clip_layer": lambda a, w, x: oracle.layer(x, w, a["heads"], a["act"], a["eps"]),
    "clip_text": lambda a, w, ids: oracle.text_encoder(
        ids, part(w, "net"), a["num_attention_heads"], a["hidden_act"], a["layer_norm_eps"], a["eos_token_id"]
    ),
}


def tokens(spec: Mapping, inputs: Arrays) -> Arrays:
    """The numbers of the merges learnt from captions, and of prompts."""
    merges, ids = oracle.tokens(spec["captions"], spec["merges"], spec["prompts"], spec["length"], spec["pad"])
    return {"merges": merges, "ids": ids}


KINDS = {"clip_tokens": tokens}
