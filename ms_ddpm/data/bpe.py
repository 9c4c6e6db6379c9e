"""Byte-pair encoding learnt from captions, laid out as CLIP's vocabulary is.

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", https://arxiv.org/abs/1508.07909,
algorithm 1, on bytes (Radford et al., 2019). Here without the package tokenizers: which of two equally frequent pairs
comes first is decided by the pairs, so that one set of captions gives one vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

END_OF_WORD = "</w>"
Pair = tuple[str, str]


def byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes, in the order of CLIP's vocabulary.

    Bytes that Latin-1 prints stand for themselves and come first, "!" with number 0; the others are moved up to 256 and
    beyond, in their order.
    """
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printed)
    return [chr(code) for code in (*printed, *range(256, 256 + others))]


def joined(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """``symbols`` with every ``pair``, from the left, as one symbol."""
    out, at = [], 0
    while at < len(symbols):
        if tuple(symbols[at : at + 2]) == pair:
            out.append(pair[0] + pair[1])
            at += 2
        else:
            out.append(symbols[at])
            at += 1
    return tuple(out)


def learnt_merges(words: Mapping[str, int], count: int) -> list[Pair]:
    """At most ``count`` merges: again and again the most frequent pair of symbols, of at least two, becomes one.

    Args:
        words: how often each word occurs; its letters are those of `byte_letters`.
        count: how many merges are wanted. There are fewer where no pair is left that occurs twice.
    """
    split = {word: (*word[:-1], word[-1] + END_OF_WORD) for word in words if word}
    merges: list[Pair] = []
    while len(merges) < count:
        pairs: Counter[Pair] = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        split = {word: joined(symbols, best) for word, symbols in split.items()}
    return merges


def vocabulary(merges: Iterable[Pair], specials: Sequence[str]) -> dict[str, int]:
    """CLIP's order: 256 bytes, 256 bytes that end a word, what the merges make, the special tokens."""
    letters = byte_letters()
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *map("".join, merges), *specials]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
