"""How StableDiffusionPipeline is called, what it refuses, what it saves; LoRA files in it."""

import json
import logging

import numpy as np
import pytest
import torch

from ms_ddpm.errors import UserError

from .directories import HEIGHT, WIDTH, drawn_from, sister, stable_diffusion
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
    "a mask alone": ({"mask_image": MASKS}, "without image"),
    "strength alone": ({"strength": 0.5}, "without image"),
    "strength": ({"image": IMAGES[:1], "strength": 1.5}, "strength is 1.5, expected a number above 0"),
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
    ):
        (folder / "model_index.json").write_text(json.dumps({**index, **change}))
        refused(folder, words)
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(folder / "unet")
    refused(folder, "there is no directory .*unet")
    (folder / "model_index.json").unlink()
    refused(folder, "cannot read .*model_index.json: No such file")


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
    with pytest.raises(UserError, match="no LoRA is called 'three'; loaded: one, two"):
        ours.set_adapters("three")
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
