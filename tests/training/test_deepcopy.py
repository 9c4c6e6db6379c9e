"""``copy.deepcopy`` of everything that trains: another Cell with the same weights, and none of the first's graphs."""

import copy

import numpy as np
import pytest

from ms_ddpm.config import Config

SIDES = {"image_size": [8, 8], "channels": 1}
TINY = {"dim": 8, "dim_mults": [1, 2]}
SMALLEST = {**SIDES, "dim": 8, "dim_mults": [1], "timesteps": 2}  # what is compiled here
SCORE = {"system": "score", "image_size": 28, "channels": 1, "channel_widths": [32, 32, 32, 32], "embed_dim": 8}
SYSTEMS = {
    "diffusion": {**SIDES, **TINY, "timesteps": 4},
    "2022": {**SIDES, **TINY, "timesteps": 4, "norm": "group", "downsample": "conv"},
    "first_ddpm": None,
    "score": SCORE,
    "classes": {**SCORE, "score_net": "transformer", "num_classes": 3, "text_dim": 8, "sigma_data": 0.5},
    "autoencoder": {
        "system": "autoencoder",
        "image_size": 28,
        "channels": 1,
        "autoencoder_channels": [2, 3, 2],
        "ema_decay": 0.0,
        "ema_update_every": 1,
    },
    "corruption": {"system": "corruption", "image_size": 28, "channels": 1},
    "latent": {
        "system": "latent",
        "autoencoder": "not read here",
        "image_size": 28,
        "channels": 1,
        "autoencoder_channels": [2, 3, 2],
        "channel_widths": [2, 4, 8, 8],
        "embed_dim": 8,
        "text_dim": 8,
        "num_classes": 3,
    },
}


def make(system):
    from ms_ddpm import recipes

    if system == "first_ddpm":
        from ms_ddpm import FirstDDPM, Unet

        return FirstDDPM(Unet(8, dim_mults=(1,), channels=1, rng=0), n_steps=4, image_chw=(1, 8, 8))
    return recipes.build(Config(**SYSTEMS[system]))


def inputs_of(cell, rng):
    """What one training step hands to the cell."""
    from ms_ddpm.training.train_step import to_inputs

    cell = getattr(cell, "diffusion", cell)  # FirstDDPM's
    batch = (rng.random((2, cell.channels, *cell.image_size), dtype=np.float32),)  # latent's: as good as any latents
    if getattr(cell, "conditional", False):
        batch += (np.array([0, 2], np.int32),)
    return cell, to_inputs((*batch, *cell.draw(rng, batch)))


@pytest.fixture
def pynative(mindspore):
    """Operator by operator: nothing is compiled, so that a cell costs no seconds."""
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    yield mindspore
    mindspore.set_context(mode=mindspore.GRAPH_MODE)


def itself(score):
    return score


def values(cell):
    return {name: p.asnumpy().copy() for name, p in cell.parameters_and_names()}


def move(cell, by):
    from ms_ddpm.ops.assign import set_value

    for p in cell.trainable_params():
        set_value(p, p.asnumpy() + by)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_copy_computes_the_same_and_is_independent(pynative, system):
    first = make(system)
    move(first, 0.01)  # not what a constructor gives
    second = copy.deepcopy(first)
    trained = [name for name, p in first.parameters_and_names() if p.requires_grad]
    assert trained == [name for name, p in second.parameters_and_names() if p.requires_grad]
    before = values(first)
    assert before.keys() == values(second).keys()
    cell, inputs = inputs_of(first, np.random.default_rng(0))
    copied = inputs_of(second, np.random.default_rng(0))[0]
    loss = float(cell(*inputs).asnumpy())
    assert float(copied(*inputs).asnumpy()) == loss

    move(second, 0.1)
    assert all(np.array_equal(value, before[name]) for name, value in values(first).items())
    assert all(np.abs(values(second)[name] - before[name] - 0.1).max() < 1e-5 for name in trained)
    assert float(copied(*inputs).asnumpy()) != loss  # FirstDDPM's diffusion reads the copy's network
    assert float(cell(*inputs).asnumpy()) == loss


@pytest.fixture(scope="module")
def compiled_pair(mindspore):
    """A diffusion whose sampling is compiled already, and its copy."""
    from ms_ddpm import recipes

    first = recipes.build(Config(**SMALLEST))
    first.sample(1, seed=0, progress=False)
    return first, copy.deepcopy(first)


def test_a_copy_samples_with_its_own_weights(compiled_pair):
    """The compiled steps of the first read the weights of the first, whoever calls them."""
    first, second = compiled_pair
    image = first.sample(1, seed=0, progress=False).asnumpy()
    assert np.array_equal(second.sample(1, seed=0, progress=False).asnumpy(), image)
    kept = values(second)
    move(second, 0.1)
    assert np.abs(second.sample(1, seed=0, progress=False).asnumpy() - image).max() > 1e-3
    assert np.array_equal(first.sample(1, seed=0, progress=False).asnumpy(), image)
    from ms_ddpm.storage.weights import set_parameters

    set_parameters(second, kept, "the copy")


def test_a_copy_trains_and_the_first_does_not_move(compiled_pair):
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.optim import Adam
    from ms_ddpm.training.train_step import TrainStep

    first, second = compiled_pair
    before = values(first)
    step = TrainStep(
        second, Adam(second.trainable_params(), 1e-3), DynamicLossScale(enabled=False), max_grad_norm=1.0, accumulate=1
    )
    _, inputs = inputs_of(second, np.random.default_rng(1))
    losses = [step(1e-3, [inputs]).loss for _ in range(3)]
    assert losses[2] < losses[0]
    assert all(np.array_equal(value, before[name]) for name, value in values(first).items())
    moved = values(second)
    third = copy.deepcopy(second)  # after a graph has written the weights
    assert all(np.array_equal(value, moved[name]) for name, value in values(third).items())
    assert sum(not np.array_equal(value, before[name]) for name, value in moved.items()) > len(moved) / 2


def test_other_graphs_are_not_copied_either(mindspore):
    for system, fill in (
        ("corruption", lambda cell: cell.compiled_step()),
        ("autoencoder", lambda cell: cell._call("encode")),
        ("score", lambda cell: cell.compiled_step(itself, False)),
    ):
        cell = make(system)
        graph = fill(cell)
        assert fill(cell) is graph
        assert fill(copy.deepcopy(cell)) is not graph, system


def test_custom_operators_still_cannot_be_copied(mindspore):
    from mindspore import ops

    from ms_ddpm.ops import kernels

    if kernels.why_not():
        pytest.skip(kernels.why_not())
    stock = ops.Custom(f"{kernels.library_path()}:upsample", lambda x: x, lambda x: x, "aot")
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        copy.deepcopy(stock)  # if this passes, ops.Custom can be copied: kernels.Operator may be able to go
    ours = kernels.upsample()
    assert copy.deepcopy(ours) is ours
