"""Every public call takes numpy arrays: the losses, the networks and the methods of all systems."""

import inspect

import numpy as np
import pytest

from ms_ddpm.errors import UserError

RNG = np.random.default_rng


@pytest.fixture(scope="module", autouse=True)
def pynative(mindspore):
    """Operator by operator: nothing to compile, so that everything can be called."""
    from ms_ddpm import runtime

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    with runtime.execution_mode(1):
        yield
    mindspore.set_context(mode=mindspore.GRAPH_MODE)


def tensors(values):
    from mindspore import Tensor

    return [Tensor(v) if isinstance(v, (np.ndarray, np.generic)) else v for v in values]


def same(found, expected):
    """Whether the two results, tensors or tuples of them, are tensors of equal numbers."""
    from mindspore import Tensor

    if isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    if expected is None:
        return found is None
    return isinstance(found, Tensor) and np.array_equal(found.asnumpy(), expected.asnumpy())


@pytest.fixture(scope="module")
def cells(mindspore):
    """One small Cell of every system, and its batch."""
    from ms_ddpm import Corruption, GaussianDiffusion, LatentDiffusion, ScoreModel, Unet
    from ms_ddpm.models.autoencoder import AutoEncoder
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.models.conditional_unet import ConditionalScoreUnet, LatentScoreUnet
    from ms_ddpm.nn.sde import VESDE, VPSDE
    from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder
    from ms_ddpm.systems.autoencoder.perceptual import GradientLoss
    from ms_ddpm.systems.latent.latent_diffusion import OneClass

    sde = VESDE()
    std = sde.marginal_prob_std
    unet = Unet(8, dim_mults=(1,), channels=2, self_condition=True, learned_variance=True, dropout=0.1, rng=0)
    diffusion = GaussianDiffusion(unet, image_size=(4, 6), timesteps=20, offset_noise_strength=0.1).set_train()
    classes = ConditionalScoreUnet(std, (32, 32, 32, 32), 8, 8, 3, null_class=True, rng=0)
    score = ScoreModel(classes, sde, image_size=17, channels=1, num_classes=3, class_dropout=0.5)
    autoencoder = ImageAutoencoder(
        AutoEncoder((2, 2, 4), in_channels=1, rng=0), image_size=(26, 28), perceptual=GradientLoss()
    )
    vp = VPSDE()
    latent_net = OneClass(LatentScoreUnet(vp.marginal_prob_std, (4, 8, 8, 8), 8, 8, 1, rng=0))
    latent = LatentDiffusion(
        ScoreModel(latent_net, vp, image_size=autoencoder.latent_shape[1:], channels=4), autoencoder
    )
    corruption = Corruption(BasicNet(1, 1, widths=(4, 4), rng=0), image_size=8, noise_kind="poisson")
    rng = RNG(0)
    return {
        "diffusion": (diffusion, (rng.random((2, 2, 4, 6), dtype=np.float32),)),
        "score": (score, (rng.random((2, 1, 17, 17), dtype=np.float32), np.array([2, 0], np.int32))),
        "autoencoder": (autoencoder, (rng.random((2, 1, 26, 28), dtype=np.float32),)),
        "latent": (latent, (rng.standard_normal((2, 4, 9, 10), dtype=np.float32),)),
        "corruption": (corruption, (rng.random((2, 1, 8, 8), dtype=np.float32),)),
    }


@pytest.mark.parametrize("system", ["diffusion", "score", "autoencoder", "latent", "corruption"])
def test_the_loss_of_a_batch_and_its_draws_as_the_readme_has_it(cells, system):
    cell, batch = cells[system]
    draws = cell.draw(RNG(1), batch)
    expected = cell(*tensors((*batch, *draws)))
    assert np.isfinite(float(expected))
    assert same(cell(*batch, *draws), expected)
    wider = [v.astype({"f": np.float64, "i": np.int64}[v.dtype.kind]) if isinstance(v, np.ndarray) else v
             for v in (*batch, *draws)]  # fmt: skip
    assert same(cell(*wider), expected)


