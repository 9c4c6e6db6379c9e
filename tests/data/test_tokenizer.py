"""CLIP's tokenizer against transformers' own, on a vocabulary that is learnt here."""

import json
import logging
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from ms_ddpm.data import bpe
from ms_ddpm.data.tokenizer import END, START, CLIPTokenizer
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = [f"a {colour} {digit}" for colour in ("red", "green", "blue", "yellow") for digit in DIGITS] + [
    "a pokémon with a green head and white legs", "it's the painter's house, don't they've", "naïve café crème, 宝可梦",
]  # fmt: skip
PROMPTS = [
    "a red three", "", "   ", "A  RED\tthree\n", "a pokémon with green head and white legs.", "pokémon, decomposed",
    "It's WE'RE they've I'd don't 'tis", "3d render, 8k, f/1.8 (masterpiece:1.3)", "a robot 🤖 and a family 👨‍👩‍👧 🇩🇪",
    "一只红色的三 宝可梦", "ΣΊΣΥΦΟΣ İstanbul ǅ ﬁ", "a" * 60, "non\u00a0breaking\u2003space zero\u200bwidth", "!!! wow!",
    "<html> & \"quotes\" \\ back_slash", "\x00\x07 control", "e\u0301 \u1e9b\u0323", "red <|endoftext|> three",
    "<|STARTOFTEXT|> loud <|endoftext", "ab" * 400, " ".join(CAPTIONS),
]  # fmt: skip


@pytest.fixture(scope="module")
def learnt():
    return CLIPTokenizer.trained(CAPTIONS, vocab_size=555)


@pytest.fixture(scope="module")
def folder(learnt, tmp_path_factory):
    place = tmp_path_factory.mktemp("tokenizer")
    learnt.save_pretrained(place)
    return place


def kept(folder, tmp_path, *names, **configured):
    """A copy of some files, with these values in its tokenizer_config.json."""
    for name in names:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    if configured:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(configured))
    return tmp_path


TWO, ONE = ("vocab.json", "merges.txt"), ("tokenizer.json",)


def theirs(place, texts):
    from transformers import CLIPTokenizer as Theirs

    tokenizer = Theirs.from_pretrained(place)
    return tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="np").input_ids


@pytest.mark.parametrize("pad", [END, "!"])
@pytest.mark.parametrize("names", [TWO, ONE])
def test_numbers_are_transformers_s(folder, tmp_path, names, pad):
    place = kept(folder, tmp_path, *names, pad_token=pad, model_max_length=77)
    ours = CLIPTokenizer.from_pretrained(place).encode(PROMPTS)
    assert ours.dtype == np.int32
    assert ours.shape == (len(PROMPTS), 77)
    for text, mine, other in zip(PROMPTS, ours, theirs(place, PROMPTS), strict=True):
        assert mine.tolist() == other.tolist(), text
    end, last = 554, ours[1].tolist()
    assert last == [553, end, *[0 if pad == "!" else end] * 75]


def test_what_transformers_saved_is_read(folder, learnt, tmp_path):
    """It leaves the last call's padding and truncation in the file: here 9 tokens."""
    from transformers import CLIPTokenizer as Theirs

    tokenizer = Theirs.from_pretrained(folder)
    tokenizer(["a red three"], padding="max_length", truncation=True, max_length=9)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 9
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert np.array_equal(again.encode(PROMPTS), learnt.encode(PROMPTS))
    assert (again.model_max_length, len(again)) == (77, 555)


def test_the_files_come_back(folder, learnt, tmp_path):
    whole = CLIPTokenizer.from_pretrained(folder.parent, subfolder=folder.name)
    two = CLIPTokenizer.from_pretrained(kept(folder, tmp_path, *TWO))
    for other in (whole, two):
        assert (other.vocab, other.merges, other.specials) == (learnt.vocab, learnt.merges, learnt.specials)
    assert (folder / "merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2\n")


