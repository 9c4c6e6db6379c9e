"""LoRA files: the five formats, both networks, alpha, and what is refused."""

import json

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from ms_ddpm.storage import lora_files, tensorfile
from ms_ddpm.storage.lora_files import Factors

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
UNET = {f"{BLOCK}.{a}.{p}": (12, 12 if a == "attn1" or p == "to_q" else 7)
        for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v")}  # fmt: skip
UNET |= {f"{BLOCK}.attn1.to_out.0": (12, 12), "down_blocks.1.attentions.0.proj_in": (12, 10, 1, 1)}
UNET |= {"down_blocks.1.resnets.0.conv1": (12, 10, 3, 3), f"{BLOCK}.ff.net.0.proj": (24, 12)}
TEXT = {f"text_model.encoder.layers.0.self_attn.{p}": (8, 8) for p in ("q_proj", "k_proj", "v_proj", "out_proj")}
LAYERS = {"unet": UNET, "text_encoder": TEXT}
ATTENTION = [path for path in UNET if "attn" in path]  # as the network has them, not sorted


def factors_of(network, paths, rng, alphas=(3.0,)):
    """Random numbers of rank 3; alphas in turn."""
    found = {}
    for i, path in enumerate(paths):
        out, *rest = LAYERS[network][path]
        down = rng.standard_normal((3, *rest), dtype=np.float32)
        up = rng.standard_normal((out, 3, *(1 for _ in rest[1:])), dtype=np.float32)
        found[path] = Factors(down, up, alphas[i % len(alphas)])
    return found


def final(networks):
    """As the training script ends."""
    words = {"unet": "lora", "text_encoder": "lora_linear_layer"}
    return {
        f"{network}.{path}.{words[network]}.{part}.weight": getattr(factors, part)
        for network, layers in networks.items() for path, factors in layers.items() for part in ("down", "up")
    }  # fmt: skip


def checkpoint(networks):
    """As accelerate's checkpoints have it: peft's names."""
    return {
        f"{network}.{path}.lora_{letter}.weight": getattr(factors, part)
        for network, layers in networks.items() for path, factors in layers.items()
        for letter, part in zip("AB", ("down", "up"), strict=True)
    }  # fmt: skip


def processors(networks, prefix="unet."):
    """Attention processors of diffusers before 0.22."""
    found = {}
    for path, factors in networks["unet"].items():
        attention, _, projection = path.removesuffix(".0").rpartition(".")
        for part in ("down", "up"):
            found[f"{prefix}{attention}.processor.{projection}_lora.{part}.weight"] = getattr(factors, part)
    for path, factors in networks.get("text_encoder", {}).items():
        attention, _, projection = path.rpartition(".")
        old = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}[projection]
        for part in ("down", "up"):
            found[f"text_encoder.{attention}.{old}_lora.{part}.weight"] = getattr(factors, part)
    return found


def kohya(networks):
    """Dots are underscores, and alpha stands beside the numbers."""
    prefixes, found = {"unet": "lora_unet_", "text_encoder": "lora_te_"}, {}
    for network, layers in networks.items():
        for path, factors in layers.items():
            name = prefixes[network] + path.replace(".", "_")
            found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = factors.down, factors.up
            found[f"{name}.alpha"] = np.float32(factors.alpha).reshape(())
    return found


def without_prefix(networks):
    """The old processors as `save_attn_procs` wrote them: nothing says of which network."""
    return processors({"unet": networks["unet"]}, prefix="")


def state_of_peft(networks):
    """The U-Net's own state_dict, in which an adapter's name stands."""
    return {
        f"{path}.lora_{letter}.default.weight": getattr(factors, part)
        for path, factors in networks["unet"].items() for letter, part in zip("AB", ("down", "up"), strict=True)
    }  # fmt: skip


def saved_by_peft(networks):
    """The U-Net's as PeftModel.save_pretrained writes them."""
    return {f"base_model.model.{key.replace('.default', '')}": v for key, v in state_of_peft(networks).items()}


FORMATS = {
    "final": final, "checkpoint": checkpoint, "processors": processors, "without prefix": without_prefix, "kohya": kohya
}  # fmt: skip
OF_THE_UNET = {"without prefix": without_prefix, "state of peft": state_of_peft, "saved by peft": saved_by_peft}


def put(path, arrays, **metadata):
    path.write_bytes(tensorfile.serialise(arrays, {"format": "pt", **metadata}))
    return path


def assert_same(found, expected):
    assert {network: list(layers) for network, layers in found.items()} == {n: list(v) for n, v in expected.items()}
    for network, layers in expected.items():
        for path, factors in layers.items():
            np.testing.assert_array_equal(found[network][path].down, factors.down)
            np.testing.assert_array_equal(found[network][path].up, factors.up)
            assert found[network][path].alpha == factors.alpha, path


@pytest.fixture
def networks(rng):
    return {"unet": factors_of("unet", ATTENTION, rng), "text_encoder": factors_of("text_encoder", TEXT, rng)}


