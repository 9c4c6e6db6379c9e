"""How StableDiffusionPipeline is called, what it refuses, what it saves; LoRA files in it."""

import json
import logging

import numpy as np
import pytest
import torch

from ms_ddpm.errors import UserError

from .directories import HEIGHT, SD1, WIDTH, drawn_from, sister, stable_diffusion
from .test_stable_diffusion import IMAGES, LATENTS, MASKS, TAPE, close, first_and_last, texts

pytest.importorskip("diffusers")
pytest.importorskip("tokenizers")


def test_a_network_that_was_trained_to_fill_in_sees_the_mask(pair, tmp_path):
    from ms_ddpm import StableDiffusionPipeline

    theirs = stable_diffusion(tmp_path, in_channels=9)
    ours = StableDiffusionPipeline.from_pretrained(tmp_path / "sd")
    ours.set_progress_bar_config(disable=True)
    for strength in (0.5, 1.0):
        few = texts(strength=strength) | {"num_inference_steps": 2}
        with drawn_from(TAPE):
            expected = sister(theirs, "StableDiffusionInpaintPipeline")(
                **few, image=first_and_last(IMAGES), mask_image=first_and_last(MASKS), height=HEIGHT, width=WIDTH
            ).images
        close(ours(**few, image=IMAGES, mask_image=MASKS, noise=TAPE).images, expected)
    with pytest.raises(UserError, match="it is for inpainting; give image and mask_image"):
        ours("a three")


def test_without_guidance_and_with_its_rescaling(pair):
    theirs, ours, _ = pair
    for more in ({"guidance_scale": 1.0}, {"guidance_scale": 9.0, "guidance_rescale": 0.7}):
        few = {**texts(height=HEIGHT, width=WIDTH, num_inference_steps=2), **more}
        expected = theirs(**few, latents=torch.from_numpy(LATENTS)).images
        close(ours(**few, latents=LATENTS).images, expected)


def test_the_text_encoder_s_last_layers_are_skipped_for_the_prompt_alone(pair, monkeypatch):
    import transformers

    theirs, ours, _ = pair
    # diffusers 0.42 looks for the last norm where transformers 4 had it.
    monkeypatch.setattr(transformers.CLIPTextModel, "text_model", property(lambda self: self), raising=False)
    few = texts(height=HEIGHT, width=WIDTH, num_inference_steps=2)
    drawn = []
    for skipped in (1, 2):
        expected = theirs(**few, latents=torch.from_numpy(LATENTS), clip_skip=skipped).images
        drawn.append(ours(**few, latents=LATENTS, clip_skip=skipped).images)
        np.testing.assert_allclose(drawn[-1], expected, atol=1e-4)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    vectors = ours.encode_prompt(few["prompt"], clip_skip=1)
    again = ours(**{**few, "prompt": None}, prompt_embeds=vectors, latents=LATENTS).images
    assert np.array_equal(again, drawn[0])
    whole = ours.encode_prompt(few["prompt"])
    assert np.abs((vectors - whole).asnumpy()).max() > 0.1
    assert np.array_equal(ours.encode_prompt(few["prompt"], clip_skip=0).asnumpy(), whole.asnumpy())


QUICK = {"prompt": "a three", "num_inference_steps": 1, "output_type": "np", "height": 16, "width": 12}


def test_a_seed_gives_its_pictures_whatever_their_number(pair):
    _, ours, _ = pair
    three = ours(**QUICK, seed=5, num_images_per_prompt=3).images
    two = ours(**QUICK, seed=5, num_images_per_prompt=2).images
    np.testing.assert_allclose(three[:2], two, atol=1e-5)
    assert np.abs(three[0] - three[1]).max() > 0.01
    other = ours(**QUICK, generator=np.random.default_rng(6)).images
    assert np.abs(other[0] - three[0]).max() > 0.01


def test_pictures_are_pils_by_default_and_latents_where_asked(pair):
    _, ours, _ = pair
    asked = {key: value for key, value in QUICK.items() if key != "output_type"}
    (picture,) = ours(**asked, seed=0).images
    array = ours(**QUICK, seed=0).images[0]
    assert picture.size == (12, 16)
    assert np.abs(np.asarray(picture) / 255 - array).max() < 0.003
    images, safe = ours(**asked, output_type="latent", return_dict=False, seed=0)
    assert images.shape == (1, 4, 8, 6)
    assert safe is None