def test_the_vocabulary_is_laid_out_as_clip_s(learnt):
    tokens = list(learnt.vocab)
    assert list(learnt.vocab.values()) == list(range(555)) == list(range(len(learnt)))
    letters = tokens[:256]
    assert (letters[0], letters[31], letters[255]) == ("!", "@", "Ń")
    assert tokens[256:512] == [f"{letter}</w>" for letter in letters]
    assert tokens[512:553] == ["".join(pair) for pair in learnt.merges]
    assert tokens[553:] == [START, END]
    assert learnt.encode("a red three")[0, :6].tolist() == [
        553, *(learnt.vocab[f"{word}</w>"] for word in ("a", "red", "three")), 554, 554,
    ]  # fmt: skip


def test_merges_are_the_most_frequent_pairs():
    """Worked by hand: "ab" stands 5 times; then "ab" + "c</w>" 3 times; the rest once."""
    words = Counter({"abc": 3, "ab": 1, "xabz": 2, "q": 9})
    assert bpe.learnt_merges(words, 1) == [("a", "b")]  # "b</w>" of "ab" is another symbol
    assert bpe.learnt_merges(words, 9) == [("a", "b"), ("ab", "c</w>"), ("ab", "z</w>"), ("x", "abz</w>")]
    again = Counter(dict(reversed(list(words.items()))))
    assert bpe.learnt_merges(again, 9) == bpe.learnt_merges(words, 9)
    assert bpe.joined(("a", "a", "a"), ("a", "a")) == ("aa", "a")


def test_the_tokenizers_package_learns_the_same_words(learnt):
    """Ties apart, its trainer takes the same merges: words that are common are one token in both."""
    from tokenizers import trainers

    from ms_ddpm.data.tokenizer import _backend

    backend = _backend(bpe.vocabulary((), (START, END)), (), END)
    backend.train_from_iterator(
        CAPTIONS, trainers.BpeTrainer(vocab_size=600, end_of_word_suffix="</w>", show_progress=False)
    )
    for word in (*DIGITS, "red", "green", "blue", "yellow"):
        assert f"{word}</w>" in learnt.vocab
        assert f"{word}</w>" in backend.get_vocab()


def test_a_long_prompt_is_cut_with_a_line_that_says_what(learnt, caplog):
    text = " ".join(["red"] * 75 + ["blue", "Green,", "three"])
    with caplog.at_level(logging.WARNING):
        ids = learnt.encode([text, "a red three"])
    (record,) = caplog.records
    assert record.getMessage() == (
        "a prompt of 81 tokens is cut to the 77 that the text encoder takes; left out: blue green , three"
    )
    assert ids[0].tolist() == [553, *[learnt.vocab["red</w>"]] * 75, 554]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        learnt.encode(" ".join(["red"] * 75))
        assert learnt.encode("a red three", max_length=5).tolist() == [ids[1][:5].tolist()]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        learnt.encode(" ".join(["red"] * 500))
    assert len(caplog.records[0].getMessage()) < 300


