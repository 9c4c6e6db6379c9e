"""Damaged directories of diffusers' and transformers' kind: what is read is sound, all else is one line."""

import json

import numpy as np
import pytest

from ms_ddpm.data.tokenizer import CLIPTokenizer
from ms_ddpm.errors import UserError
from ms_ddpm.storage import mapped
from tests.fuzz.damage import check_complaint, count, damaged, watched

BAD_VALUES = [
    None, True, -1, 0, 10**19, 10**400, -(2**63), 0.5, float("nan"), float("inf"), "", "7", "x" * 2000, "a\nb\x1b[31m",
    [], [1], {}, {"a": {"b": [1]}}, [[[[[[1]]]]]],
]  # fmt: skip


def seeds(few, many):
    return range(count(few, many))


def test_damaged_weights(tmp_path):
    """Where a file can be read, every tensor is of the type and shape that its header says."""
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in {"a": (3, 5), "b.weight": (7,)}.items()}
    mapped.write(path, {name: lambda value=value: value for name, value in arrays.items()}, {"format": "pt"})
    whole, refused = path.read_bytes(), 0
    for seed in seeds(200, 5000):
        path.write_bytes(damaged(whole, seed))
        with watched(seed):
            try:
                found = mapped.read_file(path)
                for name, array in found.items():
                    assert array.shape == found.stored[name].shape
                    array.tobytes()
            except UserError as error:
                check_complaint(error, path)
                refused += 1
    assert refused > count(200, 5000) // 4


def test_damaged_tokenizers(tmp_path):
    place, refused, tried = tmp_path / "tokenizer", 0, 0
    CLIPTokenizer.trained(["a red three", "a red one", "a green three"], 530).save_pretrained(place)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        if name == "vocab.json":
            (place / "tokenizer.json").unlink()
        whole = (place / name).read_bytes()
        for seed in seeds(30, 1000):
            (place / name).write_bytes(damaged(whole, seed))
            tried += 1
            with watched((name, seed)):
                try:
                    assert CLIPTokenizer.from_pretrained(place).encode("a red three").ndim == 2
                except UserError as error:
                    check_complaint(error, place)
                    refused += 1
        (place / name).write_bytes(whole)
    assert refused > tried // 4


KEYS = (
    "vocab_size", "hidden_size", "num_attention_heads", "hidden_act", "layer_norm_eps", "_class_name", "architectures",
    "_use_default_values", "attention_dropout",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_bad_values_of_a_configuration(mindspore, tmp_path, key):
    from ms_ddpm.models.clip_text import CLIPTextModel

    sizes = {"vocab_size": 30, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 7, "eos_token_id": 29}  # fmt: skip
    path = tmp_path / "config.json"
    for value in BAD_VALUES:
        path.write_text(json.dumps({**sizes, key: value}))
        with watched((key, value)):
            try:
                CLIPTextModel.from_config(path, rng=0)
            except UserError as error:
                check_complaint(error, path)
