"""CLIP's text encoder and its tokenizer, from the papers.

    CLIP   Radford et al. 2021, https://arxiv.org/abs/2103.00020, sec. 2.4     GPT-2  Radford et al. 2019
    MHA    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, sec. 3.2   BPE    Sennrich et al., arXiv 1508.07909
    GELU   Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415

Names of sub-modules are those of transformers, because they are the keys of published weights.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

# --- the network --------------------------------------------------------------------------------------------------


class QuickGELU(nn.Module):
    """x sigma(1.702 x), GELU's section 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class Embeddings(nn.Module):
    """Token and position, a learned vector each: ids (B, T) -> (B, T, width)."""

    def __init__(self, words: int, width: int, positions: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.position_embedding = nn.Embedding(positions, width)

    def forward(self, ids: Tensor) -> Tensor:
        """The sum of both."""
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class CausalAttention(nn.Module):
    """MHA, of which no token sees a later one: x (B, T, width) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v, scores ahead of a token left out."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(ahead, -torch.inf)
        return self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers: x (..., width) -> same."""

    def __init__(self, width: int, inner: int, act: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.act = ACTIVATIONS[act]()

    def forward(self, x: Tensor) -> Tensor:
        """The activation stands between."""
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    """GPT-2's: attention and MLP, each of a normalised input, added to it. x (B, T, width) -> same."""

    def __init__(self, width: int, inner: int, heads: int, act: str, eps: float) -> None:
        super().__init__()
        self.self_attn = CausalAttention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, inner, act)

    def forward(self, x: Tensor) -> Tensor:
        """Pre-norm."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """ids (B, T) -> (every token's vector (B, T, width), that of each text's end (B, width)).

    The end is the first token number ``eos_token_id``; with 2, as old configurations have it, the largest number.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        intermediate_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        max_position_embeddings: int,
        hidden_act: str,
        layer_norm_eps: float,
        eos_token_id: int,
    ) -> None:
        super().__init__()
        width, eps = hidden_size, layer_norm_eps
        self.embeddings = Embeddings(vocab_size, width, max_position_embeddings)
        layers = [
            Layer(width, intermediate_size, num_attention_heads, hidden_act, eps) for _ in range(num_hidden_layers)
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.final_layer_norm = nn.LayerNorm(width, eps)
        self.eos_token_id = eos_token_id

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both, after the last norm."""
        x = self.embeddings(ids)
        for layer in self.encoder["layers"]:
            x = layer(x)
        x = self.final_layer_norm(x)
        end = [row.index(max(row) if self.eos_token_id == 2 else self.eos_token_id) for row in ids.tolist()]
        return x, torch.stack([x[i, at] for i, at in enumerate(end)])


# --- the tokenizer ------------------------------------------------------------------------------------------------

START, END = "<|startoftext|>", "<|endoftext|>"
ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
PRINTED = [byte for byte in range(256) if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174]
LETTERS = {byte: chr(byte) for byte in PRINTED}  # what stands for a byte: GPT-2's, none of them white space
LETTERS |= {byte: chr(256 + i) for i, byte in enumerate(byte for byte in range(256) if byte not in LETTERS)}
Pair = tuple[str, str]


def _kind(char: str) -> str:
    return "space" if char.isspace() else {"L": "letter", "N": "number"}.get(unicodedata.category(char)[0], "other")


def words(text: str) -> Iterator[str]:
    """The words of a text in the letters of `LETTERS`: English endings, runs of letters, single digits, other runs."""
    text = "".join(char.lower() for char in unicodedata.normalize("NFC", text))  # a last sigma like any other
    at = 0
    while at < len(text):
        kind = _kind(text[at])
        ending = next((ending for ending in ENDINGS if text.startswith(ending, at)), "")
        end = at + max(len(ending), 1)
        while not ending and kind != "number" and end < len(text) and _kind(text[end]) == kind:
            end += 1
        if kind != "space":
            yield "".join(LETTERS[byte] for byte in text[at:end].encode())
        at = end


def joined(symbols: list[str], pair: Pair) -> list[str]:
    """Every ``pair``, from the left, as one symbol: of "aaa" the first two."""
    at = next((i for i, found in enumerate(pairwise(symbols)) if found == pair), None)
    if at is None:
        return symbols
    return [*symbols[:at], "".join(pair), *joined(symbols[at + 2 :], pair)]


def symbols_of(word: str) -> list[str]:
    """The letters of a word, the last of which ends it."""
    return [*word[:-1], f"{word[-1]}</w>"]


def learn(captions: Iterable[str], count: int) -> list[Pair]:
    """BPE's algorithm 1: the ``count`` most frequent pairs, one after the other; of equals the first by its letters."""
    texts = Counter(word for caption in captions for word in words(caption))
    split = {word: symbols_of(word) for word in texts}
    merges: list[Pair] = []
    for _ in range(count):
        pairs = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += texts[word]
        merges.append(sorted(pairs, key=lambda pair: (-pairs[pair], pair))[0])
        split = {word: joined(symbols, merges[-1]) for word, symbols in split.items()}
    return merges


def vocabulary(merges: Sequence[Pair]) -> dict[str, int]:
    """CLIP's order: bytes (printed ones first), bytes that end a word, merges, the two special tokens."""
    letters = [LETTERS[byte] for byte in sorted(range(256), key=lambda byte: (byte not in PRINTED, byte))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: i for i, token in enumerate(tokens)}


def tokens_of(text: str, merges: Sequence[Pair], numbers: Mapping[str, int]) -> list[int]:
    """The numbers of a text without special tokens in it: in each word, again and again the earliest merge."""
    rank = {pair: i for i, pair in enumerate(merges)}
    found: list[int] = []
    for word in words(text):
        symbols = symbols_of(word)
        while known := [pair for pair in pairwise(symbols) if pair in rank]:
            symbols = joined(symbols, min(known, key=rank.__getitem__))
        found += [numbers[symbol] for symbol in symbols]
    return found


def encode(texts: Sequence[str], merges: Sequence[Pair], length: int, pad: str) -> Tensor:
    """(B, length): each text between its start and its end, cut or padded."""
    numbers = vocabulary(merges)
    rows = []
    for text in texts:
        inner = tokens_of(text, merges, numbers)[: length - 2]
        row = [numbers[START], *inner, numbers[END]]
        rows.append(row + [numbers[pad]] * (length - len(row)))
    return torch.tensor(rows)
