"""GaussianDiffusion: what it draws, holds and refuses. Its mathematics is for parity_tests (tiers 0, 1 and 4)."""

import numpy as np
import pytest

from ms_ddpm import schedules
from ms_ddpm.errors import UserError

T = 20
SHAPE = (4, 1, 8, 4)


@pytest.fixture(scope="module")
def build(mindspore):
    from mindspore import nn

    from ms_ddpm import GaussianDiffusion

    class Known(nn.Cell):
        def __init__(self, channels=1, out_dim=1, self_condition=False):
            super().__init__()
            self.channels, self.out_dim, self.self_condition = channels, out_dim, self_condition

    def make(model=None, **options):
        return GaussianDiffusion(
            Known(**(model or {})), image_size=SHAPE[2:], **{"timesteps": T, "beta_schedule": "cosine", **options}
        )

    return make


def test_draws_are_a_function_of_the_generator(build):
    d = build({"self_condition": True}, offset_noise_strength=0.1)
    images = (np.zeros((64, 1, 8, 4), np.float32),)
    first, again = (d.draw(np.random.default_rng(1), images) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    t, noise, _, offset, key = first
    assert t.min() >= 0
    assert t.max() < T
    assert noise.dtype == np.float32
    assert offset.shape == (64, 1)
    assert key is None
    coins = [d.draw(np.random.default_rng(i), images)[2] for i in range(200)]
    assert 70 < sum(coins) < 130


def test_immiscible_noise_is_the_nearest_permutation_for_input_and_target(build):
    """Upstream permutes the noise of q_sample and not the target; here draw() permutes the one noise both see."""
    from ms_ddpm.maths.random import immiscible_assignment

    d = build(immiscible=True)
    images = np.random.default_rng(0).random((16, 1, 8, 4)).astype(np.float32)
    plain = build().draw(np.random.default_rng(3), (images,))[1]
    assigned = d.draw(np.random.default_rng(3), (images,))[1]
    x = images * 2 - 1

    def cost(noise):
        return ((x - noise) ** 2).sum()

    assert not np.array_equal(plain, assigned)
    assert sorted(map(tuple, plain.reshape(16, -1))) == sorted(map(tuple, assigned.reshape(16, -1)))
    assert cost(assigned) < cost(plain)
    order = immiscible_assignment(x[:4], plain[:4])
    import itertools

    distance = ((x[:4, None] - plain[None, :4]) ** 2).sum((2, 3, 4)) ** 0.5
    best = min(itertools.permutations(range(4)), key=lambda p: sum(distance[i, p[i]] for i in range(4)))
    assert tuple(order) == best


def test_tables_are_float32_buffers_under_their_usual_names(build):
    d = build()
    names = {*schedules.diffusion_tables(np.array([0.1])), "loss_weight"}
    state = d.state_dict()
    assert names <= set(state)
    for name in names:
        exact = d.tables[name].astype(np.float32)
        assert np.array_equal(state[name].asnumpy(), exact), name


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ({}, {"objective": "pred_y"}, "objective is 'pred_y'"),
        ({}, {"loss_type": "huber"}, "loss_type is 'huber'"),
        ({}, {"sampling_timesteps": T + 1}, f"sampling_timesteps is {T + 1}, expected 1 to timesteps"),
        ({}, {"sampling_timesteps": 0}, "sampling_timesteps is 0"),
        ({"out_dim": 3}, {}, "gives 3 channels for images of 1"),
        ({}, {"schedule_fn_kwargs": {"nope": 1}}, "'nope'"),
    ],
)
def test_impossible_settings_are_named(build, model, options, words):
    with pytest.raises(UserError, match=words):
        build(model, **options)
