"""What samplers are asked for, on images that are not square, in batches that do not come out even: `CHECKS`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .draws import SIDES, T, make_diffusion, network
from .probe import assert_same
from .twin import stream

SEED = 11


def noise(images: int, first: int = 0, seed: int = SEED, shape: tuple[int, ...] = (1, *SIDES)) -> np.ndarray:
    """What image first, first + 1, ... of ``seed`` begin with."""
    return np.stack([stream(seed, first + i).standard_normal(shape, dtype=np.float32) for i in range(images)])


def make_score(net=None, process: str = "vp", **options):
    """A score model over images that are not square."""
    from ms_ddpm.nn.sde import SDES
    from ms_ddpm.systems.score.score_model import ScoreModel

    options = {"sampling_timesteps": 3, **options}
    return ScoreModel(net or network(), SDES[process](), image_size=SIDES, channels=1, **options)


def make_corruption(kind: str = "uniform"):
    """A corruption model over images that are not square."""
    from ms_ddpm.systems.corruption.corruption import Corruption

    return Corruption(network(), image_size=SIDES, noise_kind=kind, sampling_timesteps=3)


def check_diffusion_starts(folder: Path) -> None:
    """Every sampler of a diffusion starts each image from its own noise, as high and as wide as it is."""
    from ms_ddpm import samplers

    model = make_diffusion()
    options = {"seed": SEED, "return_all_timesteps": True, "progress": False, "first_image": 2}
    for name, sampler in samplers.SAMPLERS.items():
        chain = sampler(model, 2, **options).asnumpy()
        assert chain.shape == (2, T + 1, 1, *SIDES), f"{name} gives {chain.shape}"
        assert_same(chain[:, 0], (noise(2, 2) + 1) / 2, f"{name}: x_T")
    assert model.sample(2, seed=SEED, progress=False).shape == (2, 1, *SIDES)


def check_score_starts(folder: Path) -> None:
    """The same for every sampler of a score model."""
    from ms_ddpm.samplers.score import SCORE_SAMPLERS

    model = make_score()
    for name in SCORE_SAMPLERS:
        states = model.sample(2, sampler=name, seed=SEED, first_image=2, return_all_timesteps=True).asnumpy()
        assert states.shape[0] == 2, f"{name} gives {states.shape}"
        assert states.shape[2:] == (1, *SIDES), f"{name} gives {states.shape}"
        assert_same(states[:, 0], noise(2, 2) * model.sde.prior_std, f"{name}: x_1")


def check_corruption_starts(folder: Path) -> None:
    """The same for every kind of corruption, which begins with a grey image at amount 1."""
    for kind, start in (("gaussian", 0.5 + noise(2, 2)), ("multiplicative", 0.5 + 0.5 * noise(2, 2))):
        states = make_corruption(kind).sample(2, seed=SEED, first_image=2, return_all_timesteps=True).asnumpy()
        assert states.shape == (2, 4, 1, *SIDES)
        assert_same(states[:, 0], start, f"{kind}: start")
    uniform = np.stack([stream(SEED, 2 + i).random((1, *SIDES), dtype=np.float32) for i in range(2)])
    states = make_corruption().sample(2, seed=SEED, first_image=2, return_all_timesteps=True).asnumpy()
    assert_same(states[:, 0], uniform, "uniform: start")


def check_first_ddpm_starts(folder: Path) -> None:
    """The same for the beginners' class."""
    from ms_ddpm import FirstDDPM

    model = FirstDDPM(network(), n_steps=T, image_chw=(1, *SIDES))
    chain = model.diffusion.sample(2, seed=SEED, return_all_timesteps=True, progress=False).asnumpy()
    assert_same(chain[:, 0], (noise(2) + 1) / 2, "x_T")
    assert model.sample(2, seed=SEED, progress=False).shape == (2, 1, *SIDES)


