"""StableDiffusionPipeline against diffusers' own, on directories that diffusers wrote: 30 steps, guidance 7.5."""

import numpy as np
import pytest
import torch

from .directories import HEIGHT, SD1, WIDTH, drawn_from, sister

pytest.importorskip("diffusers")
pytest.importorskip("tokenizers")

pytestmark = pytest.mark.graph  # hundreds of steps of one network
PROMPTS = ["a red three", "two white legs, bold"]
NEGATIVE = "grey"
COMMON = {"num_inference_steps": 30, "guidance_scale": 7.5, "output_type": "np"}
RNG = np.random.default_rng(1)
LATENTS = RNG.standard_normal((4, 4, HEIGHT // 2, WIDTH // 2), dtype=np.float32)
TAPE = [RNG.standard_normal(LATENTS.shape, dtype=np.float32) for _ in range(40)]
IMAGES = RNG.random((4, HEIGHT, WIDTH, 3), dtype=np.float32)
MASKS = (RNG.random((4, HEIGHT, WIDTH, 1)) > 0.5).astype(np.float32)
SCHEDULERS = {
    "DDIM": {}, "PNDM": {}, "DPMSolverMultistep": {"use_karras_sigmas": True}, "UniPCMultistep": {},
    "EulerDiscrete": {}, "EulerAncestralDiscrete": {},
}  # fmt: skip


def others(*names):
    """What only --all draws: the same chain from another beginning."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULERS if name not in names]


@pytest.fixture
def scheduled(request, pair):
    """The pair with one of the schedulers; the usual one comes back behind it."""
    import diffusers

    from ms_ddpm import schedulers

    theirs, ours, _ = pair
    before, name, extra = (theirs.scheduler, ours.scheduler), f"{request.param}Scheduler", SCHEDULERS[request.param]
    given = SD1 if request.param != "PNDM" else {k: v for k, v in SD1.items() if k != "clip_sample"}
    theirs.scheduler = getattr(diffusers, name).from_config(given, **extra)
    ours.scheduler = getattr(schedulers, name).from_config(given, **extra)
    yield theirs, ours
    theirs.scheduler, ours.scheduler = before


def first_and_last(of_each):
    """PyTorch's channels first."""
    return torch.from_numpy(np.ascontiguousarray(np.transpose(of_each, (0, 3, 1, 2))))


def texts(**more):
    """Two prompts and a negative one for each, two pictures of each prompt."""
    return {"prompt": PROMPTS, "negative_prompt": [NEGATIVE] * 2, "num_images_per_prompt": 2, **COMMON, **more}


def close(found, expected):
    assert found.shape == expected.shape == (4, HEIGHT, WIDTH, 3)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("scheduled", SCHEDULERS, indirect=True)
def test_pictures_of_prompts_are_diffusers_s(scheduled):
    theirs, ours = scheduled
    size = {"height": HEIGHT, "width": WIDTH}
    with drawn_from(TAPE):
        expected = theirs(**texts(latents=torch.from_numpy(LATENTS), **size)).images
    close(ours(**texts(latents=LATENTS, noise=TAPE, **size)).images, expected)


@pytest.mark.parametrize("scheduled", ["DDIM", "PNDM", *others("DDIM", "PNDM")], indirect=True)
def test_images_are_changed_as_diffusers_s(scheduled):
    theirs, ours = scheduled
    with drawn_from(TAPE):
        expected = sister(theirs, "StableDiffusionImg2ImgPipeline")(
            **texts(image=first_and_last(IMAGES), strength=0.6)
        ).images
    close(ours(**texts(image=IMAGES, strength=0.6, noise=TAPE)).images, expected)


@pytest.mark.parametrize(
    ("scheduled", "strength"),
    [("DDIM", 0.7), ("EulerAncestralDiscrete", 1.0)]
    + [pytest.param(name, strength, marks=pytest.mark.slow) for name in SCHEDULERS for strength in (0.7, 1.0)
       if (name, strength) not in {("DDIM", 0.7), ("EulerAncestralDiscrete", 1.0)}],
    indirect=["scheduled"],
)  # fmt: skip
def test_masks_are_filled_in_as_diffusers_s(scheduled, strength):
    theirs, ours = scheduled
    with drawn_from(TAPE):
        expected = sister(theirs, "StableDiffusionInpaintPipeline")(
            **texts(image=first_and_last(IMAGES), mask_image=first_and_last(MASKS), strength=strength),
            height=HEIGHT, width=WIDTH,
        ).images  # fmt: skip
    without_masked = [*TAPE[:2], *TAPE[3:]]  # diffusers draws the masked image's latents and does not use them
    close(ours(**texts(image=IMAGES, mask_image=MASKS, strength=strength, noise=without_masked)).images, expected)