def arrays_for(names, shape):
    """Arguments of those names: times within a schedule of 20, a table, classes, images of ``shape``."""
    rng, count = RNG(3), shape[0]
    special = {
        "t": np.arange(5, 5 + count, dtype=np.int64), "time": np.arange(5, 5 + count), "y": np.zeros(count, np.int64),
        "table": np.linspace(0, 1, 20), "coefficients": np.array([0.5, 0.4, 0.1]), "scale": np.float64(1.5),
        "amount": rng.random(count), "mix": np.float64(0.25), "clip_x_start": True, "rederive_pred_noise": True,
    }  # fmt: skip
    return {name: special[name] if name in special else rng.standard_normal(shape) for name in names}


def methods_of(cell):
    """The public methods that `takes_arrays` stands on."""
    for name, member in inspect.getmembers(type(cell), inspect.isfunction):
        if hasattr(member, "__wrapped__") and "takes_arrays" in inspect.getsource(member):
            yield name, inspect.signature(member)


@pytest.mark.parametrize("system", ["diffusion", "score", "autoencoder", "latent", "corruption"])
def test_public_methods_give_the_same_for_arrays_as_for_tensors(cells, system):
    cell, batch = cells[system]
    called = set()
    for name, signature in methods_of(cell):
        required = [p.name for p in signature.parameters.values() if p.default is p.empty][1:]
        given = arrays_for(required, batch[0].shape)
        if "output" in given and name != "elementwise_loss":  # twice the channels: the variance is learned
            given["output"] = np.concatenate([given["output"]] * 2, 1)
        if system == "score" and "t" in given:
            given["t"] = np.array([0.3, 0.8])
        if name in ("p_losses", "score") and system == "score":
            given["y"] = np.array([2, 0])
        single = {k: v.astype({"f": np.float32, "i": np.int32}[v.dtype.kind]) if hasattr(v, "astype") else v
                  for k, v in given.items()}  # fmt: skip
        expected = getattr(cell, name)(**dict(zip(single, tensors(single.values()), strict=True)))
        assert same(getattr(cell, name)(**given), expected), name
        assert same(getattr(cell, name)(*given.values()), expected), name
        called.add(name)
    assert called >= {
        "diffusion": {"q_sample", "predict_start_from_noise", "predict_noise_from_start", "predict_v", "q_posterior",
                      "predict_start_from_v", "model_predictions", "p_mean_variance", "p_sample", "ddim_step",
                      "p_losses", "normalize", "unnormalize"},
        "score": {"perturb", "p_losses", "score", "guided_score"},
        "autoencoder": {"loss"}, "latent": {"normalised"}, "corruption": {"step"},
    }[system]  # fmt: skip


def test_networks_are_called_with_arrays(cells, mindspore):
    from ms_ddpm.models.score_unet import ScoreUnet
    from ms_ddpm.nn.preconditioning import PreconditionedScore
    from ms_ddpm.nn.sde import VESDE

    def images(*shape):
        return RNG(4).random(shape)

    sde = VESDE()
    plain = PreconditionedScore(
        ScoreUnet(sde.marginal_prob_std, channels=(32, 32, 32, 32), embed_dim=8, rng=0), sde, 0.3, 0.1
    )
    x, times, y = images(2, 1, 17, 17), np.array([0.3, 0.9]), np.array([1, 2])
    nets = {name: getattr(cell, "model", getattr(cell, "net", None)) for name, (cell, _) in cells.items()}
    calls = [
        (nets["diffusion"].set_train(False), (images(2, 2, 4, 6), np.array([3, 7]))),
        (nets["diffusion"], (images(2, 2, 4, 6), np.array([3.5, 7.25]), images(2, 2, 4, 6))),
        (nets["score"], (x, times, y)), (plain, (x, times)), (plain.net, (x, times)),
        (nets["latent"].net, (images(2, 4, 9, 10), times)), (nets["autoencoder"], (images(1, 1, 26, 28),)),
        (nets["corruption"], (images(2, 1, 8, 8),)), (nets["autoencoder"].encode, (images(1, 1, 26, 28),)),
        (cells["autoencoder"][0].perceptual, (images(2, 1, 8, 8), images(2, 1, 8, 8) ** 2)),
    ]  # fmt: skip
    for net, given in calls:
        single = [v.astype({"f": np.float32, "i": np.int32}[v.dtype.kind]) for v in given]
        assert same(net(*given), net(*tensors(single))), net


