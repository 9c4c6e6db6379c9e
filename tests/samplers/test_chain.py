"""Chains, what a noise tape must be, and what is refused. Every sampler's numbers are for parity_tests (tier 5)."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from ms_ddpm.maths.random import Tape, noise_tape

T = 12
SHAPE = (3, 1, 4, 6)  # not square: height and width must not change places


@pytest.fixture(scope="module")
def diffusion(mindspore):
    from mindspore import nn

    from ms_ddpm import GaussianDiffusion

    class Known(nn.Cell):
        channels, out_dim, self_condition = 1, 1, False

        def construct(self, x, t, x_self_cond=None):
            return 0.8 * x

    return GaussianDiffusion(Known(), image_size=SHAPE[2:], timesteps=T, objective="pred_noise", beta_schedule="cosine")


def tape(count, seed=0):
    return list(np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32))


def test_chains_of_images_that_are_not_square_are_the_oracles(diffusion):
    from ms_ddpm import samplers
    from parity_tests import oracle

    def known(x, t, x_self_cond=None):
        return 0.8 * x

    known.channels, known.out_dim, known.self_condition = 1, 1, False
    exact = oracle.Diffusion(known, image_size=SHAPE[2:], timesteps=T, objective="pred_noise", beta_schedule="cosine")
    options = {"return_all_timesteps": True, "progress": False}
    arrays = tape(T)
    ddpm = samplers.ddpm(diffusion, 3, noise=arrays, **options).asnumpy()
    np.testing.assert_allclose(ddpm, exact.ddpm_chain(arrays, return_all_timesteps=True), rtol=0, atol=2e-5)
    ddim = samplers.ddim(diffusion, 3, steps=5, eta=0.5, noise=arrays, **options).asnumpy()
    np.testing.assert_allclose(ddim, exact.ddim_chain(arrays, 5, 0.5, return_all_timesteps=True), rtol=0, atol=2e-5)
    x1, x2 = np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)
    between = samplers.interpolate(diffusion, x1, x2, 5, 0.25, noise=arrays, progress=False).asnumpy()
    np.testing.assert_allclose(between, exact.interpolate(x1, x2, 5, 0.25, noise=arrays), rtol=0, atol=2e-5)


def test_an_image_is_the_same_whatever_the_batch(diffusion):
    from ms_ddpm import samplers

    alone = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, batch_size=2, progress=False)
    together = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, batch_size=5, progress=False)
    assert alone == pytest.approx(together, abs=1e-6)
    assert np.ptp(alone.std(axis=(1, 2, 3))) > 0
    other = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, seed=1, progress=False)
    assert np.abs(other - together).max() > 0.1


def test_sample_is_ddim_exactly_when_the_steps_are_fewer(mindspore, diffusion):
    from ms_ddpm import GaussianDiffusion, samplers

    fewer = GaussianDiffusion(
        diffusion.model,
        image_size=SHAPE[2:],
        timesteps=T,
        sampling_timesteps=5,
        objective="pred_noise",
        beta_schedule="cosine",
    )
    expected = samplers.ddim(diffusion, 2, steps=5, seed=3, progress=False).asnumpy()
    assert np.array_equal(fewer.sample(2, seed=3).asnumpy(), expected)
    assert np.array_equal(diffusion.sample(2, seed=3).asnumpy(), samplers.ddpm(diffusion, 2, seed=3).asnumpy())


def test_a_tape_that_runs_dry_or_has_another_shape_is_an_error(diffusion):
    from ms_ddpm import samplers

    with pytest.raises(UserError, match="ran dry after 4 arrays"):
        samplers.ddim(diffusion, 3, steps=5, noise=tape(4), progress=False)
    with pytest.raises(UserError, match=r"shape \(3, 1, 4, 6\), expected \(2, 1, 4, 6\)"):
        samplers.ddim(diffusion, 2, steps=5, noise=tape(5), progress=False)


def test_a_tape_is_read_once_per_step_but_the_last(diffusion):
    from ms_ddpm import samplers

    reader = Tape(tape(9), SHAPE)
    samplers.ddim(diffusion, 3, steps=5, eta=0.0, noise=reader, progress=False)
    assert reader.count == 5


def test_noise_streams_are_named_by_seed_and_image():
    whole = next(noise_tape(0, (4, 1, 2, 2)))
    assert np.array_equal(next(noise_tape(0, (2, 1, 2, 2), first_image=2)), whole[2:])
    assert not np.array_equal(next(noise_tape(1, (4, 1, 2, 2))), whole)
    assert not np.array_equal(next(noise_tape(None, (4, 1, 2, 2))), next(noise_tape(None, (4, 1, 2, 2))))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"steps": T + 1}, f"sampling_timesteps is {T + 1}"),
        ({"steps": 5, "eta": 1.5}, "eta is 1.5"),
        ({"sampler": "euler"}, "sampler is 'euler', expected one of: ddpm, ddim"),
        ({"sampler": "ddpm", "steps": 5}, f"takes all {T} steps, not 5"),
        ({"num": 0}, "number of images is 0"),
    ],
)
def test_impossible_requests_are_named(diffusion, call, words):
    from ms_ddpm import samplers

    with pytest.raises(UserError, match=words):
        samplers.sample_images(diffusion, **{"num": 2, "progress": False, **call})


@pytest.mark.parametrize("options", [{"t": T}, {"t": 0}, {"lam": 1.5}])
def test_impossible_interpolations_are_named(diffusion, options):
    from ms_ddpm import samplers

    x = np.zeros(SHAPE, np.float32)
    with pytest.raises(UserError, match=next(iter(options))):
        samplers.interpolate(diffusion, x, x, **options)
    with pytest.raises(UserError, match="shapes"):
        samplers.interpolate(diffusion, x, x[:2])


def test_the_flowers_recipes_keep_it_and_a_run_of_before_derives_it():
    from ms_ddpm import recipes
    from ms_ddpm.config import FREE_ON_RESUME, Config, from_mapping, resolve
    from tests.conftest import ROOT

    names = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
    resolved = {name: resolve({}, str(ROOT / "configs" / name)) for name in names}
    kept = [name for name, c in resolved.items() if c.system == "diffusion" and not c.rederive_pred_noise]
    assert kept == ["flowers128.yaml", "flowers64.yaml"]
    assert "rederive_pred_noise" in FREE_ON_RESUME  # a question of sampling alone
    small = {"image_size": 8, "dim": 8, "dim_mults": [1], "objective": "pred_noise"}
    for stored, expected in (({}, True), ({"rederive_pred_noise": False}, False)):
        config = Config(**from_mapping({**small, **stored}, "checkpoint"))
        assert recipes.build_diffusion(config).rederive_pred_noise is expected
