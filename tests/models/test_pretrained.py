"""Directories as diffusers writes them, for a network of a few layers: what is read, what is refused, what is said."""

import json
from typing import ClassVar, Literal

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ms_ddpm.errors import UserError


@pytest.fixture(scope="module")
def toy(mindspore):
    from mindspore import nn

    from ms_ddpm.maths.random import host_rng
    from ms_ddpm.models.pretrained import PretrainedModel
    from ms_ddpm.nn.layers import Conv2d, Embedding, Linear
    from ms_ddpm.nn.norms import GroupNorm, LayerNorm

    class Toy(PretrainedModel):
        FIXED: ClassVar = {"dropout": 0.0, "levels": (1, 2)}
        IGNORED = frozenset({"seen_by_nobody"})

        def __init__(
            self,
            width: int = 4,
            words: int = 5,
            eps: float = 1e-5,
            act_fn: Literal["silu", "gelu"] = "silu",
            heads: int | tuple[int, ...] = 2,
            time: bool | None = None,
            *,
            rng=None,
        ):
            super().__init__(locals())
            rng = host_rng(rng)
            self.word_embedding = Embedding(words, width, rng=rng)
            layers = [Linear(width, width, rng=rng), Linear(width, 6, bias=False, rng=rng)]
            self.blocks = nn.CellList(layers)
            self.norm = LayerNorm(width, eps)
            self.conv_norm = GroupNorm(2, width, eps)
            self.conv_in = Conv2d(3, width, 3, rng=rng)

        @staticmethod
        def renamed(name):
            return None if name.endswith("position_ids") else name.removeprefix("model.")

        def construct(self, ids):
            x = self.norm(self.word_embedding(ids))
            for block in self.blocks:
                x = block(x)
            return x

    return Toy


IDS = np.array([[0, 3, 1], [4, 4, 2]], np.int32)


@pytest.fixture
def saved(toy, tmp_path):
    """(a network, the directory that it was saved in)."""
    made = toy(width=8, heads=[1, 2], rng=3)
    made.save_pretrained(tmp_path / "toy")
    return made, tmp_path / "toy"


def values(cell):
    return {name: parameter.asnumpy() for name, parameter in cell.parameters_and_names()}


def rewrite(folder, change, name="diffusion_pytorch_model.safetensors"):
    """Applies ``change`` to the dict of tensors of a file."""
    arrays = load_file(folder / name)
    changed = change(arrays)
    save_file(arrays if changed is None else changed, folder / name)