def check_latents(folder: Path) -> None:
    """Latents h x w are turned back by their statistics, channel by channel, and decoded."""
    from mindspore import Tensor, nn

    from ms_ddpm.nn.sde import SDES
    from ms_ddpm.systems.latent.latent_diffusion import LatentDiffusion
    from ms_ddpm.systems.score.score_model import ScoreModel

    class Decoder(nn.Cell):
        latent_shape = (2, *SIDES)

        def decode(self, z):
            assert z.shape[1:] == self.latent_shape, f"latents of shape {z.shape}"
            return np.repeat(np.repeat(z[:, :1], 2, 2), 2, 3)

    class TwoChannels(nn.Cell):
        def construct(self, x, t):
            return -0.3 * x

    model = ScoreModel(TwoChannels(), SDES["vp"](), image_size=SIDES, channels=2, sampling_timesteps=3)
    cell = LatentDiffusion(model, Decoder())
    mean, std = np.array([0.5, -2.0]).reshape(1, 2, 1, 1), np.array([3.0, 0.25]).reshape(1, 2, 1, 1)
    cell.latent_mean.set_data(Tensor(mean.astype(np.float32)))
    cell.latent_std.set_data(Tensor(std.astype(np.float32)))
    images = cell.sample(2, seed=SEED, return_all_timesteps=True).asnumpy()
    assert images.shape == (2, 4, 1, 2 * SIDES[0], 2 * SIDES[1])
    start = noise(2, shape=(2, *SIDES)) * model.sde.prior_std * std + mean
    assert_same(images[:, 0, :, ::2, ::2], start[:, :1], "decoded x_1")
    z = stream(0, 0).standard_normal((2, 2, *SIDES), dtype=np.float32)
    assert_same(cell.normalised(Tensor(z)).asnumpy(), (z - mean) / std, "normalised latents")


class Recorder:
    """A system's Cell that only remembers what it is asked for, and gives images that say which they are."""

    conditional, num_classes = True, 3

    def __init__(self):
        self.asked = []

    def sample(self, batch_size: int, *, first_image: int = 0, labels: np.ndarray | None = None, **options):
        """Images (batch_size, 1, H, W) whose every pixel is a hundredth of the image's number."""
        import mindspore as ms

        self.asked.append((batch_size, first_image, None if labels is None else list(map(int, labels)), options))
        numbers = np.arange(first_image, first_image + batch_size) / 100
        return ms.Tensor(np.broadcast_to(numbers.reshape(-1, 1, 1, 1), (batch_size, 1, *SIDES)).astype(np.float32))


def check_batches(folder: Path) -> None:
    """``num`` images in batches of another size: each with its own number and class, none twice."""
    from ms_ddpm import samplers
    from ms_ddpm.samplers.drawing import draw_images

    cell, labels = Recorder(), np.array([2, 0, 1, 1, 2, 0, 0], np.int32)
    images = draw_images(cell, 7, seed=SEED, batch_size=3, labels=labels, progress=False, steps=4)
    assert_same(images[:, 0, 0, 0], np.arange(7) / 100, "numbers of the images")
    assert [asked[:2] for asked in cell.asked] == [(3, 0), (3, 3), (3, 6)], cell.asked
    assert [asked[2] for asked in cell.asked] == [[2, 0, 1], [1, 2, 0], [0, 0, 0]], "classes of each batch"
    assert all(asked[3] == {"seed": SEED, "progress": False, "steps": 4} for asked in cell.asked)

    model = make_diffusion(sampling_timesteps=2)
    whole = samplers.sample_images(model, 5, batch_size=5, seed=SEED, progress=False)
    parts = samplers.sample_images(model, 5, batch_size=2, seed=SEED, progress=False)
    assert whole.shape == (5, 1, *SIDES)
    assert_same(parts, whole, "images made two at a time")
    assert len({image.tobytes() for image in whole}) == 5
    other = samplers.sample_images(model, 5, batch_size=5, seed=SEED + 1, progress=False)
    shared = {image.tobytes() for image in whole} & {image.tobytes() for image in other}
    assert not shared, "images of two seeds are the same"


CHECKS = {
    "sampling/diffusion": check_diffusion_starts,
    "sampling/score": check_score_starts,
    "sampling/corruption": check_corruption_starts,
    "sampling/first_ddpm": check_first_ddpm_starts,
    "sampling/latent": check_latents,
    "sampling/batches": check_batches,
}