def test_a_callback_sees_every_step_and_may_change_it(pair):
    _, ours, _ = pair
    seen = []

    def watch(pipe, number, time, state):
        assert pipe is ours
        seen.append((number, time))
        return {"latents": state["latents"] * 0} if number == 2 else None

    found = ours(
        **QUICK | {"num_inference_steps": 2, "output_type": "latent"}, callback_on_step_end=watch, seed=0
    ).images
    assert [number for number, _ in seen] == [0, 1, 2]  # PNDM's first step is two
    assert not found.any()


def test_a_prompt_that_is_too_long_is_cut_with_a_line(pair, caplog):
    _, ours, _ = pair
    with caplog.at_level(logging.WARNING, "ms_ddpm"):
        ours(**QUICK | {"prompt": "three " * 500}, seed=0)
    assert len([r for r in caplog.records if "cut to the 77" in r.getMessage()]) == 1


def test_it_is_saved_as_diffusers_reads_it(pair, tmp_path):
    import diffusers

    theirs, ours, _ = pair
    ours.save_pretrained(tmp_path)
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    for part in ("unet", "vae", "text_encoder"):
        before, after = (getattr(pipe, part).state_dict() for pipe in (theirs, again))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), part
    assert type(again.scheduler).__name__ == "PNDMScheduler"
    assert again.scheduler.config.steps_offset == 1


