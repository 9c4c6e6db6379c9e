"""A first DDPM in two methods: the class that beginners' articles write, as a view on `GaussianDiffusion`.

    x_t = ddpm.forward(x0, t, eta)       # noise is added; ddpm(x0, t) is the same with noise of its own
    eta_theta = ddpm.backward(x_t, t)    # the network says which
    loss = ((eta_theta - eta) ** 2).mean()

Everything else (schedules, samplers, the trainer) is `ddpm.diffusion`. docs/first_ddpm.md walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ...errors import UserError, quoted
from ...maths.random import host_rng, normal
from ...nn.contract import said_by
from .gaussian_diffusion import GaussianDiffusion

Array = Tensor | np.ndarray


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1


class _Model(nn.Cell):
    """A network called as ``network(x, t)``, in the shape that `GaussianDiffusion` expects."""

    def __init__(self, network: Callable, channels: int):
        super().__init__()
        self.channels = channels
        self.out_dim = channels
        self.self_condition = False
        self.network = network

    def construct(self, x, t, x_self_cond=None):
        return self.network(x, t)


class FirstDDPM(nn.Cell):
    """DDPM (Ho et al., https://arxiv.org/abs/2006.11239) with betas evenly from ``min_beta`` to ``max_beta``.

    Args:
        network: called as ``network(x, t)`` with x (n, C, H, W) float32 and t (n,) int32; gives the noise in x, of x's
            shape. A `Unet` fits.
        n_steps: T.
        min_beta, max_beta: first and last beta, exactly. With T = 200 and 0.02 the last abar is 0.13: x_T still shows
            36 % of the image, while sampling begins with none of it (docs/first_ddpm.md).
        image_chw: channels, height and width of the images, whose pixels lie in [-1, 1].
        rng: numpy Generator or seed of the noise that `forward` draws where it is given none; by default another one
            in every run.

    Attributes:
        betas, alphas, alpha_bars: (T,) float32 Tensors.
        diffusion: the `GaussianDiffusion` this is a view on; it trains on images in [0, 1].

    Raises:
        UserError: for values that do not fit.
    """

    def __init__(
        self,
        network: Callable,
        n_steps: int = 200,
        min_beta: float = 1e-4,
        max_beta: float = 0.02,
        image_chw: tuple[int, int, int] = (1, 28, 28),
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        if not (isinstance(image_chw, Sequence) and len(image_chw) == 3 and all(map(_is_count, image_chw))):
            raise UserError(
                f"image_chw is {quoted(image_chw)}, expected (channels, height, width), three whole numbers from 1"
            )
        if not _is_count(n_steps):
            raise UserError(f"n_steps is {quoted(n_steps)}, expected a whole number from 1")
        if said_by(network, "self_condition") or said_by(network, "out_dim") not in (None, image_chw[0]):
            raise UserError(
                f"the network must give {image_chw[0]} channels and know no self-conditioning; "
                "GaussianDiffusion can both"
            )
        self.n_steps = n_steps
        self.image_chw = tuple(image_chw)
        self.network = network
        self.rng = host_rng(rng)
        diffusion = GaussianDiffusion(
            _Model(network, image_chw[0]),
            image_size=tuple(image_chw[1:]),
            timesteps=n_steps,
            objective="pred_noise",
            beta_schedule="linear",
            schedule_fn_kwargs={"beta_start": min_beta, "beta_end": max_beta},
        )
        self._view = (diffusion,)  # in a tuple, where MindSpore does not look: the parameters are `network.*` alone
        self.betas = diffusion.betas
        self.alpha_bars = diffusion.alphas_cumprod
        self.alphas = Tensor((1 - diffusion.tables["betas"]).astype(np.float32))

    @property
    def diffusion(self) -> GaussianDiffusion:
        """The diffusion behind: what `Trainer` trains."""
        return self._view[0]

    def _times(self, t: Array, count: int) -> Tensor:
        """t as (n,) int32; a column (n, 1) is taken too."""
        values = t.asnumpy() if isinstance(t, Tensor) else np.asarray(t)
        if values.dtype.kind not in "iu" or values.shape not in ((count,), (count, 1)):
            raise UserError(
                f"t has shape {values.shape} and dtype {values.dtype}, expected {count} whole numbers, one per image: "
                f"({count},) or ({count}, 1)"
            )
        outside = values[(values < 0) | (values >= self.n_steps)]
        if outside.size:
            raise UserError(f"t has {outside.flat[0]}, expected 0 to n_steps - 1 ({self.n_steps - 1})")
        return Tensor(values.reshape(count), ms.int32)

    def _images(self, images: Array, name: str) -> Tensor:
        """``images`` as a float32 Tensor of this shape."""
        found = Tensor(np.ascontiguousarray(images, np.float32)) if isinstance(images, np.ndarray) else images
        if not isinstance(found, Tensor) or found.ndim != 4 or tuple(found.shape[1:]) != self.image_chw:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(images).__name__
            raise UserError(f"{name} is {shape}, expected (n, {', '.join(map(str, self.image_chw))})")
        return found

    def forward(
        self, x0: Array, t: Array, eta: Array | None = None, *, rng: np.random.Generator | None = None
    ) -> Tensor:
        """The noised images x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eta (Ho et al., eq. 4).

        Args:
            x0: (n, C, H, W) in [-1, 1].
            t: (n,) or (n, 1) whole numbers in 0 ... n_steps - 1.
            eta: standard normal noise like x0; without it, it is drawn.
            rng: the numpy Generator that it is drawn from, where ``eta`` is not given (default: the model's own, so
                that every call draws other noise).
        """
        x0 = self._images(x0, "x0")
        if eta is not None and rng is not None:
            raise UserError("forward takes the noise as eta= or a Generator as rng=, expected one of them, or neither")
        eta = self._images(normal(rng or self.rng, x0.shape) if eta is None else eta, "eta")
        if eta.shape != x0.shape:
            raise UserError(f"eta has {eta.shape[0]} images, expected as many as x0 ({x0.shape[0]})")
        return self.diffusion.q_sample(x0, self._times(t, x0.shape[0]), eta)

    def __call__(
        self, x0: Array, t: Array, eta: Array | None = None, *, rng: np.random.Generator | None = None
    ) -> Tensor:
        """``ddpm(x0, t)`` is `forward`, whatever the mode: there is nothing to compile in it."""
        return self.forward(x0, t, eta, rng=rng)

    def backward(self, x: Array, t: Array) -> Tensor:
        """What the network takes for the noise in ``x`` (n, C, H, W) at times ``t`` (n,) or (n, 1): like x."""
        x = self._images(x, "x")
        return self.network(x, self._times(t, x.shape[0]))

    def sample(self, batch_size: int = 16, *, seed: int | None = None, noise=None, progress: bool = True) -> Tensor:
        """New images (batch_size, C, H, W) in [0, 1]: all T steps back from pure noise (Algorithm 2)."""
        return self.diffusion.sample(batch_size, seed=seed, noise=noise, progress=progress)
