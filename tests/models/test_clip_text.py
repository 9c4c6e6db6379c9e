"""CLIP's text encoder against transformers' own, from the files that either writes."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ms_ddpm.errors import UserError

END = 29
SIZES = {
    "vocab_size": 30, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 7, "bos_token_id": 28,
}  # fmt: skip
KINDS = {  # an activation, whether the end is the largest id, and an eps that is seen
    "SD1": {"hidden_act": "quick_gelu", "eos_token_id": 2, "layer_norm_eps": 1e-5},
    "SD2": {"hidden_act": "gelu", "eos_token_id": END, "layer_norm_eps": 1e-2},
}


def ids():
    """Three texts of five tokens, padded by their end, or by 0 as SD2 is; 7 positions are there."""
    made = np.random.default_rng(0).integers(1, 28, (3, 5)).astype(np.int32)
    made[0, 2:], made[1, 4], made[2, 3:] = END, END, (END, 0)
    return made


def theirs_of(kind, **others):
    torch.manual_seed(1)
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**{**SIZES, **KINDS[kind], **others})).eval()
    with torch.no_grad():  # biases that are not 0, gains that are not 1
        for parameter in model.parameters():
            parameter.copy_(parameter + 0.5 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request, mindspore, tmp_path_factory):
    """(transformers' model, ours, the directory between them)."""
    from ms_ddpm.models.clip_text import CLIPTextModel

    folder = tmp_path_factory.mktemp(request.param)
    theirs = theirs_of(request.param)
    theirs.save_pretrained(folder)
    return theirs, CLIPTextModel.from_pretrained(folder), folder


def largest_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def cotangents():
    rng = np.random.default_rng(1)
    return rng.standard_normal((3, 5, 8), dtype=np.float32), rng.standard_normal((3, 8), dtype=np.float32)


def their_gradients(theirs):
    theirs.zero_grad()
    out = theirs(torch.from_numpy(ids()).long())
    of_all, of_end = map(torch.from_numpy, cotangents())
    ((out.last_hidden_state * of_all).sum() + (out.pooler_output * of_end).sum()).backward()
    return {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}


def our_gradients(ours, compiled):
    import mindspore as ms

    parameters = dict(ours.parameters_and_names())
    of_all, of_end = map(ms.Tensor, cotangents())

    def loss(given):
        every, end = ours(given)
        return (every * of_all).sum() + (end * of_end).sum()

    grad = ms.grad(loss, None, list(parameters.values()))
    grad = ms.jit(grad) if compiled else grad
    return {name: value.asnumpy() for name, value in zip(parameters, grad(ms.Tensor(ids())), strict=True)}


def compare_gradients(found, expected):
    assert found.keys() == expected.keys()
    scale = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        if name.endswith("k_proj.bias"):  # which no softmax sees: 0 but for rounding
            assert np.abs(found[name]).max() < 1e-5 * scale
        else:
            assert largest_error(found[name], value) < 1e-4, name


def test_outputs_are_transformers_s(pair):
    theirs, ours, _ = pair
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids()).long())
    every, end = ours(ids())
    assert largest_error(every.asnumpy(), expected.last_hidden_state.numpy()) < 1e-5
    assert largest_error(end.asnumpy(), expected.pooler_output.numpy()) < 1e-5
    one = ours(ids()[:, :1])[0].asnumpy()  # of one token, too
    with torch.no_grad():
        assert largest_error(one, theirs(torch.from_numpy(ids()[:, :1]).long())[0].numpy()) < 1e-5


def test_gradients_are_transformers_s(pair):
    theirs, ours, _ = pair
    compare_gradients(our_gradients(ours, compiled=False), their_gradients(theirs))


def test_a_compiled_graph_gives_the_same(mindspore, tmp_path):
    from ms_ddpm.models.clip_text import CLIPTextModel

    theirs = theirs_of("SD1", num_hidden_layers=1)  # two are compiled by parity_tests
    theirs.save_pretrained(tmp_path)
    compare_gradients(our_gradients(CLIPTextModel.from_pretrained(tmp_path), compiled=True), their_gradients(theirs))


def test_no_token_sees_what_comes_after_it(pair):
    _, ours, _ = pair
    changed = ids()
    changed[:, 3:] = 5
    before, after = ours(ids())[0].asnumpy(), ours(changed)[0].asnumpy()
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.array_equal(before[:, 3:], after[:, 3:])


def test_a_mask_has_no_effect_and_half_precision_stays_half(pair):
    from ms_ddpm.models.clip_text import CLIPTextModel

    _, ours, folder = pair
    every = ours(ids())[0].asnumpy()
    assert np.array_equal(ours(ids(), np.zeros((3, 5)))[0].asnumpy(), every)
    half = CLIPTextModel.from_pretrained(folder, dtype="float16")(ids())[0].asnumpy()
    assert half.dtype == np.float16
    assert largest_error(half, every) < 0.01


