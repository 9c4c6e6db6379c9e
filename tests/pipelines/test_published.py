"""Directories of Stable Diffusion as they were published, in half precision, and what is refused of them."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ms_ddpm.errors import UserError

from .directories import HEIGHT, PUBLISHED, WIDTH, published
from .test_stable_diffusion import IMAGES, LATENTS, texts

pytest.importorskip("diffusers")
pytest.importorskip("tokenizers")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of diffusers, at networks this small
@pytest.mark.parametrize("kind", PUBLISHED)
def test_directories_as_they_were_published_draw_diffusers_s_pictures(directory, tmp_path, kind):
    """Also what their scripts ask for: no safety checker."""
    import diffusers

    from ms_ddpm import StableDiffusionPipeline

    place = published(directory[1], tmp_path / "sd", kind)
    asked = {"safety_checker": None, "requires_safety_checker": False}
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(place, feature_extractor=None, **asked)
    ours = StableDiffusionPipeline.from_pretrained(place, **asked)
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    few = texts(height=HEIGHT, width=WIDTH, num_inference_steps=2)
    expected = theirs(**few, latents=torch.from_numpy(LATENTS)).images
    found = ours(**few, latents=LATENTS).images
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.05
    assert ours.scheduler.config.prediction_type == ("epsilon" if kind == "v1-5" else "v_prediction")


def test_half_precision_by_its_variant_and_a_directory_of_pickles(directory, tmp_path):
    from ms_ddpm import StableDiffusionPipeline

    shutil.copytree(directory[1], tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*/*.safetensors"):
        half = {name: value.astype(np.float16) for name, value in load_file(file).items()}
        save_file(half, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
        file.unlink()
    again = StableDiffusionPipeline.from_pretrained(tmp_path, variant="fp16", dtype="float16")
    wide = StableDiffusionPipeline.from_pretrained(tmp_path, variant="fp16")
    drawn = []
    for pipe in (again, wide):
        pipe.set_progress_bar_config(disable=True)
        few = {"num_inference_steps": 1, "strength": 1.0, "output_type": "np", "seed": 0, "guidance_scale": 1.0}
        drawn.append(pipe("a three", **few, image=IMAGES[:1, :16, :12]).images)
    np.testing.assert_allclose(drawn[0], drawn[1], atol=0.01)
    assert not np.array_equal(*drawn)
    with pytest.raises(UserError, match=r"no .*/diffusion_pytorch_model.safetensors; .* set variant= to what stands"):
        StableDiffusionPipeline.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="dtype and torch_dtype were both given"):
        StableDiffusionPipeline.from_pretrained(tmp_path, variant="fp16", dtype="float16", torch_dtype="float16")
    for file in tmp_path.glob("*/*.safetensors"):
        file.rename(file.with_name(file.name.replace(".fp16.safetensors", ".bin")))
    with pytest.raises(
        UserError, match=r"the directory has .*\.bin; a \.bin file is a pickle.*save the model anew"
    ) as said:
        StableDiffusionPipeline.from_pretrained(tmp_path)
    assert len(str(said.value).splitlines()) == 1