def configure(folder, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def outputs(cell):
    import mindspore as ms

    return cell(ms.Tensor(IDS)).asnumpy()


def test_a_network_comes_back_as_it_was_saved(toy, saved):
    made, folder = saved
    again = toy.from_pretrained(folder.parent, subfolder="toy")
    assert again.config == made.config
    assert again.config.heads == (1, 2)
    assert again.config.dropout == 0.0
    assert all(np.array_equal(value, values(made)[name]) for name, value in values(again).items())
    assert np.array_equal(outputs(again), outputs(made))
    assert np.abs(outputs(made)).max() > 0.1


def test_the_files_are_diffusers_s_with_pytorch_s_names(saved):
    made, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    arrays = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert sorted(arrays) == [
        "blocks.0.bias", "blocks.0.weight", "blocks.1.weight", "conv_in.bias", "conv_in.weight", "conv_norm.bias",
        "conv_norm.weight", "norm.bias", "norm.weight", "word_embedding.weight",
    ]  # fmt: skip
    assert all(np.array_equal(arrays[name], value) for name, value in values(made).items())
    config = json.loads((folder / "config.json").read_text())
    assert config["_class_name"] == "Toy"
    assert config["heads"] == [1, 2]
    assert made.num_parameters() == 8 * 5 + 8 * 8 + 8 + 8 * 6 + 4 * 8 + 8 * 3 * 9 + 8


def test_a_torch_module_of_the_same_names_reads_the_file(saved):
    """Its strict load_state_dict is the judge of names and shapes; safetensors.torch of the header."""
    import torch
    from safetensors.torch import load_file as load_torch

    made, folder = saved
    module = torch.nn.Module()
    module.word_embedding = torch.nn.Embedding(5, 8)
    module.blocks = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 6, bias=False)])
    module.norm, module.conv_norm = torch.nn.LayerNorm(8), torch.nn.GroupNorm(2, 8)
    module.conv_in = torch.nn.Conv2d(3, 8, 3)
    module.load_state_dict(load_torch(folder / "diffusion_pytorch_model.safetensors"))
    x = module.norm(module.word_embedding(torch.from_numpy(IDS)))
    for block in module.blocks:
        x = block(x)
    np.testing.assert_allclose(outputs(made), x.detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_read_into_float32_and_held_as_it_is(toy, saved, name):
    import mindspore as ms
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    made, folder = saved
    path = folder / "diffusion_pytorch_model.safetensors"
    half = {key: value.to(getattr(torch, name)) for key, value in load_torch(path).items()}
    save_torch(half, folder / "diffusion_pytorch_model.fp16.safetensors")
    path.unlink()
    wide = toy.from_pretrained(folder, variant="fp16")
    for key, value in values(wide).items():
        assert value.dtype == np.float32
        assert np.array_equal(value, half[key].float().numpy())
    assert not np.array_equal(values(wide)["blocks.0.weight"], values(made)["blocks.0.weight"])
    held = toy.from_pretrained(folder, variant="fp16", dtype=getattr(ms, name))
    assert {str(parameter.dtype) for parameter in held.get_parameters()} == {str(getattr(ms, name))}
    held.save_pretrained(folder.parent / "again", variant="fp16")
    again = load_torch(folder.parent / "again" / "diffusion_pytorch_model.fp16.safetensors")
    assert all(torch.equal(again[key], value) for key, value in half.items())
    if name == "float16":  # bfloat16 products are not on the CPU
        np.testing.assert_allclose(outputs(held), outputs(made), atol=0.02)


def test_several_files_with_an_index(toy, saved):
    made, folder = saved
    path = folder / "diffusion_pytorch_model.safetensors"
    arrays = load_file(path)
    path.unlink()
    places = {key: f"part-{i % 2}.safetensors" for i, key in enumerate(arrays)}
    for file in set(places.values()):
        save_file({key: arrays[key] for key in arrays if places[key] == file}, folder / file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    again = toy.from_pretrained(folder)
    assert all(np.array_equal(value, values(made)[name]) for name, value in values(again).items())

    index.write_text(json.dumps({"weight_map": {**places, "norm.gain": "part-0.safetensors"}}))
    with pytest.raises(UserError, match=r"says that part-0.safetensors holds norm.gain, which it does not"):
        toy.from_pretrained(folder)
    index.write_text(json.dumps({"weight_map": {"norm.weight": "../part-0.safetensors"}}))
    with pytest.raises(UserError, match="no file's name"):
        toy.from_pretrained(folder)
    index.write_text(json.dumps({"weight_map": places}))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot read .*part-1.safetensors: No such file"):
        toy.from_pretrained(folder)


def test_an_older_generation_s_names(toy, saved):
    made, folder = saved
    rewrite(folder, lambda arrays: {f"model.{name}": value for name, value in arrays.items()}
            | {"model.position_ids": np.arange(3)[None]})  # fmt: skip
    again = toy.from_pretrained(folder)
    assert all(np.array_equal(value, values(made)[name]) for name, value in values(again).items())
    rewrite(folder, lambda arrays: arrays.update({"norm.weight": np.ones(8, np.float32)}))
    with pytest.raises(UserError, match=r"holds both .*norm.weight, which are the same weight"):
        toy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("norm.bias") is None or None, "norm.bias is missing"),
        (lambda a: a.update({"lora.up": np.ones(2, np.float32)}), "lora.up is foreign"),
        (lambda a: a.update({"norm.bias": np.ones(3, np.float32)}), r"norm.bias has shape \(3,\), expected \(8,\)"),
        (lambda a: a.update({"norm.bias": np.ones(8, np.int64)}), "norm.bias holds I64, expected floating-point"),
        (lambda a: a.update({"norm.bias": np.full(8, np.inf, np.float32)}), "norm.bias in .* not finite in float32"),
        (lambda a: {"blocks.0.weight": a["blocks.0.weight"]}, r"is missing \(and 8 more\)"),
    ],
)
def test_a_tensor_that_does_not_fit_is_one_line(toy, saved, change, message):
    folder = saved[1]
    rewrite(folder, change)
    with pytest.raises(UserError, match=message):
        toy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time', and Toy has no such key"),
        ({"dropout": 0.1}, "dropout is 0.1, and only 0.0 is supported"),
        ({"levels": [2, 1]}, r"levels is \(2, 1\), and only \(1, 2\) is supported"),
        ({"act_fn": "relu"}, "act_fn is 'relu', expected one of: silu, gelu"),
        ({"width": 8.5}, "width is 8.5, expected a whole number"),
        ({"width": True}, "width is True, expected a whole number"),
        ({"heads": [1, "2"]}, "heads is .*, expected a whole number or a list, each a whole number"),
        ({"_class_name": "ControlNetModel"}, "it is of the class 'ControlNetModel', expected Toy"),
        ({"architectures": ["CLIPTextModelWithProjection"], "_class_name": None}, "'CLIPTextModelWithProjection'"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_supported_is_named(toy, saved, keys, message):
    folder = saved[1]
    configure(folder, **keys)
    with pytest.raises(UserError, match=rf"config.json: .*{message}"):
        toy.from_pretrained(folder)


def test_keys_without_effect(toy, saved):
    folder = saved[1]
    configure(folder, seen_by_nobody=[7], _diffusers_version="0.6", eps=1, heads=[1, 2], torch_dtype="float32",
              act_fn="gelu", _use_default_values=["act_fn"])  # fmt: skip
    again = toy.from_pretrained(folder)
    assert again.config.seen_by_nobody == (7,)
    assert again.config.eps == 1
    assert again.config.act_fn == "silu"
    with pytest.raises(TypeError, match="cannot be changed"):
        again.config["eps"] = 2
    with pytest.raises(AttributeError, match="has no 'epsilon'; it has: dropout"):
        again.config.epsilon  # noqa: B018


def test_what_is_no_directory_says_what_to_do(toy, tmp_path):
    with pytest.raises(UserError, match="hf download runwayml/stable-diffusion-v1-5 --local-dir DIR, and give DIR"):
        toy.from_pretrained("runwayml/stable-diffusion-v1-5")
    with pytest.raises(UserError, match=r"nothing is downloaded here$"):
        toy.from_pretrained(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"there is no directory .*unet"):
        toy.from_pretrained(tmp_path, subfolder="unet")
    with pytest.raises(UserError, match="the directory has no weights; copy the whole directory"):
        toy.from_pretrained(tmp_path)


def test_a_config_that_is_not_there_says_so(toy, saved):
    folder = saved[1]
    (folder / "config.json").unlink()
    for read in (toy.from_pretrained, toy.from_config):
        with pytest.raises(
            UserError, match=r"there is no config.json in .*/toy, expected that of a Toy; copy the whole"
        ):
            read(folder)
    with pytest.raises(UserError, match=r"there is no config.json in .*/toy"):
        toy.from_config(folder / "config.json")


def test_what_is_said_of_fetching_has_no_effect(toy, saved):
    made, folder = saved
    said = {"local_files_only": True, "low_cpu_mem_usage": True, "revision": None, "cache_dir": "nowhere"}
    again = toy.from_pretrained(folder, use_safetensors=True, torch_dtype="float16", **said)
    assert str(again.norm.weight.dtype) == "Float16"
    assert values(again).keys() == values(made).keys()
    with pytest.raises(UserError, match=r"use_safetensors is False, expected true or nothing: .* pickles"):
        toy.from_pretrained(folder, use_safetensors=False)
    with pytest.raises(UserError, match="dtype and torch_dtype were both given"):
        toy.from_pretrained(folder, dtype="float32", torch_dtype="float32")
    with pytest.raises(UserError, match="a directory is None, expected its path"):
        toy.from_pretrained(None)


def test_weights_under_another_name(toy, saved):
    folder = saved[1]
    path = folder / "diffusion_pytorch_model.safetensors"
    with pytest.raises(UserError, match=r"no .*model.fp16.safetensors; the directory has .*; set variant="):
        toy.from_pretrained(folder, variant="fp16")
    path.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"a .bin file is a pickle, which is not read"):
        toy.from_pretrained(folder)
    (folder / "diffusion_pytorch_model.bin").rename(path)
    with pytest.raises(UserError, match="dtype is 'int8', expected one of: float32"):
        toy.from_pretrained(folder, dtype="int8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-40], "it is cut short: .* would end at byte .*; copy the file again"),
        (lambda data: data[:60], "cut short within its header"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n" + data, "git lfs pull"),
        (lambda data: b"", "it is an empty file"),
        (lambda data: data[:8] + data[8:].replace(b'"F32"', b'"F8_'[:5]), "cannot be read"),
        (lambda data: data.replace(b"[8,8]", b"[8,9]"), r"is F32 of shape \(8, 9\), and 256 bytes are said"),
        (lambda data: data.replace(b'"F32"', b'"F99"', 1), "of type 'F99', which numpy does not have"),
    ],
)
def test_a_damaged_file_is_one_line(toy, saved, damage, message):
    folder = saved[1]
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        toy.from_pretrained(folder)
