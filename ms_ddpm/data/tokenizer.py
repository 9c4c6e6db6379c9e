"""CLIP's tokenizer: prompts to numbers, from the files that diffusers' directories hold.

Radford et al., https://arxiv.org/abs/2103.00020, section 2.4: lower-cased byte-pair encoding between
``<|startoftext|>`` and ``<|endoftext|>``. Either generation of files gives the vocabulary and its merges,
``vocab.json`` with ``merges.txt`` or ``tokenizer.json``; all else a tokenizer.json says (a length to pad and to cut to,
left over from whoever saved it) is not read, but put together here. Needs the package ``tokenizers``.

    tokenizer = CLIPTokenizer.from_pretrained("stable-diffusion-v1-5", subfolder="tokenizer")
    ids = tokenizer.encode(["a red three", ""])  # (2, 77) int32
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, one_line, quoted, reason_of
from ..storage.directories import folder_of, read_json, without_fetching
from ..storage.files import write_atomically
from ..storage.untrusted import read_text
from .bpe import END_OF_WORD, Pair, learnt_merges, vocabulary

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

log = logging.getLogger("ms_ddpm")

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")  # as transformers calls them, and their files
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")  # in the order in which transformers adds them
WORDS = (  # CLIP's words: its special tokens, English endings, runs of letters, single digits, runs of anything else
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "prompts need the package tokenizers, which is not installed; pip install 'ms_ddpm[text2image]' or "
            "pip install tokenizers"
        ) from None
    return tokenizers


def _backend(vocab: Mapping[str, int], merges: Sequence[Pair], unknown: str) -> Tokenizer:
    """What splits a text and applies the merges, without special tokens. Raises UserError where the two do not fit."""
    package = _package()
    norm, pre = package.normalizers, package.pre_tokenizers
    try:
        model = package.models.BPE(dict(vocab), list(merges), unk_token=unknown, end_of_word_suffix=END_OF_WORD)
    except Exception as error:  # its own, which has no type
        raise UserError(f"the vocabulary and the merges do not fit together: {reason_of(error)}") from None
    backend = package.Tokenizer(model)
    backend.normalizer = norm.Sequence([norm.NFC(), norm.Replace(package.Regex(r"\s+"), " "), norm.Lowercase()])
    words = pre.Split(package.Regex(WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre.Sequence([words, pre.ByteLevel(add_prefix_space=False)])
    backend.decoder = package.decoders.ByteLevel()
    return backend


class CLIPTokenizer:
    """A vocabulary with its merges and special tokens.

    A special token written out in a prompt is taken for that token, as in transformers: also "!" where it is the
    padding (Stable Diffusion 2).

    Args:
        vocab: numbers by token, from 0 without a gap.
        merges: pairs of tokens in the order in which they are joined.
        specials: the tokens of `ROLES`, each a text or, as JSON has it, a dict with ``content`` and flags; what is
            missing is CLIP's.
        added: further tokens and their numbers, which follow the vocabulary's.
        model_max_length: tokens of an encoded text, the two special ones included.

    Raises:
        UserError: the package is missing; vocabulary, merges, specials or added tokens do not fit together.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[Pair],
        specials: Mapping[str, Any] | None = None,
        added: Mapping[str, int] | None = None,
        model_max_length: int = MAX_LENGTH,
    ):
        numbers = list(vocab.values())
        if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(len(vocab))):
            raise UserError(f"the vocabulary's {len(vocab)} numbers are not 0 to {len(vocab) - 1}, each once")
        if type(model_max_length) is not int or model_max_length < 2:
            raise UserError(f"model_max_length is {quoted(model_max_length)}, expected a whole number of at least 2")
        given = {**dict.fromkeys(ROLES, END), "bos_token": START, **(specials or {})}
        tokens = {role: _token(given[role], role) for role in ROLES}
        self.vocab, self.merges = dict(vocab), [tuple(pair) for pair in merges]
        self.model_max_length = model_max_length
        self.specials = {role: token.content for role, token in tokens.items()}
        self.backend = _backend(self.vocab, self.merges, self.specials["unk_token"])
        self.backend.add_special_tokens(list(tokens.values()))
        for token, number in sorted((added or {}).items(), key=lambda item: item[1]):
            self.backend.add_tokens([token])
            if self.backend.token_to_id(token) != number:
                raise UserError(
                    f"the added token {quoted(token)} has number {number}, expected {self.backend.token_to_id(token)}"
                )
        number_of = {role: self.backend.token_to_id(token) for role, token in self.specials.items()}
        self.bos_token_id = number_of["bos_token"]
        self.eos_token_id = number_of["eos_token"]
        self.unk_token_id = number_of["unk_token"]
        self.pad_token_id = number_of["pad_token"]

    def __len__(self) -> int:
        """How many numbers there are: the ``vocab_size`` of a text encoder, or less."""
        return self.backend.get_vocab_size()

    # --- texts and numbers ---------------------------------------------------------------------------------------

    def tokens_of(self, text: str) -> list[int]:
        """The numbers of ``text`` alone: nothing before, behind or cut. Raises UserError where it is no text."""
        if not isinstance(text, str):
            raise UserError(f"a prompt is {quoted(text)}, expected a text")
        try:
            return self.backend.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeError) as error:  # half of a surrogate pair
            raise UserError(f"the prompt {quoted(text)} cannot be encoded: {reason_of(error)}") from None

    def encode(self, texts: str | Sequence[str], max_length: int | None = None) -> np.ndarray:
        """(B, T) int32: each text between its start and its end, padded or cut to T tokens.

        Args:
            texts: one text (B = 1), or several.
            max_length: T; None is ``model_max_length``.

        What is cut off is said in a line of the log. Raises UserError for what is no text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = self.model_max_length if max_length is None else max_length
        ids = np.full((len(texts), length), self.pad_token_id, np.int32)
        for row, text in zip(ids, texts, strict=True):
            inner = self.tokens_of(text)
            if len(inner) > length - 2:
                lost = one_line(self.decode(inner[length - 2 :]))
                log.warning(
                    "a prompt of %d tokens is cut to the %d that the text encoder takes; left out: %s",
                    len(inner) + 2, length, lost if len(lost) <= 200 else f"{lost[:200]}...",
                )  # fmt: skip
                inner = inner[: length - 2]
            whole = [self.bos_token_id, *inner, self.eos_token_id]
            row[: len(whole)] = whole
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of some numbers, special tokens left out; lower case, words apart."""
        text = self.backend.decode([int(number) for number in ids], skip_special_tokens=True)
        return text.replace(END_OF_WORD, " ").strip()

    # --- files ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, subfolder: str | None = None, **fetching: Any) -> CLIPTokenizer:
        """The tokenizer of a directory, which holds tokenizer.json, or vocab.json and merges.txt.

        Special tokens and the length come from tokenizer_config.json and, before it, special_tokens_map.json: unless
        the former lists all of them under ``added_tokens_decoder``, as transformers has it. What ``fetching`` says of
        it (``local_files_only``) has no effect.

        Raises:
            UserError: no such directory; a file that is missing or damaged, or another tokenizer's.
        """
        if unknown := sorted(without_fetching(fetching)):
            raise UserError(f"CLIPTokenizer.from_pretrained has no argument {unknown[0]!r}")
        place = folder_of(folder, subfolder)
        config = _json_if_there(place / "tokenizer_config.json")
        kind = config.get("tokenizer_class")
        if kind not in (None, *CLASSES):
            raise UserError(f"{place} holds a {quoted(kind)}, expected one of: {', '.join(CLASSES)}")
        named = dict(config)
        if "added_tokens_decoder" not in config:
            named |= _json_if_there(place / "special_tokens_map.json")
        length = config.get("model_max_length", MAX_LENGTH)
        length = MAX_LENGTH if type(length) in (int, float) and length > 1e6 else length  # transformers' "not known"
        specials = {role: named[role] for role in ROLES if named.get(role) is not None}
        if (place / "tokenizer.json").exists():
            vocab, merges, added = _of_one_file(place / "tokenizer.json")
        elif (place / "vocab.json").exists():
            vocab, merges, added = _of_two_files(place)
        else:
            raise UserError(
                f"there is no tokenizer in {place}, expected tokenizer.json, or vocab.json and merges.txt; copy the "
                "whole directory"
            )
        own = {_token(token, role).content for role, token in specials.items()}
        added = {token: number for token, number in added.items() if token not in vocab and token not in own}
        try:
            return cls(vocab, merges, specials, added, length)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes both generations of files. Raises UserError where ``folder`` cannot be written."""
        place = Path(folder).expanduser()
        later = {
            token: number for token, number in self.backend.get_vocab(True).items() if number >= len(self.vocab)
        }  # fmt: skip
        config = {**self.specials, "model_max_length": self.model_max_length, "tokenizer_class": "CLIPTokenizer"}
        texts = {
            "vocab.json": json.dumps(self.vocab, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, self.merges), ""]),
            "tokenizer.json": self.backend.to_str(pretty=True),
            "special_tokens_map.json": json.dumps(self.specials, indent=2),
            "tokenizer_config.json": json.dumps(config, indent=2),
        }
        if later:
            texts["added_tokens.json"] = json.dumps(later, indent=2)
        for name, text in texts.items():
            write_atomically(place / name, text.encode())

    @classmethod
    def trained(
        cls, captions: Sequence[str], vocab_size: int = 1000, model_max_length: int = MAX_LENGTH
    ) -> CLIPTokenizer:
        """A tokenizer learnt from ``captions``, laid out as CLIP's: see `ms_ddpm.data.bpe`.

        Args:
            captions: texts.
            vocab_size: at most so many tokens, at least the 514 of bytes and special tokens.
            model_max_length: as of the class.
        """
        least = len(vocabulary((), (START, END)))
        if vocab_size < least:
            raise UserError(
                f"vocab_size is {vocab_size}, expected at least {least}: two for each byte, and two special"
            )
        splitting = _backend(vocabulary((), (START, END)), (), END)
        words: Counter[str] = Counter()
        for caption in captions:
            pieces = splitting.pre_tokenizer.pre_tokenize_str(splitting.normalizer.normalize_str(caption))
            words.update(piece for piece, _ in pieces)
        merges = learnt_merges(words, vocab_size - least)
        return cls(vocabulary(merges, (START, END)), merges, model_max_length=model_max_length)


def _json_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _token(value: Any, role: str) -> AddedToken:
    """A special token as JSON has it. Written out in a text, it is found before the text is lower-cased, unless its
    ``normalized`` says otherwise."""
    flags = dict(value) if isinstance(value, Mapping) else {"content": value}
    content = flags.get("content")
    if not isinstance(content, str) or not content:
        raise UserError(f"{role} is {quoted(value)}, expected a text")
    known = {name: bool(flags.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return _package().AddedToken(content, special=True, **known)


def _pairs(lines: Sequence[Any], path: Path) -> list[Pair]:
    """Merges, each "a b" or ["a", "b"]."""
    pairs = [tuple(line.split(" ")) if isinstance(line, str) else tuple(line) for line in lines]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise UserError(f"{path}: a merge is {quoted(' '.join(map(str, pair)))}, expected two tokens")
    return pairs


def _of_two_files(place: Path) -> tuple[dict[str, int], list[Pair], dict[str, int]]:
    """(vocabulary, merges, added tokens) of vocab.json, merges.txt and, where there is one, added_tokens.json."""
    vocab, path = read_json(place / "vocab.json"), place / "merges.txt"
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}") from None
    lines = [line for i, line in enumerate(lines) if line and not (i == 0 and line.startswith("#version"))]
    return vocab, _pairs(lines, path), _json_if_there(place / "added_tokens.json")


def _of_one_file(path: Path) -> tuple[dict[str, int], list[Pair], dict[str, int]]:
    """The same of tokenizer.json."""
    found = read_json(path)
    try:
        model, listed = found["model"], found.get("added_tokens") or []
        if (model["type"], model["end_of_word_suffix"]) != ("BPE", END_OF_WORD):
            raise UserError(f"{path} is no CLIP tokenizer: its model is {quoted(model['type'])}, expected CLIP's BPE")
        added = {token["content"]: token["id"] for token in listed}
        return dict(model["vocab"]), _pairs(model["merges"], path), added
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no CLIP tokenizer: it has no {reason_of(error)}") from None