@pytest.mark.parametrize("name", FORMATS | OF_THE_UNET)
def test_every_format_is_read(name, networks, tmp_path):
    file = put(tmp_path / "lora.safetensors", (FORMATS | OF_THE_UNET)[name](networks))
    expected = {"unet": networks["unet"], "text_encoder": {}} if name in OF_THE_UNET else networks
    assert_same(lora_files.read(file, LAYERS), expected)


def test_a_folder_has_its_file_by_the_usual_name(networks, tmp_path):
    put(tmp_path / "pytorch_lora_weights.safetensors", checkpoint(networks))
    assert_same(lora_files.read(tmp_path, LAYERS), networks)


def test_what_peft_saves_has_its_alpha_in_the_file_beside_it(networks, tmp_path):
    file = put(tmp_path / "adapter_model.safetensors", saved_by_peft(networks))
    one, *_ = networks["unet"]
    config = {"r": 3, "lora_alpha": 8, "alpha_pattern": {one: 2.5}, "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    expected = {p: f._replace(alpha=2.5 if p == one else 8.0) for p, f in networks["unet"].items()}
    assert_same(lora_files.read(tmp_path, LAYERS), {"unet": expected, "text_encoder": {}})
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    refused(file, "is a DoRA")


@pytest.mark.parametrize("width", ["float16", "bfloat16", "float64"])
def test_numbers_become_float32(width, networks, tmp_path):
    from ms_ddpm.storage import floats

    narrow = {name: floats.cast(array, width) for name, array in final(networks).items()}
    found = lora_files.read(put(tmp_path / "lora.safetensors", narrow), LAYERS)["unet"]
    for path, factors in networks["unet"].items():
        assert found[path].down.dtype == np.float32
        np.testing.assert_array_equal(found[path].up, floats.cast(floats.cast(factors.up, width), "float32"))


def test_kohya_has_an_alpha_for_each_layer_and_convolutions(rng, tmp_path):
    networks = {"unet": factors_of("unet", UNET, rng, (6.0, 1.0, 2.5)), "text_encoder": {}}
    assert_same(lora_files.read(put(tmp_path / "k.safetensors", kohya(networks)), LAYERS), networks)
    whole = {name: array if "alpha" not in name else np.int64(6).reshape(()) for name, array in kohya(networks).items()}
    found = lora_files.read(put(tmp_path / "whole.safetensors", whole), LAYERS)["unet"]
    assert {factors.alpha for factors in found.values()} == {6.0}


def test_text_encoders_are_named_with_text_model_and_without(networks, tmp_path):
    flat = {path.removeprefix("text_model."): factors for path, factors in networks["text_encoder"].items()}
    layers = {"unet": UNET, "text_encoder": {path: (8, 8) for path in flat}}
    for name, write in FORMATS.items():
        if name == "without prefix":
            continue
        new = {"unet": networks["unet"], "text_encoder": flat}
        file = put(tmp_path / f"{name}.safetensors", write(networks))
        assert_same(lora_files.read(file, layers), new)
        file = put(tmp_path / f"{name} new.safetensors", write(new))
        assert_same(lora_files.read(file, LAYERS), networks)


def test_a_convolution_of_1x1_and_a_dense_layer_have_the_same_numbers(rng, tmp_path):
    path = "down_blocks.1.attentions.0.proj_in"
    made = factors_of("unet", [path], rng)
    flat = {path: made[path]._replace(down=made[path].down.reshape(3, 10), up=made[path].up.reshape(12, 3))}
    assert_same(lora_files.read(put(tmp_path / "a.safetensors", final({"unet": flat})), LAYERS),
                {"unet": made, "text_encoder": {}})  # fmt: skip
    dense = {"unet": {path: (12, 10)}}
    assert_same(lora_files.read(put(tmp_path / "b.safetensors", final({"unet": made})), dense), {"unet": flat})


def header(**said):
    return {"lora_adapter_metadata": json.dumps(said)}


def test_the_header_says_alpha_and_its_exceptions(networks, tmp_path):
    exact, ending = f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_v"
    said = {
        "unet.r": 3, "unet.lora_alpha": 8, "unet.alpha_pattern": {f"^{exact}": 2, "attn2.to_v": 1.5, "n2.to_k": 9},
        "text_encoder.lora_alpha": 6,
    }  # fmt: skip
    found = lora_files.read(put(tmp_path / "a.safetensors", final(networks), **header(**said)), LAYERS)
    alphas = {path: factors.alpha for path, factors in found["unet"].items()}
    assert alphas == dict.fromkeys(ATTENTION, 8.0) | {exact: 2.0, ending: 1.5}
    assert {factors.alpha for factors in found["text_encoder"].values()} == {6.0}
    # Rank-stabilised: alpha / sqrt(rank).
    said = {"unet.lora_alpha": 8, "unet.use_rslora": True}
    found = lora_files.read(put(tmp_path / "b.safetensors", final(networks), **header(**said)), LAYERS)
    assert found["unet"][exact].alpha / 3 == pytest.approx(8 / 3**0.5)


@pytest.mark.parametrize("alphas", [(3.0,), (8.0, 0.5)])
def test_what_is_written_is_read_again(alphas, rng, tmp_path):
    networks = {
        "unet": factors_of("unet", UNET, rng, alphas), "text_encoder": factors_of("text_encoder", TEXT, rng, alphas)
    }  # fmt: skip
    lora_files.write(tmp_path / "lora.safetensors", networks)
    assert_same(lora_files.read(tmp_path / "lora.safetensors", LAYERS), networks)
    arrays, metadata = tensorfile.read_with_metadata(tmp_path / "lora.safetensors")
    assert set(arrays) == set(final(networks))
    assert ("lora_adapter_metadata" in metadata) == (alphas != (3.0,))


def refused(path, *words, layers=None):
    with pytest.raises(UserError) as error:
        lora_files.read(path, layers or LAYERS)
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_a_file_for_another_network_is_one_line_that_names_a_layer(networks, rng, tmp_path):
    file, path = tmp_path / "lora.safetensors", f"{BLOCK}.attn1.to_q"
    strange = {f"unet.{path.replace('blocks.1', 'blocks.7')}": f for path, f in networks["unet"].items()}
    other = {f"{name}.lora.{p}.weight": getattr(f, p) for name, f in strange.items() for p in ("down", "up")}
    refused(
        put(file, other), "another network", f"7 of its {len(strange)} layers", "unet.down_blocks.7", f"unet.{path}"
    )
    half = {**final(networks), **{k: v for k, v in other.items() if "attn2" in k}}
    refused(put(file, half), "3 of its 14 layers", "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn2.to_k")
    refused(put(file, final(networks)), "4 of its 11 layers", "text_encoder.text_model", layers={"unet": UNET})
    wide = {name: array if "to_q" not in name or "up" in name else rng.standard_normal((3, 20), dtype=np.float32)
            for name, array in final(networks).items()}  # fmt: skip
    refused(put(file, wide), "another base", path, "(3, 20)", "(rank, 12)")
    one = {name: array for name, array in final(networks).items() if name != f"unet.{path}.lora.up.weight"}
    refused(put(file, one), "the down and no up", path)
    twice = final(networks) | {f"unet.{path}.lora_A.weight": networks["unet"][path].down}
    refused(put(file, twice), "twice", path)


@pytest.mark.parametrize("key", [
    "unet.{}.lora_magnitude_vector.weight", "lora_unet_{}.hada_w1_a", "unet.{}.lokr_w1", "lora_unet_{}.dora_scale",
    "lora_te2_text_model_x.lora_down.weight", "lora_unet_{}.lora_mid.weight", "unet.conv_in.weight", "bundle_emb",
])  # fmt: skip
def test_other_methods_are_one_line(key, networks, tmp_path):
    name = key.format(f"{BLOCK}.attn1.to_q")
    arrays = final(networks) | {name: np.ones((3, 12), np.float32)}
    refused(put(tmp_path / "lora.safetensors", arrays), name.rpartition(".")[2], "not supported")


def test_numbers_and_headers_that_are_none_are_one_line(networks, tmp_path):
    file, path = tmp_path / "lora.safetensors", f"{BLOCK}.attn1.to_q"
    for value in (np.full((3, 12), np.nan, np.float32), np.ones((3, 12), np.int32), np.zeros((0, 12), np.float32)):
        refused(put(file, final(networks) | {f"unet.{path}.lora.down.weight": value}), path, "no finite floats")
    good = final(networks)
    for said, words in (
        ("{", ("no JSON", "lora_adapter_metadata")), ("[1]", ("[1]", "a table")), ("[" * 9999, ("no JSON",)),
        ('{"unet.lora_alpha": "x"}', ("'x'", "a number")), ('{"unet.use_dora": true}', ("DoRA",)),
        ('{"unet.lora_alpha": 1e999}', ("inf", "a number")), ('{"unet.lora_alpha": NaN}', ("nan", "a number")),
        (f'{{"unet.lora_alpha": 1{"0" * 400}}}', ("a number",)),
    ):  # fmt: skip
        refused(put(file, good, lora_adapter_metadata=said), *words)
    refused(put(file, good | {f"unet.{path}.alpha": np.float32([np.nan])}), path, "finite")
    refused(put(file, {}), "empty")
    whole = put(file, good).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(file, "lora.safetensors", "no safetensors file")


def test_nothing_is_unpickled_or_fetched(tmp_path):
    import pickle

    (tmp_path / "pytorch_lora_weights.bin").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "pytorch_lora_weights.bin", "pickle", "nothing is unpickled")
    refused(tmp_path, "pytorch_lora_weights.safetensors", "there is no LoRA file")
    refused("sayakpaul/sd-model-finetuned-lora-t4", "sayakpaul", "nothing is fetched from a hub")
    (tmp_path / "page.safetensors").write_text("<!doctype html><html>")
    refused(tmp_path / "page.safetensors", "a web page")
    with pytest.raises(UserError, match="no LoRA to be written"):
        lora_files.write(tmp_path / "x.safetensors", {"unet": {}})
