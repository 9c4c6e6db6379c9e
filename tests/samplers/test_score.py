"""Chains of score models on Gaussian data, whose score is known, and what is refused.

That every sampler computes what PyTorch computes is for parity_tests (cases sampling/score_*).
"""

from types import SimpleNamespace

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.gaussian_score import SHAPE, SHIFTS, gaussian_model, gaussian_score

pytestmark = pytest.mark.graph  # thousands of steps of one small network

BATCH = 3


@pytest.fixture(scope="module")
def models(mindspore):
    from ms_ddpm.nn.sde import SDES

    return {name: gaussian_model(make()) for name, make in SDES.items()}


@pytest.fixture(scope="module")
def conditional(mindspore):
    from ms_ddpm.nn.sde import VESDE

    return gaussian_model(VESDE(25.0), shifts=SHIFTS)


@pytest.fixture(params=["ve", "vp", "subvp"])
def model(request, models):
    return models[request.param]


def tape(count, batch=BATCH, seed=0):
    return list(np.random.default_rng(seed).standard_normal((count, batch, *SHAPE)).astype(np.float32))


@pytest.mark.parametrize(("sampler", "norm"), [("euler", {}), ("pc", {"corrector_norm": "batch"})])
def test_the_end_of_the_grid_and_the_correctors_norm_are_those_asked_for(models, sampler, norm):
    """The oracle's chain on the same data; what else there is to ask for stands in the cases sampling/score_*."""
    from parity_tests.systems.score.oracle import models as oracle

    sde, arrays = oracle.SDE("vp"), tape(2 * 20)
    exact = oracle.ScoreModel(SimpleNamespace(score=lambda x, t, y: gaussian_score(sde, x, t)), sde)
    options = {"sampler": sampler, "steps": 20, "eps": 2e-3, "denoise": True}
    x = models["vp"].sample(BATCH, noise=arrays, **options, **norm).asnumpy()
    expected = exact.chain(tape=arrays, norm=norm.get("corrector_norm"), **options)[-1]
    assert x == pytest.approx(expected, abs=3e-5)


def test_the_models_own_choice_to_denoise_is_the_default(models):
    from ms_ddpm.nn.sde import VESDE

    arrays, steps = tape(4), 4
    chosen = gaussian_model(VESDE(25.0), denoise=True).sample(BATCH, steps=steps, noise=arrays).asnumpy()
    said = models["ve"].sample(BATCH, steps=steps, noise=arrays, denoise=True).asnumpy()
    article = models["ve"].sample(BATCH, steps=steps, noise=arrays).asnumpy()
    assert chosen == pytest.approx(said)
    assert np.abs(article - said).max() > 0.01


@pytest.mark.parametrize("sampler", ["ode", "heun"])
@pytest.mark.parametrize("denoise", [False, True])
def test_the_flow_takes_gaussian_noise_where_it_must(model, sampler, denoise):
    """Of Gaussian data the flow is known: (x_t - coeff m) / sqrt(coeff^2 s^2 + std^2) stays the same."""
    sde, (arrays,) = model.sde, tape(1)
    options = {"rtol": 1e-6, "atol": 1e-6} if sampler == "ode" else {"steps": 100}

    def spread(t):
        return np.sqrt((sde.marginal_prob_coeff(t) * 0.3) ** 2 + sde.marginal_prob_std(t) ** 2)

    start, end = sde.marginal_prob_coeff(1.0), sde.marginal_prob_coeff(1e-3)
    exact = end * 0.5 + spread(1e-3) / spread(1.0) * (arrays.astype(np.float64) * sde.prior_std - start * 0.5)
    if denoise:
        exact = (exact + sde.marginal_prob_std(1e-3) ** 2 * gaussian_score(sde, exact, 1e-3)) / end
    x = model.sample(BATCH, sampler=sampler, denoise=denoise, noise=[arrays], **options).asnumpy()
    assert x == pytest.approx(exact, abs=1e-3 if sampler == "heun" else 2e-5)


@pytest.mark.parametrize("sampler", ["euler", "pc"])
def test_samples_have_the_datas_mean_and_variance(model, sampler):
    """2,048 numbers: the mean is known to 0.007, the deviation to 0.005; Langevin steps of this size add noise."""
    x = model.sample(128, sampler=sampler, steps=200, seed=0).asnumpy()
    assert x.mean() == pytest.approx(0.5, abs=0.03)
    assert x.std() == pytest.approx(0.3, abs=0.015 if sampler != "pc" else 0.06)


def test_guidance_moves_the_mean_along_the_class(conditional):
    """For Gaussians of one variance the guided score is that of the mean m + s (m_y - m)."""
    for scale in (1.0, 3.0):
        x = conditional.sample(96, steps=100, seed=1, guidance_scale=scale).asnumpy()
        for y, shift in enumerate(SHIFTS):  # image i has class i mod 3
            assert x[y::3].mean() == pytest.approx(0.5 + scale * shift, abs=0.06), (y, scale)
    x = conditional.sample(96, steps=100, seed=1, labels=1, guidance_scale=0.0).asnumpy()
    assert x.mean() == pytest.approx(0.5, abs=0.04)