def test_special_tokens_are_read_where_transformers_reads_them(folder, tmp_path):
    """special_tokens_map.json goes before the configuration (SD2's "!"), unless that lists its tokens."""
    from transformers import CLIPTokenizer as Theirs

    place = kept(folder, tmp_path, *TWO, pad_token=END, model_max_length=77)
    (place / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    assert CLIPTokenizer.from_pretrained(place).pad_token_id == Theirs.from_pretrained(place).pad_token_id == 0
    as_dict = {"content": END, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False,
               "__type": "AddedToken"}  # fmt: skip
    listed = {"554": {key: value for key, value in as_dict.items() if key != "__type"} | {"special": True}}
    kept(folder, place, pad_token=END, unk_token=as_dict, eos_token=as_dict, added_tokens_decoder=listed)
    assert CLIPTokenizer.from_pretrained(place).pad_token_id == Theirs.from_pretrained(place).pad_token_id == 554


def test_added_tokens_have_the_numbers_after_the_vocabulary(folder, tmp_path):
    from transformers import CLIPTokenizer as Theirs

    place = kept(folder, tmp_path, *TWO, model_max_length=77)
    (place / "added_tokens.json").write_text(json.dumps({"<cat-toy>": 555, "<style>": 556}))
    texts = ["a <cat-toy> in <style>", "<cat-toy>s"]
    ours = CLIPTokenizer.from_pretrained(place)
    assert len(ours) == 557
    assert 555 in ours.encode(texts)[0]
    again = Theirs.from_pretrained(place)
    again.save_pretrained(tmp_path / "again")
    assert np.array_equal(ours.encode(texts), CLIPTokenizer.from_pretrained(tmp_path / "again").encode(texts))
    ours.save_pretrained(tmp_path / "ours")
    assert np.array_equal(ours.encode(texts), CLIPTokenizer.from_pretrained(tmp_path / "ours").encode(texts))
    (place / "added_tokens.json").write_text(json.dumps({"<cat-toy>": 700}))
    with pytest.raises(UserError, match="the added token '<cat-toy>' has number 700, expected 555"):
        CLIPTokenizer.from_pretrained(place)


def test_numbers_become_text(learnt):
    assert learnt.decode(learnt.encode("A Red POKÉMON, it's 🤖 3d")[0]) == "a red pokémon , it 's 🤖 3 d"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.json", "[]", "vocab.json holds \\[\\], expected a JSON object"),
        ("vocab.json", '{"a": 1}', "the vocabulary's 1 numbers are not 0 to 0, each once"),
        ("vocab.json", '{"a": "0"}', "the vocabulary's 1 numbers are not 0 to 0"),
        ("merges.txt", "a b c", "a merge is 'a b c', expected two tokens"),
        ("merges.txt", "q zzz", "the vocabulary and the merges do not fit together: .*zzz"),
        ("tokenizer.json", "{}", "tokenizer.json is no CLIP tokenizer: it has no 'model'"),
        ("tokenizer.json", '{"model": {"type": "Unigram", "end_of_word_suffix": null}}', "its model is 'Unigram'"),
        ("tokenizer_config.json", '{"pad_token": 7}', "pad_token is 7, expected a text"),
        ("tokenizer_config.json", '{"model_max_length": "77"}', "model_max_length is '77', expected a whole number"),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "T5Tokenizer"}',
            "holds a 'T5Tokenizer', expected .*CLIPTokenizer",
        ),
        ("added_tokens.json", "{", "cannot read .*added_tokens.json"),
    ],
)
def test_damaged_files_are_one_line(folder, tmp_path, name, text, message):
    place = kept(folder, tmp_path, *TWO)
    (place / name).write_text(text)
    with pytest.raises(UserError, match=message):
        CLIPTokenizer.from_pretrained(place)


def test_missing_files_and_bad_prompts_are_one_line(folder, tmp_path, learnt):
    with pytest.raises(UserError, match=r"no tokenizer in .*, expected tokenizer.json, or vocab.json and merges.txt;"):
        CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*merges.txt: No such file"):
        CLIPTokenizer.from_pretrained(kept(folder, tmp_path, "vocab.json"))
    with pytest.raises(UserError, match="has no argument 'use_fast'"):
        CLIPTokenizer.from_pretrained(folder, use_fast=False)
    with pytest.raises(UserError, match="hf download openai/clip-vit-large-patch14 --local-dir DIR"):
        CLIPTokenizer.from_pretrained("openai/clip-vit-large-patch14")
    with pytest.raises(UserError, match="a prompt is 7, expected a text"):
        learnt.encode(["a red three", 7])
    with pytest.raises(UserError, match=r"the prompt .* cannot be encoded"):
        learnt.encode("half a pair \ud83e")
    with pytest.raises(UserError, match="vocab_size is 500, expected at least 514"):
        CLIPTokenizer.trained(CAPTIONS, vocab_size=500)


def test_without_the_package_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from ms_ddpm.data.tokenizer import CLIPTokenizer\n"
        "try:\n    CLIPTokenizer.trained(['a red three'])\n"
        "except ValueError as error:\n    print(type(error).__name__, error)\n"
        "assert 'mindspore' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == (
        "UserError prompts need the package tokenizers, which is not installed; pip install 'ms_ddpm[text2image]' or "
        "pip install tokenizers\n"
    ), done.stderr
