"""CLIP's text encoder, forward, in float64, and its tokenizer: a second truth.

Sequences are (B, T, width); weights have transformers' names and PyTorch's shapes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from parity_tests.oracle.layers import Array, Weights, gelu, linear, part
from parity_tests.oracle.process import as_float64


def layer_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float) -> Array:
    """Ba et al. 2016 (arXiv 1607.06450) over the last axis: biased variance."""
    x = as_float64(x)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def activation(x: ArrayLike, name: str) -> Array:
    """GELU, or Hendrycks & Gimpel's x sigma(1.702 x), here by tanh."""
    x = as_float64(x)
    return gelu(x) if name == "gelu" else x * (1 + np.tanh(0.851 * x)) / 2


def embeddings(ids: Array, weights: Weights) -> Array:
    """A row of each table, added."""
    return as_float64(weights["token_embedding.weight"])[ids] + weights["position_embedding.weight"][: ids.shape[1]]


def attention(x: ArrayLike, weights: Weights, heads: int) -> Array:
    """Vaswani et al. 2017 (arXiv 1706.03762) eq. 1, head by head and token by token, each with those before it."""
    q, k, v = (np.split(linear(x, **part(weights, f"{name}_proj")), heads, axis=-1) for name in "qkv")
    out = np.zeros(np.shape(x))
    for of_q, of_k, of_v, of_out in zip(q, k, v, np.split(out, heads, axis=-1), strict=True):
        for t in range(out.shape[1]):
            scores = np.einsum("bd,bsd->bs", of_q[:, t], of_k[:, : t + 1]) / np.sqrt(of_q.shape[-1])
            odds = np.exp(scores - scores.max(-1, keepdims=True))
            of_out[:, t] = np.einsum("bs,bsd->bd", odds, of_v[:, : t + 1]) / odds.sum(-1, keepdims=True)
    return linear(out, **part(weights, "out_proj"))


def mlp(x: ArrayLike, weights: Weights, act: str) -> Array:
    """Two layers, the activation between."""
    return linear(activation(linear(x, **part(weights, "fc1")), act), **part(weights, "fc2"))


def layer(x: ArrayLike, weights: Weights, heads: int, act: str, eps: float) -> Array:
    """Both, each of a normalised input, added to it."""
    x = as_float64(x)
    x = x + attention(layer_norm(x, **part(weights, "layer_norm1"), eps=eps), part(weights, "self_attn"), heads)
    return x + mlp(layer_norm(x, **part(weights, "layer_norm2"), eps=eps), part(weights, "mlp"), act)


def text_encoder(ids: Array, weights: Weights, heads: int, act: str, eps: float, end: int) -> Array:
    """(B, T + 1, width): every token's vector, and that of the first token ``end`` (2: of the largest number)."""
    x = embeddings(ids, part(weights, "embeddings"))
    for i in range(1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers."))):
        x = layer(x, part(weights, f"encoder.layers.{i}"), heads, act, eps)
    x = layer_norm(x, **part(weights, "final_layer_norm"), eps=eps)
    at = [list(row).index(row.max() if end == 2 else end) for row in ids]
    return np.concatenate([x, x[np.arange(len(x)), at][:, None]], axis=1)


# --- the tokenizer: words with spaces between their symbols, as Sennrich et al. (arXiv 1508.07909) write them ---------

ENDINGS = re.compile("'(?:s|t|re|ve|m|ll|d)")


def classes(text: str) -> str:
    """For each character: L a letter, N a number, S white space, P anything else."""
    return "".join(
        "S" if char.isspace() else kind if (kind := unicodedata.category(char)[0]) in "LN" else "P" for char in text
    )


def byte_letter(byte: int) -> str:
    """What stands for a byte: itself where Latin-1 prints it, else one of the 68 characters from 256 on."""
    unprinted = [*range(33), *range(127, 161), 173]
    return chr(256 + unprinted.index(byte)) if byte in unprinted else chr(byte)


def spelt(text: str) -> Iterator[str]:
    """The words of a text, each spelt out: "t h r e e</w>"."""
    text = "".join(map(str.lower, unicodedata.normalize("NFC", text)))
    at = 0
    while at < len(text):
        word = ENDINGS.match(text, at) or re.compile("L+|N|P+|S+").match(classes(text), at)
        letters = [byte_letter(byte) for byte in text[at : word.end()].encode()]
        if not text[at].isspace():
            yield " ".join(letters) + "</w>"
        at = word.end()


def merged(word: str, pair: Sequence[str]) -> str:
    """A spelt word with one pair joined wherever it stands."""
    together = rf"(?<!\S){re.escape(' '.join(pair))}(?!\S)"
    return re.sub(together, lambda _: "".join(pair), word)


def learnt(captions: Iterable[str], count: int) -> list[list[str]]:
    """Algorithm 1; of equally frequent pairs the first by its letters."""
    words = Counter(word for caption in captions for word in spelt(caption))
    merges: list[list[str]] = []
    while len(merges) < count:
        pairs: Counter = Counter()
        for word, times in words.items():
            symbols = word.split(" ")
            for i in range(1, len(symbols)):
                pairs[symbols[i - 1], symbols[i]] += times
        most = max(pairs.values())
        merges.append(list(min(pair for pair, times in pairs.items() if times == most)))
        words = Counter({merged(word, merges[-1]): times for word, times in words.items()})
    return merges


def tokens(captions: Iterable[str], count: int, prompts: Iterable[str], length: int, pad: str) -> tuple[Array, Array]:
    """(the numbers of the merges (count, 2), those of the prompts (B, length)).

    A merge makes what only later merges take, so that each is applied once, in its turn.
    """
    merges = learnt(captions, count)
    letters = [byte_letter(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + i) for i in range(68)]
    special = ["<|startoftext|>", "<|endoftext|>"]
    order = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *special]
    rows = []
    for prompt in prompts:
        found = []
        for word in spelt(prompt):
            for pair in merges:
                word = merged(word, pair)
            found += [order.index(symbol) for symbol in word.split(" ")]
        row = [order.index(special[0]), *found[: length - 2], order.index(special[1])]
        rows.append(row + [order.index(pad)] * (length - len(row)))
    return np.array([[order.index(symbol) for symbol in pair] for pair in merges]), np.array(rows)