def test_an_image_is_the_same_whatever_the_batch(conditional):
    for sampler, steps in (("euler", 5), ("pc", 5), ("heun", 5)):
        whole = conditional.sample(4, sampler=sampler, steps=steps, seed=3, guidance_scale=2.0).asnumpy()
        part = conditional.sample(2, sampler=sampler, steps=steps, seed=3, guidance_scale=2.0, first_image=2).asnumpy()
        assert part == pytest.approx(whole[2:], abs=1e-6), sampler


@pytest.mark.parametrize(("sampler", "steps", "states"), [("euler", 4, 5), ("pc", 4, 5), ("heun", 4, 5)])
def test_the_chain_begins_with_noise_and_ends_with_the_image(models, sampler, steps, states, capsys):
    arrays = tape(2 * steps)
    model = models["ve"]
    chain = model.sample(BATCH, sampler=sampler, steps=steps, noise=arrays, return_all_timesteps=True, progress=True)
    image = model.sample(BATCH, sampler=sampler, steps=steps, noise=arrays)
    assert chain.shape == (BATCH, states, *SHAPE)
    assert f"{sampler} 4" in capsys.readouterr().err
    assert chain.asnumpy()[:, 0] == pytest.approx(model.sde.prior_std * arrays[0], rel=1e-6)
    assert (chain.asnumpy()[:, -1] == image.asnumpy()).all()


def test_the_chain_of_the_ode_holds_its_own_steps(models):
    arrays = tape(1)
    chain = models["vp"].sample(BATCH, sampler="ode", noise=arrays, return_all_timesteps=True, denoise=True)
    image = models["vp"].sample(BATCH, sampler="ode", noise=arrays, denoise=True)
    assert chain.shape[0] == BATCH
    assert chain.shape[1] > 5
    assert chain.asnumpy()[:, 0] == pytest.approx(arrays[0], rel=1e-6)
    assert chain.asnumpy()[:, -1] == pytest.approx(image.asnumpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "ddim"}, "sampler is 'ddim'"),
        ({"steps": 1}, "steps of the euler sampler is 1"),
        ({"steps": 2.5}, "steps of the euler sampler is 2.5"),
        ({"sampler": "ode", "steps": 50}, "the ode sampler chooses its own steps"),
        ({"sampler": "ode", "rtol": 0.0}, "rtol of the ode sampler is 0.0"),
        ({"eps": 1.5}, "sampling eps is 1.5"),
        ({"sampler": "pc", "snr": -1.0}, "signal-to-noise ratio is -1.0"),
        ({"sampler": "pc", "corrector_norm": "pixel"}, "corrector_norm is 'pixel', expected one of: image, batch"),
        ({"snr": 0.1}, "the euler sampler takes no snr; it takes: steps, eps, labels"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"steps": 10**14}, "steps of the euler sampler is 100000000000000, expected at least 2 and at most 1000000"),
        ({"sampler": "heun", "steps": True}, "steps of the heun sampler is True"),
        ({"eps": "tiny"}, "sampling eps is 'tiny'"),
        ({"guidance_scale": "2"}, "guidance_scale is '2'"),
        ({"seed": -1, "steps": 2}, "seed is -1, expected at least 0, a whole number"),
        ({"first_image": -1, "steps": 2}, "first_image is -1, expected at least 0, a whole number"),
        ({"noise": tape(2), "steps": 5, "batch_size": 3}, "x_1 and one array per step but the last"),
        ({"labels": 1}, "labels are given, but this model is not conditional"),
        ({"guidance_scale": 2.0}, "guidance_scale is 2, but this model is not conditional"),
    ],
)
def test_impossible_requests_are_named(models, options, words):
    with pytest.raises(UserError, match=words):
        models["ve"].sample(**options)


def test_a_request_is_checked_without_drawing(models, monkeypatch):
    models["ve"].check_sample(sampler="pc", steps=5, snr=0.2, eps=1e-4, denoise=True, guidance_scale=None)
    for options, words in (
        ({"snr": 0.2}, "the euler sampler takes no snr"), ({"steps": 1}, "steps of the euler"),
        ({"eps": 2.0}, "sampling eps is 2.0"), ({"sampler": "pc", "snr": 20.0}, "signal-to-noise"),
        ({"guidance_scale": 2.0}, "not conditional"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            models["ve"].check_sample(**options)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs scipy"):
        models["ve"].check_sample(sampler="ode")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": 3}, "class 3 does not exist"),
        ({"labels": [0, 1, -1, 2]}, "class -1 does not exist"),
        ({"labels": [0, 1]}, r"labels of shape \(2,\) for 4 images"),
        ({"labels": [0.5] * 4}, "labels of type float64"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1.0"),
    ],
)
def test_impossible_classes_are_named(conditional, options, words):
    with pytest.raises(UserError, match=words):
        conditional.sample(4, steps=2, **options)


def test_a_score_that_is_not_finite_ends_the_ode(mindspore):
    from ms_ddpm.nn.sde import VESDE

    broken = gaussian_model(VESDE(25.0))
    broken.net.variances = broken.net.variances * mindspore.Tensor(np.float32("nan"))
    with pytest.raises(UserError, match="the score is not finite at t = 1"):
        broken.sample(2, sampler="ode", seed=0)