def test_both_generations_of_files_are_one_network(pair, tmp_path):
    """transformers 4 wrote a prefix and the numbers of the positions, which may be anything: nobody reads them."""
    from ms_ddpm.models.clip_text import CLIPTextModel

    _, ours, folder = pair
    arrays = {f"text_model.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    arrays["text_model.embeddings.position_ids"] = torch.arange(1, 8)[None]
    save_file(arrays, tmp_path / "model.safetensors")
    old = {"dropout": 0.0, "torch_dtype": "float32", "_name_or_path": "openai/clip-vit-large-patch14"}
    config = {**json.loads((folder / "config.json").read_text()), **old}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = CLIPTextModel.from_pretrained(tmp_path)
    for mine, other in zip(ours(ids()), again(ids()), strict=True):
        assert np.array_equal(mine.asnumpy(), other.asnumpy())
    assert again.config.layer_norm_eps == ours.config.layer_norm_eps


def test_transformers_reads_what_we_save(pair, tmp_path):
    theirs, ours, _ = pair
    ours.save_pretrained(tmp_path)
    again, told = transformers.CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for key in (*SIZES, *KINDS["SD1"], "attention_dropout"):
        assert getattr(again.config, key) == getattr(theirs.config, key), key
    with torch.no_grad():
        given = torch.from_numpy(ids()).long()
        assert torch.equal(again(given).last_hidden_state, theirs(given).last_hidden_state)


def test_first_weights_are_drawn_as_transformers_draws_them(mindspore):
    from ms_ddpm.models.clip_text import CLIPTextModel

    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 300, "max_position_embeddings": 70,
             "num_hidden_layers": 3, "initializer_factor": 1.5}  # fmt: skip
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes))
    ours = CLIPTextModel.from_config(theirs.config.to_diff_dict(), rng=0)
    expected = {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.parameters_and_names():
        value = parameter.asnumpy()
        assert abs(value.std() - expected[name].std()) <= 0.1 * expected[name].std(), name
        assert abs(value.mean() - expected[name].mean()) <= 0.1 * expected[name].std(), name


@pytest.mark.parametrize(
    ("width", "inner", "heads", "layers", "parameters", "tensors"),
    [(768, 3072, 12, 12, 123_060_480, 196), (1024, 4096, 16, 23, 340_387_840, 372)],
)
def test_sizes_of_stable_diffusion(mindspore, width, inner, heads, layers, parameters, tensors):
    """Counted with one layer and with two, each adds the same, and with a vocabulary of two."""
    from ms_ddpm.maths.random import Blank
    from ms_ddpm.models.clip_text import CLIPTextModel

    one, two = (CLIPTextModel(2, width, inner, count, heads, rng=Blank()) for count in (1, 2))
    count = one.num_parameters() + (layers - 1) * (two.num_parameters() - one.num_parameters())
    assert count + (49408 - 2) * width == parameters
    names = [len(list(model.get_parameters())) for model in (one, two)]
    assert names[0] + (layers - 1) * (names[1] - names[0]) == tensors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((2, 8), 3), r"input_ids has shape \(2, 8\), expected \(B, T\) with T from 1 to 7"),
        (np.arange(5), r"input_ids has shape \(5,\)"),
        (np.array([[1, 30]]), "input_ids holds 30, expected 0 to 29; is the tokenizer another model's"),
        (np.array([[-1, 3]]), "input_ids holds -1"),
        (np.ones((1, 3), np.float32), "input_ids is an array of float32"),
    ],
)
def test_ids_that_do_not_fit_are_one_line(pair, given, message):
    with pytest.raises(UserError, match=message):
        pair[1](given)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new', expected one of: quick_gelu, gelu"),
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1, and only 0.0 is supported"),
        ({"num_attention_heads": 3}, "num_attention_heads is 3, expected a divisor of hidden_size"),
        ({"architectures": ["CLIPTextModelWithProjection"]}, "it is of the class 'CLIPTextModelWithProjection'"),
        ({"text_config": {}}, "text_config is {}, and CLIPTextModel has no such key"),
    ],
)
def test_configurations_of_other_models_are_one_line(mindspore, keys, message):
    from ms_ddpm.models.clip_text import CLIPTextModel

    config = transformers.CLIPTextConfig(**SIZES, eos_token_id=END).to_diff_dict()
    with pytest.raises(UserError, match=message):
        CLIPTextModel.from_config({**config, **keys})