def test_every_kind_of_noise_takes_arrays(mindspore):
    from ms_ddpm.systems.corruption.corruption import NOISES, corrupt

    x, amount = RNG(0).random((2, 1, 4, 4), dtype=np.float32), np.array([0.2, 0.9], np.float32)
    for kind, noise in NOISES.items():
        z = noise.draw(RNG(1), x, amount)
        assert same(noise.apply(x, amount.astype(np.float64), z), noise.apply(*tensors((x, amount, z)))), kind
    assert same(corrupt(x, amount, x), corrupt(*tensors((x, amount, x))))


def test_no_public_call_was_forgotten(mindspore):
    """What a network has beside its call are parts of its graph; the systems' methods are for users too."""
    from ms_ddpm import BasicNet, Corruption, GaussianDiffusion, LatentDiffusion, ScoreModel, Unet, perceptual
    from ms_ddpm.arrays import TakesArrays
    from ms_ddpm.models import autoencoder, conditional_unet, lpips, score_unet
    from ms_ddpm.nn import preconditioning
    from ms_ddpm.systems.autoencoder.image_autoencoder import ImageAutoencoder

    systems = [GaussianDiffusion, ScoreModel, Corruption, LatentDiffusion, ImageAutoencoder, autoencoder.AutoEncoder]
    networks = [
        Unet, BasicNet, score_unet.ScoreUnet, conditional_unet.ConditionalScoreUnet, conditional_unet.LatentScoreUnet,
        preconditioning.PreconditionedScore, perceptual.GradientLoss, perceptual.PerceptualLoss, lpips.LPIPS,
    ]  # fmt: skip
    assert all(issubclass(found, TakesArrays) for found in (*systems, *networks))
    for found in systems:
        for name, member in vars(found).items():
            if inspect.isfunction(member) and not name.startswith("_") and name not in ("construct", "interpolate"):
                takes = any("Tensor" in str(p.annotation) for p in inspect.signature(member).parameters.values())
                assert not takes or hasattr(member, "__wrapped__"), f"{found.__name__}.{name}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.zeros((2, 2, 4, 6), np.uint8)},
         "img is an array of uint8 (2, 2, 4, 6), expected floating-point numbers; divide pixels of 0 to 255 by 255"),
        ({1: np.array([0.5, 1])}, "t is an array of float64 (2,), expected whole numbers"),
        ({1: np.array([0, 2**40])}, "t holds numbers beyond int32, expected at most 2147483647"),
        ({2: np.array(["a"])}, "noise is an array of <U1 (1,), expected floating-point numbers"),
    ],
)  # fmt: skip
def test_arrays_in_the_wrong_place_are_named(cells, change, message):
    diffusion, batch = cells["diffusion"]
    given = [*batch, *diffusion.draw(RNG(1), batch)]
    for place, value in change.items():
        given[place] = value
    for call, first in ((diffusion, "img"), (diffusion.p_losses, "x_start")):
        with pytest.raises(UserError) as caught:
            call(*given)
        assert str(caught.value) == message.replace("img", first)


def test_in_a_graph_there_is_none_of_it(mindspore):
    """The compiled loss is that of the tensors, from arrays and from tensors, with the methods inside it decorated."""
    from mindspore import nn

    from ms_ddpm import GaussianDiffusion, runtime
    from ms_ddpm.training.train_step import as_function

    class Known(nn.Cell):
        channels, out_dim, self_condition = 1, 1, False

        def construct(self, x, t, x_self_cond=None):
            return 0.8 * x

    diffusion = GaussianDiffusion(Known(), image_size=(4, 6), timesteps=12, beta_schedule="cosine")
    images = (RNG(0).random((3, 1, 4, 6), dtype=np.float32),)
    given = (*images, *diffusion.draw(RNG(1), images))
    by_operators = float(diffusion(*given))
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        with runtime.execution_mode(0):
            loss = runtime.compiled(as_function(diffusion))
            assert float(loss(*tensors(given))) == pytest.approx(by_operators, rel=1e-6)
        assert float(diffusion(*given)) == pytest.approx(by_operators, rel=1e-6)  # MindSpore compiles the Cell
        assert float(diffusion(*tensors(given))) == pytest.approx(by_operators, rel=1e-6)
    finally:
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