WRONG = {
    "no prompt": ({"prompt": None}, "expected one of them"),
    "a number": ({"prompt": 3}, "prompt is 3, expected a text"),
    "more layers than there are": ({"clip_skip": 3}, "clip_skip is 3, expected 0 to 2, the text encoder's layers"),
    "sides": ({"height": 33}, "height is 33, expected a multiple of 2"),
    "negatives": ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
    "pictures": ({"num_images_per_prompt": 0}, "expected at least 1"),
    "output": ({"output_type": "pt"}, "expected one of: pil, np, latent"),
    "a torch generator": ({"generator": torch.Generator()}, "torch._C.Generator, expected a numpy Generator"),
    "two sources": ({"seed": 1, "noise": TAPE}, "expected at most one of them"),
    "a dry tape": ({"noise": []}, "the noise ran out before x_T"),
    "latents": ({"latents": LATENTS[:, :3]}, r"latents have shape \(4, 3, 16, 12\)"),
    "latents that are none": ({"latents": LATENTS[:1] * np.nan}, "latents has numbers that are not finite"),
    "embeddings that are none": (
        {"prompt": None, "prompt_embeds": np.full((1, 77, 12), np.inf, np.float32)}, "prompt_embeds has numbers that"),
    "guidance": ({"guidance_scale": float("nan")}, "guidance_scale is nan, expected a finite number; 1 is no guidance"),
    "no guidance": ({"guidance_scale": None}, "guidance_scale is None, expected a finite number"),
    "guidance in words": ({"guidance_scale": "7"}, "guidance_scale is '7', expected"),
    "guidance beyond": ({"guidance_scale": 10**400}, "guidance_scale is .*, expected a finite number"),
    "rescaling": ({"guidance_rescale": 2}, "guidance_rescale is 2, expected a number from 0 to 1"),
    "rescaling in words": ({"guidance_rescale": "x"}, "guidance_rescale is 'x', expected a number from 0 to 1"),
    "eta": ({"eta": 5}, "eta is 5, expected a number from 0 to 1"),
    "a seed below": ({"seed": -1}, "seed is -1, expected a whole number of at least 0"),
    "a seed in words": ({"seed": "x"}, "seed is 'x', expected a whole number"),
    "an adapter of images": ({"ip_adapter_image": IMAGES[0]}, "ip_adapter_image is .*; IP-Adapters are not supported"),
    "an old callback": ({"callback": print}, "callback is .*older versions: give callback_on_step_end="),
    "its steps": ({"callback_steps": 2}, "callback_steps is 2, expected nothing"),
    "a crop": ({"padding_mask_crop": 32}, "padding_mask_crop is 32, .*crop image and mask_image yourself"),
    "masked latents": ({"masked_image_latents": LATENTS}, "masked_image_latents is .*encoded here"),
    "no argument": ({"guidance": 7}, "is called with guidance, and has no such argument"),
    "no callback": ({"callback_on_step_end": 3}, "callback_on_step_end is 3, expected a function"),
    "what a callback asks for": (
        {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, r"\['prompt_embeds'\], expected \['latents'\]"),
    "attention": ({"cross_attention_kwargs": {"gligen": 1}}, "cross_attention_kwargs is {'gligen': 1}, expected"),
    "attention's scale": ({"cross_attention_kwargs": {"scale": "x"}}, "the scale of cross_attention_kwargs is 'x'"),
    "its own times": ({"timesteps": [900, 1]}, r"timesteps is \[900, 1\], and PNDMScheduler has times of its own"),
    "two times": ({"timesteps": [900], "sigmas": [3, 0]}, "timesteps and sigmas were given together"),
    "an old order": ({"timesteps": 7.5}, "timesteps is 7.5"),
    "a mask alone": ({"mask_image": MASKS}, "without image"),
    "strength alone": ({"strength": 0.5}, "without image"),
    "strength": ({"image": IMAGES[:1], "strength": 1.5}, "strength is 1.5, expected a number above 0"),
    "strength in words": ({"image": IMAGES[:1], "strength": "x"}, "strength is 'x', expected a number above 0"),
    "hardly any strength": ({"image": IMAGES[:1], "strength": 0.01, "num_inference_steps": 3}, "less than one step"),
    "range": ({"image": 255 * IMAGES[:1]}, "expected 0 to 1"),
    "image's sides": ({"image": IMAGES[:1, :31]}, "the height of image is 31, expected a multiple of 2"),
    "image's shape": ({"image": IMAGES[0, 0]}, "expected images of one size"),
    "the mask's size": ({"image": IMAGES[:1], "mask_image": MASKS[:1, :16]}, "expected the image's"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_line(pair, what):
    given, words = WRONG[what]
    with pytest.raises(UserError, match=words) as raised:
        pair[1](**{**QUICK, **given})
    assert len(str(raised.value).splitlines()) == 1


def damaged(folder, refused):
    """Has a pipeline in ``folder`` refused for a damage of its unet, one after the other; at the end it is whole."""
    from safetensors.numpy import load_file, save_file

    weights, config = folder / "unet/diffusion_pytorch_model.safetensors", folder / "unet/config.json"
    whole, said = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-40])
    refused(folder, "diffusion_pytorch_model.safetensors cannot be read: it is cut short: .*copy the file again")
    weights.write_bytes(whole)
    arrays = load_file(weights)
    save_file(arrays | {"conv_in.weight": arrays["conv_in.weight"][:, :3].copy()}, weights)
    refused(folder, r"weights in .*unet are not those of its config.json: conv_in.weight has shape \(8, 3, 3, 3\)")
    weights.write_bytes(whole)
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "cross_attention_dim": 2048,
          "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10]}  # fmt: skip
    config.write_text(json.dumps(json.loads(said) | xl))
    refused(folder, "unet/config.json: addition_embed_type is 'text_time', and only None is supported")
    config.unlink()
    refused(folder, "there is no config.json in .*unet, expected that of a UNet2DConditionModel")
    config.write_text(said)


def test_a_directory_that_is_not_one_is_one_line(pair, tmp_path):
    import shutil

    from ms_ddpm import StableDiffusionPipeline

    def refused(folder, words):
        with pytest.raises(UserError, match=words) as raised:
            StableDiffusionPipeline.from_pretrained(folder)
        assert len(str(raised.value).splitlines()) == 1

    refused("runwayml/stable-diffusion-v1-5", "is no directory on this disk.*hf download")
    folder = shutil.copytree(pair[2], tmp_path / "sd")
    index = json.loads((folder / "model_index.json").read_text())
    for change, words in (
        ({"unet": ["diffusers", "SD3Transformer2DModel"]}, "SD3Transformer2DModel.*expected one of"),
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "text_encoder_2"),
        ({"vae": None}, "names no vae"),
        (
            {"_class_name": "StableDiffusionXLPipeline"},
            "'StableDiffusionXLPipeline', and StableDiffusionPipeline draws",
        ),
        ({"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "holds a 'StableDiffusionInstructPix2PixPipeline'"),
        ({"_class_name": "DDPMPipeline"}, "holds a 'DDPMPipeline'"),
    ):
        (folder / "model_index.json").write_text(json.dumps({**index, **change}))
        refused(folder, words)
    (folder / "model_index.json").write_text(json.dumps(index))
    damaged(folder, refused)
    shutil.rmtree(folder / "unet")
    refused(folder, "there is no directory .*unet")
    (folder / "model_index.json").unlink()
    refused(folder, "cannot read .*model_index.json: No such file")


def test_what_scripts_say_to_diffusers_is_understood(pair, tmp_path, capsys, caplog):
    from ms_ddpm import DDIMScheduler, StableDiffusionPipeline
    from ms_ddpm.pipelines.base import WITHOUT_EFFECT

    _, _, folder = pair
    flags = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": True, "revision": None}
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", cache_dir=tmp_path, **flags)
    pipe = StableDiffusionPipeline.from_pretrained(folder, scheduler=scheduler, cache_dir=tmp_path, token="x", **flags)
    assert type(pipe.scheduler) is DDIMScheduler
    with pytest.raises(UserError, match="use_safetensors is False, expected true or nothing"):
        StableDiffusionPipeline.from_pretrained(folder, use_safetensors=False)
    for what in WITHOUT_EFFECT:
        getattr(pipe, f"enable_{what}")("auto")
        getattr(pipe, f"disable_{what}")()
    assert len(caplog.records) == len(WITHOUT_EFFECT)
    assert caplog.records[-1].getMessage() == (
        "enable_sequential_cpu_offload does nothing here: all networks stay on the device that MindSpore computes on"
    )
    assert pipe.to(pipe.device) is pipe
    again = StableDiffusionPipeline(**pipe.components)
    assert again.components == pipe.components
    again.set_progress_bar_config(leave=False, desc="a three")
    few = QUICK | {"guidance_scale": 1.0, "output_type": "latent", "callback_on_step_end_tensor_inputs": ["latents"]}
    named = again(**few, seed=0).images
    assert "a three" in capsys.readouterr().err
    again.set_progress_bar_config(disable=True)
    ordered = again(  # as diffusers has them
        "a three", 16, 12, 1, None, None, 1.0, None, 1, 0.0, np.random.default_rng(0), None, None, None, None, None,
        "latent", False, None, 0.0, None, None, ["latents"],
    )  # fmt: skip
    assert named.shape == ordered[0].shape == (1, 4, 8, 6)


@pytest.mark.parametrize("given", [{"timesteps": [901, 500, 37]}, {"sigmas": [9.0, 2.5, 0.4, 0.0]}], ids=str)
def test_a_chain_has_its_own_times_where_the_scheduler_takes_them(pair, given):
    import diffusers

    from ms_ddpm import EulerDiscreteScheduler

    theirs, ours, _ = pair
    before = theirs.scheduler, ours.scheduler
    try:
        theirs.scheduler = diffusers.EulerDiscreteScheduler.from_config(SD1)
        ours.scheduler = EulerDiscreteScheduler.from_config(SD1)
        few = {**texts(height=HEIGHT, width=WIDTH, guidance_scale=3.0), **given}
        expected = theirs(**few, latents=torch.from_numpy(LATENTS)).images
        close(ours(**few, latents=LATENTS).images, expected)
        if "timesteps" in given:
            few = {**texts(strength=0.7), **given}
            with drawn_from(TAPE):
                expected = sister(theirs, "StableDiffusionImg2ImgPipeline")(**few, image=first_and_last(IMAGES)).images
            close(ours(**few, image=IMAGES, noise=TAPE).images, expected)
    finally:
        theirs.scheduler, ours.scheduler = before


def test_another_part_in_a_pipeline_is_drawn_with_and_saved(pair, tmp_path):
    from ms_ddpm import DDIMScheduler, StableDiffusionPipeline

    ours = StableDiffusionPipeline.from_pretrained(pair[2])
    ours.set_progress_bar_config(disable=True)
    ours.scheduler = DDIMScheduler.from_config(ours.scheduler.config)
    quick = QUICK | {"output_type": "latent", "guidance_scale": 1.0}
    before = ours(**quick, seed=0).images
    ours.unet = type(ours.unet)(**{key: ours.unet.config[key] for key in ours.unet.settings()}, rng=3)
    assert np.abs(ours(**quick, seed=0).images - before).max() > 0.01
    ours.save_pretrained(tmp_path)
    again = StableDiffusionPipeline.from_pretrained(tmp_path)
    assert type(again.scheduler) is DDIMScheduler
    assert np.array_equal(again.unet.conv_in.weight.asnumpy(), ours.unet.conv_in.weight.asnumpy())


# --- LoRA -------------------------------------------------------------------------------------------------------------


def lora_of(pipe, folder, seed, rank, alpha):
    """A LoRA file for ``pipe`` as a training run of diffusers ends, with numbers that count."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    rng = np.random.default_rng(seed)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), adapter_name="made")
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet, adapter_name="made"))
    state = {
        name: torch.from_numpy(0.5 * rng.standard_normal(value.shape).astype(np.float32))
        for name, value in state.items()
    }
    pipe.save_lora_weights(folder, unet_lora_layers=state)
    pipe.unet.delete_adapters("made")
    return folder


def test_loras_draw_diffusers_s_pictures(pair, tmp_path):
    pytest.importorskip("peft")
    theirs, ours, _ = pair
    few = texts(height=HEIGHT, width=WIDTH, num_inference_steps=2)

    def ours_drawn():
        return ours(**few, latents=LATENTS).images

    def theirs_drawn():
        return theirs(**few, latents=torch.from_numpy(LATENTS)).images

    bare = ours_drawn()
    files = {name: lora_of(theirs, tmp_path / name, i, 2 + i, 2 + i) for i, name in enumerate(("one", "two"))}
    for name, path in files.items():
        theirs.load_lora_weights(path, adapter_name=name)
        ours.load_lora_weights(path, adapter_name=name)
    assert ours.get_list_adapters_names() == ["one", "two"]
    for names, weights in ((["one"], [0.7]), (["one", "two"], [0.4, -0.9])):
        theirs.set_adapters(names, weights)
        ours.set_adapters(names, weights)
        found, expected = ours_drawn(), theirs_drawn()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert np.abs(found - bare).max() > 0.01, "it does something"
    beside = ours_drawn()
    ours.fuse_lora()
    np.testing.assert_allclose(ours_drawn(), beside, atol=1e-5)
    ours.unfuse_lora()
    assert np.array_equal(ours_drawn(), beside)
    ours.fuse_lora(0.5)
    half = ours_drawn()
    ours.unfuse_lora()
    assert np.array_equal(ours_drawn(), beside), "a share of the fusion is no scale of the adapters"
    ours.set_adapters(["one", "two"], [0.2, -0.45])
    np.testing.assert_allclose(ours_drawn(), half, atol=1e-5)
    ours.set_adapters(["one", "two"], 0.0)
    assert np.array_equal(ours_drawn(), bare), "scale 0 is the base, bit for bit"
    ours.set_adapters(["one", "two"], [0.4, -0.9])
    scale = {"cross_attention_kwargs": {"scale": 0.3}}
    theirs_at = theirs(**few, **scale, latents=torch.from_numpy(LATENTS)).images
    np.testing.assert_allclose(ours(**few, **scale, latents=LATENTS).images, theirs_at, atol=1e-4)
    assert np.abs(theirs_at - beside).max() > 0.01
    ours.disable_lora()
    assert np.array_equal(ours_drawn(), bare)
    ours.enable_lora()
    assert np.array_equal(ours_drawn(), beside)
    with pytest.raises(UserError, match="no LoRA is called 'three'; loaded: one, two"):
        ours.set_adapters("three")
    assert ours.get_list_adapters() == theirs.get_list_adapters() == {"unet": ["one", "two"]}
    ours.save_lora_weights(tmp_path / "saved", "two")
    for pipe in (ours, theirs):
        pipe.set_adapters("one")
        assert pipe.get_active_adapters() == ["one"]
        pipe.delete_adapters("two")
        pipe.load_lora_weights(tmp_path / "saved", adapter_name="again", local_files_only=True)
        pipe.set_adapters(["one", "again"], [0.4, -0.9])
    np.testing.assert_allclose(theirs_drawn(), beside, atol=1e-4)
    assert np.array_equal(ours_drawn(), beside)
    ours.unload_lora_weights()
    theirs.unload_lora_weights()
    assert np.array_equal(ours_drawn(), bare)
    assert ours.get_list_adapters_names() == []


def test_a_lora_in_the_place_of_another_has_a_graph_of_its_own(pair, tmp_path):
    """A graph that was compiled for the first would draw with that, though names and ranks are the same."""
    pytest.importorskip("peft")
    theirs, ours, _ = pair

    def make(unet):
        def output(x, t, context):
            return unet(x, t, context)

        return output

    made = [ours.graph("what", make, ours.unet)]
    for i in range(2):
        ours.load_lora_weights(lora_of(theirs, tmp_path / str(i), i, 2, 2))
        made += [ours.graph("what", make, ours.unet), ours.graph("what", make, ours.unet)]
        ours.unload_lora_weights()
    made.append(ours.graph("what", make, ours.unet))
    bare, first, again, second, _, at_last = made
    assert first is again
    assert len({bare, first, second}) == 3
    assert at_last is bare
    assert len([name for name, *_ in ours.graphs if name == "what"]) == 1, "what cannot come back is forgotten"


def test_a_lora_of_both_networks_is_weighed_by_network_and_by_call(pair, tmp_path):
    from ms_ddpm.nn.adapters import adapters_of

    _, ours, _ = pair
    rng = np.random.default_rng(4)
    targets = {"unet": ("to_q", "to_out.0"), "text_encoder": ("q_proj", "fc1")}

    def drawn(**more):
        return ours(**QUICK | {"output_type": "latent"} | more, seed=0).images

    def acting():
        return [low.scale.asnumpy() for of in ours.adapters.values() for one in of._of.values() for low in one.values()]

    bare = drawn()
    for network, adapters in ((name, adapters_of(getattr(ours, name))) for name in targets):
        adapters.add("both", rank=2, alpha=3, targets=targets[network], rng=rng)
        made = adapters.factors("both")
        full = {path: of._replace(up=rng.standard_normal(of.up.shape, np.float32)) for path, of in made.items()}
        adapters.load("both", full)
    ours.set_adapters("both", {"unet": 0.3, "text_encoder": -0.6})
    assert ours.get_list_adapters() == {"unet": ["both"], "text_encoder": ["both"]}
    halved, before = drawn(cross_attention_kwargs={"scale": 0.5}), acting()
    with pytest.raises(KeyError, match="stopped"):
        drawn(cross_attention_kwargs={"scale": 0.5}, callback_on_step_end=lambda *state: {}["stopped"])
    assert all(map(np.array_equal, acting(), before))
    assert [adapters.scales for adapters in ours.adapters.values()] == [{"both": 0.3}, {"both": -0.6}]
    whole = drawn()
    ours.set_adapters("both", {"unet": 0.15, "text_encoder": -0.3})
    assert np.array_equal(drawn(), halved)
    ours.set_adapters(["both"], [{"unet": 0.15}])  # and 1 of the text encoder's
    ours.save_lora_weights(tmp_path)
    other = drawn()
    assert min(np.abs(a - b).max() for a, b in ((bare, halved), (halved, whole), (whole, other))) > 1e-3
    ours.fuse_lora(components=["unet"])
    assert [adapters.fused for adapters in ours.adapters.values()] == [True, False]
    np.testing.assert_allclose(drawn(), other, atol=1e-3)
    with pytest.raises(UserError, match="fused into the weights; other scales would have no effect: unfuse first"):
        drawn(cross_attention_kwargs={"scale": 0.5})
    ours.unfuse_lora(components=["unet"])
    assert np.array_equal(drawn(), other)
    for call, words in (
        (lambda: ours.fuse_lora(components=["vae"]), "components has 'vae', expected some of: unet, text_encoder"),
        (lambda: ours.fuse_lora(adapter_names=["both"]), "call set_adapters with them"),
        (lambda: ours.set_adapters("both", {"vae": 1.0}), "adapter 'both' have 'vae', expected: unet, text_encoder"),
        (lambda: ours.set_adapters("both", {"unet": {"down": 1}}), "the scale of adapter 'both' is {'down': 1}, expec"),
        (lambda: ours.set_adapters("both", "1"), "the scale of adapter 'both' is '1', expected a finite number"),
        (lambda: ours.set_adapters(["both"], [1.0, 2.0]), "2 numbers for 1 adapters"),
        (lambda: ours.set_adapters(None), "no LoRA is called None; loaded: both"),
        (lambda: ours.load_lora_weights(tmp_path, 3), "an adapter is called 3, expected a name without dots"),
        (lambda: ours.load_lora_weights(None), "None stood in the place of a LoRA file, expected the path"),
        (lambda: ours.load_lora_weights({"unet.x": 1}), "the numbers of a LoRA stood in the place of a LoRA file"),
        (lambda: ours.load_lora_weights(tmp_path, weight_name=3), "3 stood in the place of a LoRA file"),
        (lambda: ours.load_lora_weights(tmp_path, prefix="x"), "no argument 'prefix'"),
        (lambda: ours.save_lora_weights(tmp_path, "other"), "adapter_name is 'other', expected one of .*: both"),
        (lambda: ours.delete_adapters("other"), "no LoRA is called 'other'; loaded: both"),
    ):
        with pytest.raises(UserError, match=words):
            call()
    ours.delete_adapters(["both"])
    assert np.array_equal(drawn(), bare)
    ours.load_lora_weights(tmp_path)
    ours.set_adapters("default_0", {"unet": 0.15})
    assert np.array_equal(drawn(), other)
    ours.unload_lora_weights()


# As a page of notes on diffusers' training script has it, which many copied: a LoRA by the network's own method.
SCRIPT = """
from diffusers import StableDiffusionPipeline
import torch
model_path = "./sd-model-finetuned-lora"
pipe = StableDiffusionPipeline.from_pretrained("CompVis/stable-diffusion-v1-4", torch_dtype=torch.float16)
pipe.unet.load_attn_procs(model_path)
pipe.to("cuda")
prompt = "A pokemon with green head and white legs."
image = pipe(prompt, num_inference_steps=30, guidance_scale=7.5).images[0]
image.save("pokemon.png")
"""


def test_an_old_script_draws_with_its_lora(pair, tmp_path, monkeypatch):
    """In half precision, word for word but for the library's name, the directory, the device and the steps."""
    pytest.importorskip("peft")
    from PIL import Image

    from ms_ddpm.pipelines import base

    theirs, _, folder = pair
    lora_of(theirs, tmp_path / "sd-model-finetuned-lora", 3, 2, 4)
    monkeypatch.chdir(tmp_path)
    tape = base.noise_tape
    monkeypatch.setattr(base, "noise_tape", lambda seed, *which: tape(3, *which))  # the script gives no seed
    here = SCRIPT
    for other, own in (
        ("from diffusers", "from ms_ddpm"), ("CompVis/stable-diffusion-v1-4", str(folder)), ("cuda", "cpu"),
        ("steps=30", "steps=1"),
    ):  # fmt: skip
        here = here.replace(other, own)
    made = {}
    exec(here, made)
    pipe, found = made["pipe"], np.asarray(Image.open("pokemon.png"))
    assert found.shape == (24, 24, 3)

    def drawn():
        return np.asarray(pipe(made["prompt"], num_inference_steps=1, guidance_scale=7.5).images[0])

    assert pipe.get_list_adapters_names() == ["default_0"]
    pipe.unet.save_attn_procs("saved")
    pipe.unload_lora_weights()
    assert not np.array_equal(found, drawn())
    pipe.load_lora_weights("saved")
    assert np.array_equal(found, drawn())
    with pytest.raises(UserError, match=r"cannot go to 'cuda', since MindSpore computes on CPU \(cpu\); choose"):
        pipe.to("cuda")
    pipe.unet.load_attn_procs("saved", adapter_name="other", weight_name="pytorch_lora_weights.safetensors")
    assert pipe.get_list_adapters_names() == ["default_0", "other"]
    with pytest.raises(UserError, match=r"adapter_name is not given, expected one of the LoRAs.*: default_0, other"):
        pipe.unet.save_attn_procs("saved")


def test_a_network_of_another_width_is_one_line(pair):
    from ms_ddpm import StableDiffusionPipeline
    from ms_ddpm.models.clip_text import CLIPTextModel

    _, ours, _ = pair
    narrow = CLIPTextModel(vocab_size=600, hidden_size=6, intermediate_size=8, num_hidden_layers=1,
                           num_attention_heads=2, rng=0)  # fmt: skip
    with pytest.raises(UserError, match="gives vectors of 6, and the unet expects 12"):
        StableDiffusionPipeline(ours.vae, narrow, ours.tokenizer, ours.unet, ours.scheduler)
    settings = {key: ours.unet.config[key] for key in ours.unet.settings()}
    of_edits = type(ours.unet)(**settings | {"in_channels": 8}, rng=0)  # InstructPix2Pix
    with pytest.raises(UserError, match="takes 8 channels and the latents have 4, expected 4, or for inpainting 9"):
        StableDiffusionPipeline(**ours.components | {"unet": of_edits})
