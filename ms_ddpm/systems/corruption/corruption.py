"""Learning by corruption: images are damaged by an amount between 0 and 1, and a network learns to undo it.

The simplest relative of a diffusion model: no noise schedule, no variance, and the network is not told how much noise
there is. It predicts the image itself, by the mean squared error, so that its answer to pure noise is the mean of all
images, and images are made by going towards the answer a little at a time.

`corrupt` is the linear mixture x (1 - a) + noise a; `NOISES` is the table of all kinds. Symbols: x an image in [0, 1],
a the amount of each image in [0, 1], z what is random, drawn on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, nn, ops

from ...arrays import takes_arrays
from ...config import Config, image_sides
from ...config.limits import MAX_STEPS
from ...devices.runtime import OwnGraphs
from ...errors import UserError, quoted
from ...maths.random import Stream, normal, stream
from ...models.basic import BasicNet
from ...nn.contract import said_by
from ...samplers.chain import Chain
from ...samplers.corruption import step_of, towards
from ...storage.fingerprint import remembers
from ...trainable import Trainable

DEFAULT_STEPS = 40
NO_SHOT_NOISE = 2.0**-24  # amounts below it: noise that float32 cannot hold beside 1


def _per_image(amount: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return amount.reshape(-1, 1, 1, 1)


@takes_arrays
def corrupt(x: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    """x (1 - a) + noise a: x and noise (B, C, H, W), amount (B,) in [0, 1] -> (B, C, H, W).

    With uniform noise this is what the article (docs/systems.md) calls corruption. (Its words, "the noise is multiplied
    with the image and added to 1 minus its share", describe something else than its code, which is this.) It is also
    the straight path of rectified flow (Liu et al., https://arxiv.org/abs/2209.03003, eq. 1), there from Gaussian
    noise.
    """
    a = _per_image(amount)
    return x * (1 - a) + noise * a


# --- the kinds of noise: apply(x, a, z) -> corrupted, and draw(rng, x, a) -> z ----------------------------------------


@takes_arrays
def uniform(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """`corrupt` with z uniform in [0, 1): mean x (1 - a) + a/2, variance a^2 / 12, all of it noise at a = 1.

    Uniform noise: Gonzalez & Woods, Digital Image Processing, 4th ed., section 5.2.
    """
    return corrupt(x, amount, z)


@takes_arrays
def gaussian(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """x + a z, z standard normal: mean x, standard deviation a, not clipped. At a = 1 as strong as the image's range.

    Additive Gaussian noise: Gonzalez & Woods, section 5.2. The article adds a standard deviation of 1 to pixels of
    0..255, which nobody can see; its picture shows the noise only because matplotlib stretches it.
    """
    return x + _per_image(amount) * z


@takes_arrays
def salt_and_pepper(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """Each value becomes 0 (pepper) with probability a/2 and 1 (salt) with a/2: z uniform in [0, 1) decides.

    Mean x (1 - a) + a/2, variance a (1 - a) (x - 1/2)^2 + a/4; nothing of the image is left at a = 1.
    Bipolar impulse noise: Gonzalez & Woods, section 5.2 (P_s = P_p). The article calls a share of untouched pixels
    the signal-to-noise ratio, its text sets pixels to random values between (that is random-valued impulse noise), its
    code damages twice the ``prob`` it is given, and its ``generate_salt_pepper_noise`` writes 1 for salt, 2 for pepper
    and more pepper along the border.
    """
    a = _per_image(amount)
    return ops.select(z < 0.5 * a, ops.zeros_like(x), ops.select(z < a, ops.ones_like(x), x))


@takes_arrays
def poisson(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """z photons, z ~ Poisson(x / a^2), shown as z a^2: mean x, standard deviation a sqrt(x).

    Shot noise: light comes in photons, of which a pixel that is 1 gets 1 / a^2 on average, and their number has its
    mean as its variance (Hasinoff, "Photon, Poisson noise", in Computer Vision: A Reference Guide, 2014). It depends on
    the image, is none where that is black, and is as strong as `gaussian` where it is white. Amounts below 2^-24 add
    nothing. The article's definition, "pixels appear with a probability that fluctuates within a range", is not it,
    and the causes it gives (dim light, warm electronics) are copied from Gaussian noise to all four kinds.
    """
    a = _per_image(amount)
    return ops.select(ops.broadcast_to(a < NO_SHOT_NOISE, x.shape), x, z * a * a)


@takes_arrays
def multiplicative(x: Tensor, amount: Tensor, z: Tensor) -> Tensor:
    """x + x a z = x (1 + a z), z standard normal: mean x, standard deviation a x, none where the image is black.

    Speckle in Lee's model, the image times noise of mean 1 (IEEE TPAMI 2(2), 1980, eq. 13). The article's "artefact
    of two or more low-frequency signals multiplied into a high-frequency one" is no noise; it also says of impulse
    noise that its relation to the signal is multiplication, which this is and that is not.
    """
    return x + x * (_per_image(amount) * z)


def _draw_uniform(rng: np.random.Generator, x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return rng.random(x.shape, dtype=np.float32)


def _draw_normal(rng: np.random.Generator, x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return normal(rng, x.shape)


def _draw_photons(rng: np.random.Generator, x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    a = np.maximum(np.asarray(amount, np.float64), NO_SHOT_NOISE).reshape(-1, 1, 1, 1)
    return rng.poisson(np.asarray(x, np.float64) / (a * a)).astype(np.float32)


class Noise(NamedTuple):
    """A kind of noise.

    apply: (x (B, C, H, W) in [0, 1], amount (B,) in [0, 1], z like x) -> the corrupted images.
    draw: (rng, x, amount), numpy -> z float32, on the host.
    """

    apply: Callable[[Tensor, Tensor, Tensor], Tensor]
    draw: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


NOISES = {
    "uniform": Noise(uniform, _draw_uniform),
    "gaussian": Noise(gaussian, _draw_normal),
    "salt_and_pepper": Noise(salt_and_pepper, _draw_uniform),
    "poisson": Noise(poisson, _draw_photons),
    "multiplicative": Noise(multiplicative, _draw_normal),
}


def noise_of(kind: str) -> Noise:
    """The row of `NOISES` called ``kind``. Raises UserError for another name."""
    if kind not in NOISES:
        raise UserError(f"noise_kind is {kind!r}, expected one of: {', '.join(NOISES)}")
    return NOISES[kind]


def start_tape(kind: str, seed: int | None, shape: tuple[int, ...], first_image: int = 0) -> Iterator[np.ndarray]:
    """The one array a chain starts from: z of a mid-grey image at amount 1, (B, C, H, W) float32.

    Image i draws from ``SeedSequence([seed, first_image + i])`` as in `random.noise_tape`.
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    grey, whole = np.full((1, *shape[1:]), 0.5, np.float32), np.ones(1, np.float32)
    draws = [noise_of(kind).draw(stream(seed, first_image + i), grey, whole) for i in range(shape[0])]
    yield np.concatenate(draws)


# --- training and sampling --------------------------------------------------------------------------------------------


@remembers()
class Corruption(Trainable):
    """Trains and samples a network that undoes corruption.

    ``corruption(img, amount, z)`` with img (B, C, H, W) in [0, 1] gives the mean squared error of the network's answer
    to the corrupted images; `draw` makes amount, uniform in [0, 1) for each image, and z; `sample` makes images.

    Args:
        model: ``model(x)`` -> like x; has ``channels`` and may have ``check_size(height, width)``.
        image_size: side, or (height, width).
        noise_kind: a key of `NOISES`.
        sampling_timesteps: default steps of `sample` (default 40).

    Raises:
        UserError: for a kind that does not exist, and sizes and steps that do not fit.
    """

    named_as_torch = True

    def __init__(
        self,
        model: nn.Cell,
        *,
        image_size: int | tuple[int, int],
        noise_kind: str = "uniform",
        sampling_timesteps: int | None = None,
    ):
        super().__init__()
        self.noise = noise_of(noise_kind)
        self.noise_kind = noise_kind
        self.model = model
        self.channels = model.channels
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if min(self.image_size) < 1:
            raise UserError(f"image_size is {image_size}, expected positive")
        said_by(model, "check_size")(*self.image_size)
        self.sampling_timesteps = DEFAULT_STEPS if sampling_timesteps is None else sampling_timesteps
        _check_steps(self.sampling_timesteps, "sampling_timesteps")
        self.corruption = self.noise.apply
        self._graphs = OwnGraphs()

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(amount (B,), z like the images): what is random in one training step."""
        img = batch[0]
        amount = rng.random(img.shape[0], dtype=np.float32)
        return amount, self.noise.draw(rng, img, amount)

    def construct(self, img: Tensor, amount: Tensor, z: Tensor) -> Tensor:
        """Mean over all values of (model(corrupted) - img)^2: scalar."""
        error = ops.cast(self.model(self.corruption(img, amount, z)), img.dtype) - img
        return (error * error).mean()

    @takes_arrays
    def step(self, x: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        """One step towards the network's answer: (x (1 - mix) + prediction mix, prediction).

        With mix = 1 / (n - i) in step i of n this takes the amount from a = 1 - i/n to a' = 1 - (i + 1)/n and leaves
        the noise as the prediction implies it: x' = prediction + (a' / a) (x - prediction). So it is exact for every
        kind that is affine in a (`uniform`, `gaussian`, `multiplicative`), and is the deterministic step of cold
        diffusion (Bansal et al., https://arxiv.org/abs/2208.09392, Algorithm 2) and of rectified flow by Euler.
        """
        prediction = ops.cast(self.model(x), x.dtype)
        return x * (1 - mix) + prediction * mix, prediction

    def compiled_step(self) -> Callable:
        """`step` as one compiled graph, made once."""
        return self._graphs.made("step", step_of, self)

    def start(self, z: np.ndarray) -> Tensor:
        """Where a chain starts: a mid-grey image at amount 1. For uniform noise that is z itself."""
        z = Tensor(z)
        return self.corruption(ops.ones_like(z) * 0.5, ops.ones((z.shape[0],), z.dtype), z)

    def chain(
        self, batch_size: int = 16, *, seed: int | None = None, noise=None, steps: int | None = None,
        first_image: int = 0, progress: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Every state (B, steps + 1, C, H, W), the start first, and every prediction (B, steps, C, H, W).

        Args are those of `sample`.
        """
        chain, predictions = self._run(batch_size, seed, noise, steps, first_image, progress, keep=True)
        return chain.result(), ops.stack(predictions, axis=1)

    def sample(
        self, batch_size: int = 16, *, seed: int | None = None, noise=None, labels=None, first_image: int = 0,
        progress: bool = False, return_all_timesteps: bool = False, steps: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Images (B, C, H, W), of range [0, 1] and not clipped; with ``return_all_timesteps`` (B, steps + 1, C, H, W).

        Args:
            batch_size: images at a time.
            seed: image i draws from a stream of its own, named by seed and ``first_image`` + i.
            noise: a tape in place of that: one array (B, C, H, W) of z, see `start_tape`.
            labels: None: there are no classes here.
            steps: n of the mix factors 1 / (n - i); 5 show the idea, 40 are the article's best.

        A kind that leaves something of the image at amount 1 (all but uniform and salt_and_pepper) starts from a
        corrupted grey image: it restores images, and does not know how to make many different ones.

        Raises:
            UserError: for numbers out of range, labels, and a tape that does not fit.
        """
        if labels is not None:
            raise UserError("labels are given, but a corruption model knows no classes; leave them out")
        chain, _ = self._run(batch_size, seed, noise, steps, first_image, progress, keep=return_all_timesteps)
        return chain.result()

    def check_sample(self, *, steps: int | None = None) -> None:
        """Raises UserError where `sample` would refuse ``steps``, before anything is drawn."""
        _check_steps(self.sampling_timesteps if steps is None else steps, "steps")

    def _run(self, batch_size, seed, noise, steps, first_image, progress, *, keep) -> tuple[Chain, list[Tensor]]:
        self.check_sample(steps=steps)
        steps = self.sampling_timesteps if steps is None else steps
        for name, value, least in (("batch_size", batch_size, 1), ("first_image", first_image, 0), ("seed", seed, 0)):
            if value is not None:
                _check_whole(name, value, least)
        shape = (batch_size, self.channels, *self.image_size)
        arrays = start_tape(self.noise_kind, seed, shape, first_image) if noise is None else noise
        return towards(self, arrays, shape, steps, keep=keep, progress=progress)


def _check_steps(steps: int, name: str) -> None:
    _check_whole(name, steps, 1)
    if steps > MAX_STEPS:
        raise UserError(f"{name} is {quoted(steps)}, expected at most {MAX_STEPS}; usual: {DEFAULT_STEPS}")


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is {quoted(value)}, expected at least {least}, a whole number")


def build_corruption(config: Config) -> Corruption:
    """The BasicNet and noise of ``config``, with the initial weights of its seed. Raises UserError for bad values."""
    height, width = image_sides(config)
    BasicNet.check_size(height, width)
    net = BasicNet(config.channels, config.channels, rng=stream(config.seed, Stream.WEIGHTS))
    return Corruption(
        net, image_size=(height, width), noise_kind=config.noise_kind, sampling_timesteps=config.sampling_timesteps
    )
