"""ScoreModel: what it draws, its loss, guidance, and what it refuses."""

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from tests.gaussian_score import SHAPE, SHIFTS, gaussian_model, gaussian_net

BATCH = 6


@pytest.fixture(scope="module")
def ve(mindspore):
    from ms_ddpm.nn.sde import VESDE

    return VESDE(25.0)


@pytest.fixture(scope="module")
def conditional(ve):
    return gaussian_model(ve, shifts=SHIFTS)


def images(rng, count=BATCH):
    return rng.random((count, *SHAPE), dtype=np.float32)


def test_draws_are_the_seeds_and_in_their_ranges(ve, conditional):
    x, labels = images(np.random.default_rng(0), 4000), np.arange(4000) % 3
    t, z = gaussian_model(ve).draw(np.random.default_rng(1), (x,))
    assert (t.dtype, z.dtype, z.shape) == (np.float32, np.float32, x.shape)
    assert 1e-5 <= t.min() < 2e-3
    assert 0.998 < t.max() <= 1
    assert t.mean() == pytest.approx(0.5, abs=0.03)
    often_small = gaussian_model(ve)
    often_small.time_power = 2.0
    small, z2 = often_small.draw(np.random.default_rng(1), (x,))
    assert (z2 == z).all()
    assert np.allclose(small, 1e-5 + (1 - 1e-5) * ((t - 1e-5) / (1 - 1e-5)) ** 2, rtol=1e-4, atol=1e-7)
    t2, z2, dropped = conditional.draw(np.random.default_rng(1), (x, labels))
    assert (t2 == t).all()
    assert (z2 == z).all()
    assert set(dropped) == {0, 1}
    assert dropped.mean() == pytest.approx(0.25, abs=0.03)
    with pytest.raises(UserError, match="class 3 does not exist"):
        conditional.draw(np.random.default_rng(1), (x, labels + 1))


def test_a_network_trains_in_one_graph_and_its_frequencies_stay(mindspore, rng, ve):
    """The real conditional network, four times on one batch with one draw."""
    from ms_ddpm.models.conditional_unet import ConditionalScoreUnet
    from ms_ddpm.systems.score.score_model import ScoreModel
    from ms_ddpm.training.amp import DynamicLossScale
    from ms_ddpm.training.optim import Adam
    from ms_ddpm.training.train_step import TrainStep

    net = ConditionalScoreUnet(ve.marginal_prob_std, (32, 32, 32, 32), 8, 8, 3, null_class=True, rng=0)
    model = ScoreModel(net, ve, image_size=17, channels=1, num_classes=3, class_dropout=0.5)
    trained = model.trainable_params()
    assert not any(p.name.endswith(".W") for p in trained)
    step = TrainStep(model, Adam(trained, 1e-2), DynamicLossScale(enabled=False), max_grad_norm=1.0, accumulate=1)
    x, labels = rng.random((8, 1, 17, 17), dtype=np.float32), (np.arange(8) % 3).astype(np.int32)
    inputs = (x, labels, *model.draw(rng, (x, labels)))
    losses = [step(1e-2, [inputs]).loss for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_weights_go_to_the_twin_and_back(ve):
    torch = pytest.importorskip("torch")
    import torch_ref.systems.score.model
    import torch_ref.systems.score.sde
    import torch_ref.systems.score.unet
    from ms_ddpm import convert
    from ms_ddpm.models.score_unet import ScoreUnet
    from ms_ddpm.systems.score.score_model import ScoreModel

    def ours(seed):
        return ScoreModel(ScoreUnet(ve.marginal_prob_std, (32,) * 4, 8, rng=seed), ve, image_size=28, channels=1)

    sde = torch_ref.systems.score.sde.VESDE(25.0)
    twin = torch_ref.systems.score.model.ScoreModel(
        torch_ref.systems.score.unet.ScoreUnet(sde.marginal_prob_std, (32,) * 4, 8), sde
    )
    state = convert.to_torch(ours(0))
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    other = ours(1)
    convert.from_torch(other, {name: value.numpy() for name, value in twin.state_dict().items()})
    again = convert.to_torch(other)
    assert all((again[name] == value).all() for name, value in state.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 0}, "expected positive"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"class_dropout": 0.1}, "the model has no classes"),
        ({"class_dropout": 1.0, "num_classes": 3}, "class_dropout is 1.0"),
        ({"class_dropout": 0.1, "num_classes": 3}, "no row for 'no class'"),
        ({"guidance_scale": 2.0}, "not conditional"),
        ({"guidance_scale": 2.0, "num_classes": 3}, "never learned to do without a class"),
        ({"sampler": "ddpm"}, "sampler is 'ddpm', expected one of: euler, pc, ode, heun"),
        ({"sampling_timesteps": 1}, "steps of the euler sampler is 1"),
        ({"sampling_eps": 0.0}, "sampling eps is 0.0"),
        ({"sampling_timesteps": 10**14}, "steps of the euler sampler is 100000000000000, expected at least 2 and at"),
        ({"sampling_eps": "small"}, "sampling eps is 'small'"),
        ({"corrector_snr": 0.0}, "signal-to-noise ratio is 0.0"),
        ({"guidance_scale": "2"}, "guidance_scale is '2'"),
        ({"class_dropout": "often"}, "class_dropout is 'often'"),
        ({"time_power": "2"}, "time_power is '2'"),
    ],
)
def test_impossible_models_are_named(ve, options, words):
    from ms_ddpm.systems.score.score_model import ScoreModel

    with pytest.raises(UserError, match=words):
        ScoreModel(gaussian_net(ve), ve, **{"image_size": 4, "channels": 1, **options})


def test_a_row_for_no_class_that_is_never_trained_guides_nobody(ve):
    with pytest.raises(UserError, match="guidance_scale is 2, but this model never learned to do without a class"):
        gaussian_model(ve, shifts=SHIFTS, class_dropout=0.0, guidance_scale=2.0)
    assert gaussian_model(ve, shifts=SHIFTS, guidance_scale=2.0).guidance_scale == 2.0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"score_net": "concat", "sde": "vp"}, "ScoreUnet"),
        ({"score_net": "transformer", "num_classes": 3, "guidance_scale": 2.0}, "ConditionalScoreUnet"),
    ],
)
def test_a_configuration_is_built_from_its_seed(mindspore, values, kind):
    from ms_ddpm.config import Config
    from ms_ddpm.systems.score.score_model import build_score

    small = {"system": "score", "image_size": 28, "channels": 1, "channel_widths": [32] * 4, "embed_dim": 8}
    first, second = (build_score(Config(**small, text_dim=8, **values)) for _ in range(2))
    assert type(first.net).__name__ == kind
    assert first.conditional == ("num_classes" in values)
    for ours, theirs in zip(first.get_parameters(), second.get_parameters(), strict=True):
        assert (ours.asnumpy() == theirs.asnumpy()).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"score_net": "transformer"}, "num_classes is 0"),
        ({"score_net": "add", "num_classes": 10}, "knows no classes"),
        ({"score_net": "concat", "guidance_scale": 3.0}, "not conditional"),
        ({"score_net": "concat", "image_size": 8}, "too small"),
    ],
)
def test_impossible_configurations_are_named(mindspore, values, words):
    from ms_ddpm.config import Config
    from ms_ddpm.systems.score.score_model import build_score

    small = {"system": "score", "image_size": 28, "channels": 1, "channel_widths": [32] * 4, "embed_dim": 8}
    with pytest.raises(UserError, match=words):
        build_score(Config(**{**small, **values}))
