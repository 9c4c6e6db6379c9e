"""ScoreModel: trains a network to know the gradient of the noised data's log-density, and samples with it.

Song et al., "Score-based generative modeling through stochastic differential equations",
https://arxiv.org/abs/2011.13456; denoising score matching: Vincent 2011, "A connection between score matching and
denoising autoencoders"; classifier-free guidance: Ho & Salimans, https://arxiv.org/abs/2207.12598.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn, ops

from ...arrays import takes_arrays
from ...config.limits import SMALLEST_EPS
from ...data import check_labels
from ...devices.runtime import OwnGraphs
from ...errors import UserError, quoted
from ...maths.random import Stream, normal, stream
from ...nn.contract import said_by
from ...nn.preconditioning import PreconditionedScore
from ...nn.sde import SDE, SDES
from ...samplers import score as samplers
from ...samplers.request import check_request, is_real
from ...storage.fingerprint import remembers
from ...trainable import Trainable

if TYPE_CHECKING:
    from ...config import Config

DEFAULT_STEPS = 500


@remembers(free=("sampler", "denoise"))
class ScoreModel(Trainable):
    """Trains and samples ``net`` as the score of images under ``sde``.

    ``model(img, t, z)``, with ``conditional`` ``model(img, labels, t, z[, dropped])``, gives the scalar loss; `draw`
    makes what follows the batch; `sample` makes images. Images are taken as they are, in [0, 1] as in the score
    article of docs/systems.md (latents: normalised), and never scaled to [-1, 1].

    Args:
        net: ``net(x, t)`` or ``net(x, t, y)`` -> score of x's shape; x (B, C, H, W), t (B,) float32, y (B,) int32.
        sde: see `ms_ddpm.nn.sde`.
        image_size: (height, width) or side; channels: C.
        num_classes: 0 for a network without classes; otherwise ``net`` takes y in 0 ... num_classes - 1.
        class_dropout: the share of training images whose class is replaced by "none" (row ``num_classes`` of the
            network's embedding, so ``net.null_class`` must be True): what classifier-free guidance needs.
        guidance_scale: default s of `sample`: score = s_none + s (s_class - s_none). 1 is the plain conditional score,
            0 the unconditional; Ho & Salimans' w (eq. 6) is s - 1.
        sampler: default of `sample`, a key of `ms_ddpm.samplers.score.SCORE_SAMPLERS`.
        sampling_timesteps: default number of steps (None: 500).
        sampling_eps: the time at which sampling ends; noise of standard deviation ``sde.marginal_prob_std(eps)`` is
            left then, but for what the last step takes away.
        corrector_snr: r of the "pc" sampler's Langevin corrector.
        time_power: p of the training times t = eps + (1 - eps) u^p, u uniform. 1 is the article's. The noise's
            deviation grows as sqrt(t) at first, so with 1 a hundredth of the times has all noise below 0.1; with 2 a
            tenth, which short trainings need to end without grain.
        denoise: default of `sample`: whether to end with x_0's expected value; False is what the article does.

    Raises:
        UserError: for a value that does not exist or does not fit the network.
    """

    whole_numbers = frozenset({"labels", "y", "dropped"})
    named_as_torch = True  # the twin's names, "net." before the network's: see `ms_ddpm.storage.convert`

    def __init__(
        self,
        net: nn.Cell,
        sde: SDE,
        *,
        image_size: int | tuple[int, int],
        channels: int,
        num_classes: int = 0,
        class_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        sampler: str = "euler",
        sampling_timesteps: int | None = None,
        sampling_eps: float = 1e-3,
        corrector_snr: float = 0.16,
        denoise: bool = False,
        time_power: float = 1.0,
    ):
        super().__init__()
        if not (is_real(time_power) and 0 < time_power <= 10):
            raise UserError(f"time_power is {quoted(time_power)}, expected above 0 and at most 10")
        self.time_power = time_power
        self.net = net
        self.sde = sde
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.channels = channels
        if min(*self.image_size, channels) < 1:
            raise UserError(f"images of {channels} channels and size {self.image_size}, expected positive numbers")
        said_by(net, "check_size")(*self.image_size)
        known = said_by(net, "num_classes")
        if num_classes < 0 or known not in (None, num_classes):
            raise UserError(f"num_classes is {num_classes}, expected {'0 or more' if known is None else known}")
        self.num_classes = num_classes
        self.conditional = num_classes > 0
        self.null_class = bool(said_by(net, "null_class"))
        self.preconditioned = isinstance(net, PreconditionedScore)
        if self.preconditioned and not net.sde.same_as(sde):
            raise UserError(f"the network is preconditioned for {net.sde}, and the model's process is {sde}")
        if not (is_real(class_dropout) and 0 <= class_dropout < 1):
            raise UserError(f"class_dropout is {quoted(class_dropout)}, expected 0 to below 1")
        if class_dropout > 0 and not self.conditional:
            raise UserError(f"class_dropout is {class_dropout}, but the model has no classes (num_classes 0)")
        if class_dropout > 0 and not self.null_class:
            raise UserError(
                f"class_dropout is {class_dropout}, but the network has no row for 'no class'; "
                "build it with null_class=True"
            )
        self.class_dropout = class_dropout
        self.guidance_scale = guidance_scale
        self.sampler = sampler
        self.sampling_timesteps = DEFAULT_STEPS if sampling_timesteps is None else sampling_timesteps
        self.sampling_eps = sampling_eps
        self.corrector_snr = corrector_snr
        self.denoise = denoise
        self._reverse_steps = OwnGraphs()
        check_request(self, steps=None if sampler == "ode" else self.sampling_timesteps)

    # --- training ------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple:
        """What is random in one training step, for ``construct(*batch, *draw(rng, batch))``.

        t (B,) in [1e-5, 1], uniform with ``time_power`` 1; z like the images; with ``class_dropout`` also whose class
        is hidden, (B,) int32.
        """
        img = batch[0]
        t = (SMALLEST_EPS + (1 - SMALLEST_EPS) * rng.random(len(img)) ** self.time_power).astype(np.float32)
        z = normal(rng, img.shape)
        if not self.conditional:
            return t, z
        check_labels(np.asarray(batch[1]), self.num_classes)
        if self.class_dropout == 0:
            return t, z
        return t, z, (rng.random(len(img)) < self.class_dropout).astype(np.int32)

    @takes_arrays
    def perturb(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """x_t = marginal_prob_coeff(t) x_0 + marginal_prob_std(t) z (Song et al., eq. 29)."""
        coeff = self.sde.marginal_prob_coeff(t).reshape(-1, 1, 1, 1)
        return coeff * x + self.sde.marginal_prob_std(t).reshape(-1, 1, 1, 1) * z

    @takes_arrays
    def p_losses(self, x: Tensor, t: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean over images of sum((std(t) score(x_t, t) + z)^2): scalar.

        Denoising score matching (Song et al., eq. 7) with the weight lambda(t) = std(t)^2 of their section 3.3; of a
        `PreconditionedScore` with that of Karras et al.
        """
        noised = self.perturb(x, t, z)
        if self.preconditioned:
            error = self.net.error(x, noised, t, z) if y is None else self.net.error(x, noised, t, z, y)
        else:
            error = self.score(noised, t, y) * self.sde.marginal_prob_std(t).reshape(-1, 1, 1, 1) + z
        return (error * error).reshape(x.shape[0], -1).sum(axis=1).mean()

    def argument_names(self) -> tuple[str, ...]:
        """Of a call: the batch's, then those of `draw`."""
        if not self.conditional:
            return "img", "t", "z"
        return ("img", "labels", "t", "z") if self.class_dropout == 0 else ("img", "labels", "t", "z", "dropped")

    def construct(self, img: Tensor, *inputs: Tensor) -> Tensor:
        """Loss of one batch, ``(*batch, *draw(rng, batch))``: scalar."""
        if not self.conditional:
            t, z = inputs
            return self.p_losses(img, t, z, None)
        if self.class_dropout == 0:
            y, t, z = inputs
            return self.p_losses(img, t, z, y)
        labels, t, z, dropped = inputs
        return self.p_losses(img, t, z, labels + dropped * (self.num_classes - labels))

    # --- the score -----------------------------------------------------------------------------------------------

    @takes_arrays
    def score(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's estimate of grad log p_t(x), or of grad log p_t(x | y): of x's shape."""
        return self.net(x, t) if y is None else self.net(x, t, y)

    @takes_arrays
    def guided_score(self, x: Tensor, t: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """s_none + scale (s_class - s_none) (Ho & Salimans, eq. 6, scale = 1 + w), both in one call of the network."""
        none = ops.zeros_like(y) + self.num_classes
        both = self.score(ops.concat((x, x), 0), ops.concat((t, t), 0), ops.concat((y, none), 0))
        of_class, of_none = ops.split(both, x.shape[0], 0)
        return of_none + scale * (of_class - of_none)

    def compiled_step(self, make: Callable, guided: bool) -> Callable:
        """``make(score)``, a step around ``score(x, t, y, scale)``, as one compiled graph, made once."""
        key = make, guided
        return self._reverse_steps.made(key, make, _guided(self) if guided else _plain(self))

    # --- sampling ------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int = 16, *, sampler: str | None = None, **options) -> Tensor:
        """Images (B, C, H, W) around [0, 1], not clipped; see `ms_ddpm.samplers.score` for the options."""
        return samplers.sample(self, batch_size, sampler, options)

    def check_sample(self, *, sampler: str | None = None, **options) -> None:
        """Raises UserError where `sample` would refuse ``options``, before anything is drawn."""
        samplers.check_sample(self, sampler, options)


# Plain functions: after ``ms.jit(cell.method)`` MindSpore 2.10 takes ``cell(...)`` in a later graph for that method.


def _plain(model: ScoreModel) -> Callable:
    def score(x, t, y, scale):
        return model.score(x, t, y)

    return score


def _guided(model: ScoreModel) -> Callable:
    def score(x, t, y, scale):
        return model.guided_score(x, t, y, scale)

    return score


def build_sde(config: Config) -> SDE:
    """The SDE of ``config``."""
    if config.sde not in SDES:
        raise UserError(f"sde is {quoted(config.sde)}, expected one of: {', '.join(SDES)}")
    if config.sde == "ve":
        return SDES["ve"](config.sigma)
    return SDES[config.sde](config.sde_beta_min, config.sde_beta_max)


def precondition(net: nn.Cell, sde: SDE, config: Config) -> nn.Cell:
    """``net``, within `PreconditionedScore` where ``config`` gives the data's deviation."""
    if config.sigma_data is not None:
        return PreconditionedScore(net, sde, config.sigma_data, config.data_mean)
    if config.data_mean != 0:
        raise UserError(
            f"data_mean is {config.data_mean:g}, but it is used with sigma_data alone; set sigma_data, or data_mean 0"
        )
    return net


def score_options(config: Config) -> dict[str, Any]:
    """What a `ScoreModel` takes from ``config`` whatever its network is."""
    return {
        "num_classes": config.num_classes,
        "class_dropout": config.class_dropout if config.num_classes else 0.0,
        "guidance_scale": config.guidance_scale,
        "sampler": config.score_sampler,
        "sampling_timesteps": config.sampling_timesteps,
        "sampling_eps": config.sampling_eps,
        "corrector_snr": config.corrector_snr,
        "denoise": config.sampling_denoise,
        "time_power": config.time_power,
    }


def build_score(config: Config) -> ScoreModel:
    """The score network and model of ``config``, with the initial weights of its seed."""
    from ...config import image_sides

    sde = build_sde(config)
    rng = stream(config.seed, Stream.WEIGHTS)
    common = {
        "channels": tuple(config.channel_widths), "embed_dim": config.embed_dim, "in_channels": config.channels,
        "fourier_scale": config.fourier_scale, "whole": config.whole_images, "rng": rng,
    }  # fmt: skip
    conditional = config.score_net == "transformer"
    if conditional:
        from ...models.conditional_unet import ConditionalScoreUnet

        if config.num_classes < 1:
            raise UserError(
                "score_net transformer is class-conditional and num_classes is 0; set num_classes, or score_net: concat"
            )
        net = ConditionalScoreUnet(
            sde.marginal_prob_std, text_dim=config.text_dim, num_classes=config.num_classes,
            num_heads=config.num_heads, null_class=config.class_dropout > 0, **common,
        )  # fmt: skip
    elif config.score_net in ("concat", "add"):
        from ...models.score_unet import ScoreUnet

        if config.num_classes > 0:
            raise UserError(
                f"num_classes is {config.num_classes}, but score_net {config.score_net} knows no classes; "
                "set score_net: transformer, or num_classes: 0"
            )
        net = ScoreUnet(sde.marginal_prob_std, skips=config.score_net, **common)
    else:
        raise UserError(f"score_net is {quoted(config.score_net)}, expected one of: concat, add, transformer")
    return ScoreModel(
        precondition(net, sde, config),
        sde,
        image_size=image_sides(config),
        channels=config.channels,
        **score_options(config),
    )
