"""Chains against float64 formulas, and what a noise tape must be."""

from itertools import pairwise

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError
from ms_ddpm.random import Tape, noise_tape

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


def ddim64(arrays, steps, eta):
    """Song et al., eq. 12 and 16, in float64, with x_0 clipped and eps derived again from it."""
    abar = schedules.diffusion_tables(schedules.beta_schedule("cosine", T))["alphas_cumprod"]
    arrays = iter(arrays)
    x = next(arrays).astype(np.float64)
    times = schedules.ddim_times(T, steps)
    chain = [x]
    for now, after in pairwise(times):
        x0 = np.clip((x - np.sqrt(1 - abar[now]) * 0.8 * x) / np.sqrt(abar[now]), -1, 1)
        eps = (x - np.sqrt(abar[now]) * x0) / np.sqrt(1 - abar[now])
        if after < 0:
            x = x0
        else:
            sigma = eta * np.sqrt((1 - abar[after]) / (1 - abar[now]) * (1 - abar[now] / abar[after]))
            x = np.sqrt(abar[after]) * x0 + np.sqrt(1 - abar[after] - sigma**2) * eps + sigma * next(arrays)
        chain.append(x)
    return (np.stack(chain, 1) + 1) / 2


def ddpm64(arrays):
    table = schedules.diffusion_tables(schedules.beta_schedule("cosine", T))
    arrays = iter(arrays)
    x = next(arrays).astype(np.float64)
    for t in reversed(range(T)):
        abar = table["alphas_cumprod"][t]
        x0 = np.clip((x - np.sqrt(1 - abar) * 0.8 * x) / np.sqrt(abar), -1, 1)
        x = table["posterior_mean_coef1"][t] * x0 + table["posterior_mean_coef2"][t] * x
        if t > 0:
            x = x + np.sqrt(table["posterior_variance"][t]) * next(arrays)
    return (x + 1) / 2


@pytest.mark.parametrize("steps", [1, 5, T])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_chains_follow_the_paper(diffusion, steps, eta):
    from ms_ddpm import samplers

    arrays = tape(steps)
    chain = samplers.ddim(
        diffusion, 3, steps=steps, eta=eta, noise=arrays, return_all_timesteps=True, progress=False
    ).asnumpy()
    assert chain.shape == (3, steps + 1, *SHAPE[1:])
    assert chain == pytest.approx(ddim64(arrays, steps, eta), abs=2e-5)


def test_ddpm_chains_follow_algorithm_2(diffusion):
    from ms_ddpm import samplers

    arrays = tape(T)
    x = samplers.ddpm(diffusion, 3, noise=arrays, progress=False).asnumpy()
    assert x == pytest.approx(ddpm64(arrays), abs=2e-5)


def test_ddim_with_all_steps_and_eta_one_is_ddpm(diffusion):
    from ms_ddpm import samplers

    arrays = tape(T)
    ddim = samplers.ddim(diffusion, 3, steps=T, eta=1.0, noise=arrays, progress=False).asnumpy()
    ddpm = samplers.ddpm(diffusion, 3, noise=arrays, progress=False).asnumpy()
    assert ddim == pytest.approx(ddpm, abs=2e-4)


def test_an_image_is_the_same_whatever_the_batch(diffusion):
    from ms_ddpm import samplers

    alone = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, batch_size=2, progress=False)
    together = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, batch_size=5, progress=False)
    assert alone == pytest.approx(together, abs=1e-6)
    assert np.ptp(alone.std(axis=(1, 2, 3))) > 0
    other = samplers.sample_images(diffusion, 5, steps=4, eta=1.0, seed=1, progress=False)
    assert np.abs(other - together).max() > 0.1


def test_interpolation_mixes_two_noised_images_and_denoises(mindspore, diffusion):
    from ms_ddpm import samplers

    rng = np.random.default_rng(1)
    x1, x2 = rng.random((2, *SHAPE)).astype(np.float32)
    arrays = tape(2 + 4)
    t, lam = 5, 0.25
    table = schedules.diffusion_tables(schedules.beta_schedule("cosine", T))
    abar = table["alphas_cumprod"][t]
    ends = [
        np.sqrt(abar) * (2 * x.astype(np.float64) - 1) + np.sqrt(1 - abar) * e
        for x, e in zip((x1, x2), arrays, strict=False)
    ]
    x = (1 - lam) * ends[0] + lam * ends[1]
    left = iter(arrays[2:])
    for step in reversed(range(t)):
        abar = table["alphas_cumprod"][step]
        x0 = np.clip((x - np.sqrt(1 - abar) * 0.8 * x) / np.sqrt(abar), -1, 1)
        x = table["posterior_mean_coef1"][step] * x0 + table["posterior_mean_coef2"][step] * x
        if step > 0:
            x = x + np.sqrt(table["posterior_variance"][step]) * next(left)
    result = samplers.interpolate(diffusion, x1, x2, t, lam, noise=arrays, progress=False).asnumpy()
    assert result == pytest.approx((x + 1) / 2, abs=2e-5)


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


@pytest.mark.parametrize("rederives", [True, False])
def test_ddim_keeps_the_networks_noise_where_it_is_told_to(diffusion, rederives):
    """One step 9 -> 4 in float64: x_0 is clipped in a part of the pixels, and eps is the network's 0.8 x, or is not."""
    from mindspore import Tensor

    from ms_ddpm import GaussianDiffusion, samplers

    made = GaussianDiffusion(
        diffusion.model, image_size=4, timesteps=T, objective="pred_noise", beta_schedule="cosine",
        rederive_pred_noise=rederives,
    )  # fmt: skip
    abar = made.tables["alphas_cumprod"]
    (x,) = tape(1)
    x0 = np.clip((x - np.sqrt(1 - abar[9]) * 0.8 * x) / np.sqrt(abar[9]), -1, 1)
    eps = (x - np.sqrt(abar[9]) * x0) / np.sqrt(1 - abar[9]) if rederives else 0.8 * x
    expected = np.sqrt(abar[4]) * x0 + np.sqrt(1 - abar[4]) * eps
    assert 0.05 < np.mean(np.abs(x0) == 1) < 0.95
    row = samplers.ddim_coefficients(abar, [9, 4], 0.0)[0]
    t = Tensor(np.full(len(x), 9, np.int32))
    found, _ = made.ddim_step(Tensor(x), t, Tensor(row), Tensor(np.zeros_like(x)))
    np.testing.assert_allclose(found.asnumpy(), expected, atol=2e-6)


def test_the_flowers_recipes_keep_it_and_a_run_of_before_derives_it():
    from ms_ddpm import recipes
    from ms_ddpm.config import FREE_ON_RESUME, Config, from_mapping, resolve

    from .conftest import ROOT

    names = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
    kept = [name for name in names if not resolve({}, str(ROOT / "configs" / name)).rederive_pred_noise]
    assert kept == ["flowers128.yaml", "flowers64.yaml"]
    assert "rederive_pred_noise" in FREE_ON_RESUME  # a question of sampling alone
    small = {"image_size": 8, "dim": 8, "dim_mults": [1], "objective": "pred_noise"}
    for stored, expected in (({}, True), ({"rederive_pred_noise": False}, False)):
        config = Config(**from_mapping({**small, **stored}, "checkpoint"))
        assert recipes.build_diffusion(config).rederive_pred_noise is expected
