"""DDPMPipeline and DDIMPipeline against diffusers' own, on a small sister of google/ddpm-cifar10-32."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

from .directories import drawn_from, unconditional

pytest.importorskip("diffusers")

RNG = np.random.default_rng(2)
TAPE = [RNG.standard_normal((3, 3, 8, 8), dtype=np.float32) for _ in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return unconditional(tmp_path_factory.mktemp("unconditional"))


@pytest.mark.parametrize(("name", "options"), [("DDPM", {}), ("DDIM", {}), ("DDIM", {"eta": 0.6})])
def test_pictures_are_diffusers_s(mindspore, folder, name, options):
    import diffusers

    import ms_ddpm

    theirs = getattr(diffusers, f"{name}Pipeline").from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    ours = getattr(ms_ddpm, f"{name}Pipeline").from_pretrained(folder)
    ours.set_progress_bar_config(disable=True)
    asked = {"batch_size": 3, "num_inference_steps": 10, "output_type": "np", **options}
    with drawn_from(TAPE):
        expected = theirs(**asked).images
    found = ours(**asked, noise=TAPE).images
    assert found.shape == expected.shape == (3, 8, 8, 3)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_seed_gives_its_pictures_whatever_their_number(mindspore, folder):
    from ms_ddpm import DDPMPipeline

    ours = DDPMPipeline.from_pretrained(folder)
    ours.set_progress_bar_config(disable=True)
    three, two = (ours(n, num_inference_steps=2, output_type="np", seed=1).images for n in (3, 2))
    np.testing.assert_allclose(three[:2], two, atol=1e-5)
    assert np.abs(three[0] - three[1]).max() > 0.01
    (picture,) = ours(num_inference_steps=2, seed=1, return_dict=False)[0]
    assert np.abs(np.asarray(picture) / 255 - two[0]).max() < 0.003


def test_what_does_not_fit_is_one_line(mindspore, folder):
    from ms_ddpm import DDIMPipeline

    ours = DDIMPipeline.from_pretrained(folder)
    for given, words in (
        ({"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
        ({"output_type": "latent"}, "output_type is 'latent', expected one of: pil, np"),
        ({"eta": 1.5}, "eta is 1.5, expected a number from 0 to 1"),
        ({"seed": -1}, "seed is -1, expected a whole number of at least 0"),
        ({"noise": [TAPE[0][:1]]}, r"the noise for x_T has shape \(1, 3, 8, 8\), expected \(2, 3, 8, 8\)"),
    ):
        with pytest.raises(UserError, match=words):
            ours(**{"batch_size": 2, "num_inference_steps": 2, **given})


def test_another_pipeline_s_directory_is_one_line(mindspore, tmp_path):
    from ms_ddpm import DDIMPipeline

    (tmp_path / "model_index.json").write_text('{"_class_name": "LDMPipeline"}')
    with pytest.raises(UserError, match="holds a 'LDMPipeline', and DDIMPipeline draws from one of: DDPMPipel"):
        DDIMPipeline.from_pretrained(tmp_path)
