"""A preconditioned score network learns only what a straight line does not know; a whole one sees every pixel."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError

MEAN, DEVIATION = 0.3, 0.4


def silent(sde):
    """A network that has learned nothing, preconditioned."""
    from mindspore import nn, ops

    from ms_ddpm.nn.preconditioning import PreconditionedScore

    class Silent(nn.Cell):
        def construct(self, x, t):
            return ops.zeros_like(x)

    return PreconditionedScore(Silent(), sde, DEVIATION, MEAN)


@pytest.mark.parametrize("name", ["ve", "vp", "subvp"])
def test_without_a_network_it_is_the_score_of_gaussian_data(mindspore, rng, name):
    from mindspore import Tensor

    from ms_ddpm.nn.sde import SDES

    sde, t = SDES[name](), np.array([1e-5, 1e-3, 0.2, 1.0], np.float32)
    x = rng.standard_normal((4, 2, 3, 3), dtype=np.float32)
    coeff, std = (
        f(t.astype(np.float64))[:, None, None, None] for f in (sde.marginal_prob_coeff, sde.marginal_prob_std)
    )
    exact = -(x - coeff * MEAN) / ((coeff * DEVIATION) ** 2 + std**2)
    np.testing.assert_allclose(silent(sde)(Tensor(x), Tensor(t)).asnumpy(), exact, rtol=2e-5, atol=1e-6)


def test_what_does_not_fit_is_refused(mindspore):
    from ms_ddpm import recipes
    from ms_ddpm.config import resolve

    score = {"system": "score", "image_size": 17, "channel_widths": [32, 32, 32, 32]}
    with pytest.raises(UserError, match="but it is used with sigma_data alone"):
        recipes.build(resolve({**score, "data_mean": 0.2}, None))
    with pytest.raises(UserError, match="sigma_data is 0"):
        resolve({**score, "sigma_data": 0}, None)
    from mindspore import nn

    from ms_ddpm import ScoreModel
    from ms_ddpm.nn.preconditioning import PreconditionedScore
    from ms_ddpm.nn.sde import VESDE

    with pytest.raises(UserError, match="sigma_data is 0"):
        PreconditionedScore(nn.Cell(), VESDE(25.0), 0.0)
    with pytest.raises(UserError, match="data_mean is nan"):
        PreconditionedScore(nn.Cell(), VESDE(25.0), 1.0, float("nan"))
    with pytest.raises(UserError, match=r"preconditioned for VESDE\(sigma=25\), and the model's process is VESDE"):
        ScoreModel(silent(VESDE(25.0)), VESDE(7.0), image_size=8, channels=1)


def test_a_configuration_preconditions_its_network(mindspore):
    from ms_ddpm import recipes
    from ms_ddpm.config import resolve

    score = {"system": "score", "image_size": 17, "channel_widths": [32, 32, 32, 32], "embed_dim": 8}
    model = recipes.build(resolve({**score, "sigma_data": 0.35, "data_mean": 0.22, "whole_images": True}, None))
    assert (model.net.sigma_data, model.net.data_mean, model.net.net.whole) == (0.35, 0.22, True)
    bare = recipes.build(resolve(score, None))
    assert not bare.preconditioned
    assert not bare.net.whole


def test_zeros_around_an_image_make_one_more_than_fours():
    from ms_ddpm.models.score_unet import margins

    assert [margins(side) for side in (28, 29, 10, 27)] == [(0, 1), (0, 0), (1, 2), (1, 1)]


def test_a_whole_network_is_the_plain_one_within_zeros(mindspore, rng):
    from mindspore import Tensor

    from ms_ddpm.models.score_unet import ScoreUnet
    from ms_ddpm.nn.sde import VESDE

    def net(whole):
        return ScoreUnet(VESDE(25.0).marginal_prob_std, (32, 32, 32, 32), 8, whole=whole, rng=0)

    x, t = rng.standard_normal((2, 1, 20, 23), dtype=np.float32), Tensor(np.array([0.1, 0.9], np.float32))
    within = np.pad(x, ((0, 0), (0, 0), (0, 1), (1, 1)))
    expected = net(False)(Tensor(within), t).asnumpy()[:, :, :20, 1:24]
    np.testing.assert_array_equal(net(True)(Tensor(x), t).asnumpy(), expected)
