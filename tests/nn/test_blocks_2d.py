"""The blocks of Stable Diffusion's networks: sizes that are odd, what the time is made into, what is refused."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError


@pytest.fixture
def pynative(mindspore):
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    yield mindspore
    mindspore.set_context(mode=mindspore.GRAPH_MODE)


@pytest.mark.parametrize(("cos_first", "shift"), [(True, 0), (False, 1)])
def test_the_time_as_cosines_and_sines(pynative, cos_first, shift):
    from ms_ddpm.nn.blocks_2d import Timesteps

    times = np.array([0, 1, 999.5])
    phase = times[:, None] * 10000.0 ** (-np.arange(3) / (3 - shift))
    expected = np.concatenate([np.cos(phase), np.sin(phase)][:: 1 if cos_first else -1], 1)
    found = Timesteps(6, flip_sin_to_cos=cos_first, freq_shift=shift)(pynative.Tensor(times.astype(np.float32)))
    np.testing.assert_allclose(found.asnumpy(), expected, atol=1e-4)  # of a phase of 1000 in float32


@pytest.mark.parametrize(("padding", "expected"), [(0, (2, 3)), (1, (3, 4))])
def test_halving_of_odd_sides(pynative, rng, padding, expected):
    from ms_ddpm.nn.blocks_2d import Downsample2D
    from ms_ddpm.ops.assign import set_value

    down = Downsample2D(1, padding, rng=rng)
    centre = np.zeros((1, 1, 3, 3), np.float32)
    centre[0, 0, 1, 1] = 1
    set_value(down.conv.weight, centre)
    set_value(down.conv.bias, np.zeros(1, np.float32))
    x = np.arange(35, dtype=np.float32).reshape(1, 1, 5, 7)
    found = down(pynative.Tensor(x)).asnumpy()
    first = 1 - padding  # the pixel in the centre of the first square
    np.testing.assert_array_equal(found[0, 0], x[0, 0, first::2, first::2])
    assert found.shape[2:] == expected


@pytest.mark.parametrize("size", [None, (6, 10), (5, 9), (6, 9)])
def test_doubling_to_what_was_halved(pynative, rng, size):
    from ms_ddpm.nn.blocks_2d import Upsample2D
    from ms_ddpm.ops.assign import set_value

    up = Upsample2D(1, rng=rng)
    centre = np.zeros((1, 1, 3, 3), np.float32)
    centre[0, 0, 1, 1] = 1
    set_value(up.conv.weight, centre)
    set_value(up.conv.bias, np.zeros(1, np.float32))
    x = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
    height, width = size or (6, 10)
    expected = x[0, 0].repeat(2, 0).repeat(2, 1)[:height, :width]
    np.testing.assert_array_equal(up(pynative.Tensor(x), size).asnumpy()[0, 0], expected)


def test_what_does_not_fit_is_refused(mindspore, rng):
    from ms_ddpm.nn.blocks_2d import Downsample2D, Timesteps
    from ms_ddpm.nn.transformer_2d import TokenAttention

    with pytest.raises(UserError, match="downsample_padding is 2, expected 0 or 1"):
        Downsample2D(3, 2, rng=rng)
    with pytest.raises(UserError, match="width 7 and freq_shift 0, expected an even width above 0"):
        Timesteps(7)
    with pytest.raises(UserError, match="width 2 and freq_shift 1, expected an even width above 2"):
        Timesteps(2, freq_shift=1)
    with pytest.raises(UserError, match="6 channels cannot be shared by 4 attention heads"):
        TokenAttention(6, 4, rng=rng)


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_a_group_norm_by_kernels_knows_its_eps(pynative, rng, eps):
    """On an image of deviation 1e-3, whose variance is one of the two."""
    from ms_ddpm.nn.layers import use_kernels
    from ms_ddpm.nn.norms import GroupNorm
    from ms_ddpm.ops import kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    norm = GroupNorm(2, 6, eps)
    use_kernels(norm, on=True)
    x = 1e-3 * rng.standard_normal((2, 3, 5, 6), dtype=np.float32)
    groups = x.astype(np.float64).reshape(2, 15, 2, 3)
    centred = groups - groups.mean((1, 3), keepdims=True)
    expected = (centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + eps)).reshape(x.shape)
    np.testing.assert_allclose(norm(pynative.Tensor(x)).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_group_norm_of_another_eps_has_no_kernel(mindspore):
    from ms_ddpm.nn.layers import use_kernels
    from ms_ddpm.nn.norms import GroupNorm
    from ms_ddpm.ops import kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    with pytest.raises(UserError, match=r"GroupNorm of eps=0\.001 has no kernel; expected one of: 1e-05, 1e-06"):
        use_kernels(GroupNorm(2, 6, 1e-3), on=True)
