"""GaussianDiffusion: forward process, posterior, one reverse step, and the losses.

Symbols follow Ho et al., "Denoising Diffusion Probabilistic Models", https://arxiv.org/abs/2006.11239: x_0 an image in
[-1, 1], x_t the noised one, eps the noise, t = 0 ... T-1, abar_t the table ``alphas_cumprod``.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, nn, ops

from ...arrays import takes_arrays
from ...devices.runtime import OwnGraphs
from ...errors import UserError
from ...maths import schedules
from ...maths.random import immiscible_assignment, normal
from ...nn.contract import said_by
from ...nn.likelihood import discretized_gaussian_log_likelihood, normal_kl
from ...ops.elementary import exp
from ...samplers import discrete
from ...storage.fingerprint import remembers
from ...trainable import Trainable

LOG2 = math.log(2.0)
VB_LOSS_WEIGHT = 0.001  # lambda of Nichol & Dhariwal, https://arxiv.org/abs/2102.09672, eq. 16


class ModelPrediction(NamedTuple):
    """What a network's output means: the noise, x_0, and (learned variance only) the raw variance channels."""

    pred_noise: Tensor
    pred_x_start: Tensor
    variance: Tensor | None = None


@remembers()
class GaussianDiffusion(Trainable):
    """Trains and samples a network as a denoising diffusion model.

    ``diffusion(img, t, noise)`` with img (B, C, H, W) in [0, 1], t (B,) int32 and noise like img gives the scalar
    loss; `draw` makes t and noise; `sample` makes images. Everything random comes in as an argument. Arguments of this
    and of the methods below are tensors or numpy arrays, results are tensors.

    Args:
        model: called as ``model(x, t, x_self_cond)``; has ``channels``, ``out_dim``, ``self_condition``. With
            ``out_dim == 2 * channels`` the variance is learned.
        image_size: side, or (height, width).
        timesteps: T.
        sampling_timesteps: default steps of `sample`; fewer than T means DDIM.
        objective: "pred_v", "pred_noise" or "pred_x0".
        beta_schedule, schedule_fn_kwargs: see `ms_ddpm.maths.schedules`.
        loss_type: "l2" or "l1".
        ddim_sampling_eta: 0 deterministic ... 1 as noisy as DDPM.
        rederive_pred_noise: where "pred_noise" gives an x_0 that DDIM clips, eps follows from the clipped one
            (lucidrains 2.x, Glide). False keeps the network's own eps (its releases of 2022 and their MindSpore port,
            diffusers); the other objectives derive eps from x_0 either way.
        auto_normalize: images come and go in [0, 1]; False: already in [-1, 1].
        offset_noise_strength: adds one random number per image and channel to the noise, this strong.
        min_snr_loss_weight, min_snr_gamma: clips the SNR in the loss weight (https://arxiv.org/abs/2303.09556).
        p2_loss_weight_gamma, p2_loss_weight_k: multiplies the loss by (k + snr)^-gamma (https://arxiv.org/abs/2204.00227).
        immiscible: assigns each image of a batch the nearest noise (https://arxiv.org/abs/2406.12303).

    Raises:
        UserError: for a value that does not exist or does not fit the model.
    """

    def __init__(
        self,
        model: nn.Cell,
        *,
        image_size: int | tuple[int, int],
        timesteps: int = 1000,
        sampling_timesteps: int | None = None,
        objective: str = "pred_v",
        beta_schedule: str = "sigmoid",
        schedule_fn_kwargs: dict | None = None,
        loss_type: str = "l2",
        ddim_sampling_eta: float = 0.0,
        rederive_pred_noise: bool = True,
        auto_normalize: bool = True,
        offset_noise_strength: float = 0.0,
        min_snr_loss_weight: bool = False,
        min_snr_gamma: float = 5,
        p2_loss_weight_gamma: float = 0.0,
        p2_loss_weight_k: float = 1,
        immiscible: bool = False,
    ):
        super().__init__()
        for name, value, known in (
            ("objective", objective, schedules.OBJECTIVE_WEIGHT),
            ("loss_type", loss_type, ("l2", "l1")),
        ):
            if value not in known:
                raise UserError(f"{name} is {value!r}, expected one of: {', '.join(known)}")
        self.model = model
        self.channels = model.channels
        self.self_condition = model.self_condition
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if min(self.image_size) < 1:
            raise UserError(f"image_size is {image_size}, expected positive")
        said_by(model, "check_size")(*self.image_size)
        self.learned_variance = model.out_dim == 2 * model.channels
        if model.out_dim not in (model.channels, 2 * model.channels):
            raise UserError(
                f"the model gives {model.out_dim} channels for images of {model.channels}; expected the same "
                "number, or twice it for learned variance"
            )
        self.objective = objective
        self.loss_type = loss_type
        self.num_timesteps = timesteps
        self.sampling_timesteps = timesteps if sampling_timesteps is None else sampling_timesteps
        if not 1 <= self.sampling_timesteps <= timesteps:
            raise UserError(f"sampling_timesteps is {sampling_timesteps}, expected 1 to timesteps ({timesteps})")
        self.is_ddim_sampling = self.sampling_timesteps < timesteps
        self.ddim_sampling_eta = ddim_sampling_eta
        self.rederive_pred_noise = rederive_pred_noise
        self.auto_normalize = auto_normalize
        self.offset_noise_strength = offset_noise_strength
        self.immiscible = immiscible
        if immiscible and importlib.util.find_spec("scipy") is None:
            raise UserError("immiscible noise needs scipy; run: pip install 'ms_ddpm[digits]'")

        betas = schedules.beta_schedule(beta_schedule, timesteps, **(schedule_fn_kwargs or {}))
        with np.errstate(all="ignore"):  # what is not finite is refused below
            self.tables = schedules.diffusion_tables(betas)  # float64, for coefficients computed on the host
            self.tables["loss_weight"] = schedules.loss_weight(
                self.tables["alphas_cumprod"],
                objective,
                min_snr_loss_weight=min_snr_loss_weight,
                min_snr_gamma=min_snr_gamma,
                p2_loss_weight_gamma=p2_loss_weight_gamma,
                p2_loss_weight_k=p2_loss_weight_k,
            )
        schedules.check_tables(self.tables, beta_schedule, timesteps)
        for name, table in self.tables.items():
            self.register_buffer(name, Tensor(table.astype(np.float32)))
        self.log_betas = Tensor(np.log(betas).astype(np.float32))
        self._reverse_steps = OwnGraphs()

    # --- the forward process -------------------------------------------------------------------------------------

    @takes_arrays
    def extract(self, table: Tensor, t: Tensor) -> Tensor:
        """table[t], shaped (B, 1, 1, 1)."""
        return ops.gather(table, t, 0).reshape(-1, 1, 1, 1)

    @takes_arrays
    def normalize(self, img: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return img * 2 - 1 if self.auto_normalize else img

    @takes_arrays
    def unnormalize(self, x: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1]."""
        return (x + 1) * 0.5 if self.auto_normalize else x

    @takes_arrays
    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps (Ho et al., eq. 4)."""
        return (
            self.extract(self.sqrt_alphas_cumprod, t) * x_start
            + self.extract(self.sqrt_one_minus_alphas_cumprod, t) * noise
        )

    @takes_arrays
    def predict_start_from_noise(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_0 from x_t and eps (eq. 4 solved for x_0)."""
        return (
            self.extract(self.sqrt_recip_alphas_cumprod, t) * x_t
            - self.extract(self.sqrt_recipm1_alphas_cumprod, t) * noise
        )

    @takes_arrays
    def predict_noise_from_start(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """eps from x_t and x_0 (eq. 4 solved for eps)."""
        return (self.extract(self.sqrt_recip_alphas_cumprod, t) * x_t - x0) / self.extract(
            self.sqrt_recipm1_alphas_cumprod, t
        )

    @takes_arrays
    def predict_v(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho, https://arxiv.org/abs/2202.00512, section 4)."""
        return (
            self.extract(self.sqrt_alphas_cumprod, t) * noise
            - self.extract(self.sqrt_one_minus_alphas_cumprod, t) * x_start
        )

    @takes_arrays
    def predict_start_from_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 = sqrt(abar) x_t - sqrt(1 - abar) v."""
        return self.extract(self.sqrt_alphas_cumprod, t) * x_t - self.extract(self.sqrt_one_minus_alphas_cumprod, t) * v

    @takes_arrays
    def q_posterior(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and clipped log-variance of q(x_{t-1} | x_t, x_0) (eqs. 6 and 7)."""
        mean = self.extract(self.posterior_mean_coef1, t) * x_start + self.extract(self.posterior_mean_coef2, t) * x_t
        return mean, self.extract(self.posterior_variance, t), self.extract(self.posterior_log_variance_clipped, t)

    # --- the reverse process -------------------------------------------------------------------------------------

    @takes_arrays
    def split_output(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output as (prediction, raw variance or None)."""
        if self.learned_variance:
            prediction, variance = ops.split(output, self.channels, 1)
            return prediction, variance
        return output, None

    @takes_arrays
    def interpret(
        self, output: Tensor, x: Tensor, t: Tensor, clip_x_start: bool = False, rederive_pred_noise: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network's ``output`` for x_t says: (eps, x_0, raw variance or None).

        A plain tuple: through a NamedTuple made inside a graph, MindSpore 2.10 loses the gradient without a word.
        """
        prediction, variance = self.split_output(output)
        if self.objective == "pred_noise":
            x_start = self.predict_start_from_noise(x, t, prediction)
        elif self.objective == "pred_v":
            x_start = self.predict_start_from_v(x, t, prediction)
        else:
            x_start = prediction
        if clip_x_start:
            x_start = ops.clamp(x_start, -1.0, 1.0)
        if self.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
            return prediction, x_start, variance
        return self.predict_noise_from_start(x, t, x_start), x_start, variance

    @takes_arrays
    def predictions(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        clip_x_start: bool = False,
        rederive_pred_noise: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Runs the network on x_t: `interpret` of its output."""
        return self.interpret(self.model(x, t, x_self_cond), x, t, clip_x_start, rederive_pred_noise)

    @takes_arrays
    def model_predictions(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        clip_x_start: bool = False,
        rederive_pred_noise: bool = False,
    ) -> ModelPrediction:
        """Runs the network on x_t; with both flags eps is computed again from the clipped x_0, as DDIM needs."""
        return ModelPrediction(*self.predictions(x, t, x_self_cond, clip_x_start, rederive_pred_noise))

    @takes_arrays
    def learned_log_variance(self, variance: Tensor, t: Tensor) -> Tensor:
        """Between log beta-tilde (raw -1) and log beta (raw +1) (Nichol & Dhariwal, eq. 15)."""
        fraction = (variance + 1) * 0.5
        smallest = self.extract(self.posterior_log_variance_clipped, t)
        return fraction * self.extract(self.log_betas, t) + (1 - fraction) * smallest

    @takes_arrays
    def p_mean_variance(
        self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, variance, log-variance of p(x_{t-1} | x_t), and the x_0 behind them."""
        _, x_start, raw_variance = self.predictions(x, t, x_self_cond, clip_x_start=clip_denoised)
        mean, variance, log_variance = self.q_posterior(x_start, x, t)
        if self.learned_variance:
            log_variance = self.learned_log_variance(raw_variance, t)
            variance = exp(log_variance)
        return mean, variance, log_variance, x_start

    @takes_arrays
    def p_sample(self, x: Tensor, t: Tensor, noise: Tensor, x_self_cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of ancestral sampling (Algorithm 2): (x_{t-1}, x_0). ``noise`` is ignored where t = 0."""
        mean, _, log_variance, x_start = self.p_mean_variance(x, t, x_self_cond, clip_denoised=True)
        adds_noise = ops.cast(t > 0, x.dtype).reshape(-1, 1, 1, 1)
        return mean + adds_noise * exp(0.5 * log_variance) * noise, x_start

    @takes_arrays
    def ddim_step(
        self, x: Tensor, t: Tensor, coefficients: Tensor, noise: Tensor, x_self_cond: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One DDIM step (Song et al., https://arxiv.org/abs/2010.02502, eq. 12): (x at the next time, x_0).

        ``coefficients`` (3,) multiply x_0, eps and noise: sqrt(abar'), sqrt(1 - abar' - sigma^2), sigma.
        """
        eps, x_start, _ = self.predictions(
            x, t, x_self_cond, clip_x_start=True, rederive_pred_noise=self.rederive_pred_noise
        )
        of_start, of_eps, of_noise = ops.split(coefficients, 1, 0)
        return x_start * of_start + eps * of_eps + noise * of_noise, x_start

    def compiled_step(self, name: str) -> Callable:
        """``p_sample`` or ``ddim_step`` as one compiled graph, made once."""
        return self._reverse_steps.made(name, discrete.REVERSE_STEPS[name], self)

    # --- training ------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, batch: tuple[np.ndarray, ...]) -> tuple:
        """What is random in one training step, for ``construct(*batch, *draw(rng, batch))``.

        Returns (t, noise, self_cond, offset_noise, dropout_key), the last only after ``set_train(True)``. Immiscible
        assignment is done here: the noise is permuted, so that q_sample and the target see the same permutation.
        """
        img = batch[0]
        t = rng.integers(0, self.num_timesteps, img.shape[0], dtype=np.int32)
        noise = normal(rng, img.shape)
        if self.immiscible:
            noise = noise[immiscible_assignment(img * 2 - 1 if self.auto_normalize else img, noise)]
        self_cond = bool(self.self_condition and rng.random() < 0.5)
        offset_noise = normal(rng, img.shape[:2]) if self.offset_noise_strength > 0 else None
        drops = self.training and said_by(self.model, "dropout") > 0
        dropout_key = np.int32(rng.integers(-(2**31), 2**31)) if drops else None
        return t, noise, self_cond, offset_noise, dropout_key

    @takes_arrays
    def elementwise_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """l2 or l1, of the shape of its arguments."""
        difference = output - target
        return ops.abs(difference) if self.loss_type == "l1" else difference * difference

    @takes_arrays
    def per_image(self, loss: Tensor) -> Tensor:
        """Mean over everything but the batch: (B,)."""
        return loss.reshape(loss.shape[0], -1).mean(axis=1)

    @takes_arrays
    def variational_bound(self, x_start: Tensor, x_t: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """The term of the bound at t in bits per dimension, mean detached (Nichol & Dhariwal, section 3.1): (B,)."""
        true_mean, _, true_log_variance = self.q_posterior(x_start, x_t, t)
        _, estimate, raw_variance = self.interpret(output, x_t, t)
        mean, _, _ = self.q_posterior(estimate, x_t, t)
        mean = ops.stop_gradient(mean)
        log_variance = self.learned_log_variance(raw_variance, t)
        kl = self.per_image(normal_kl(true_mean, true_log_variance, mean, log_variance)) / LOG2
        likelihood = discretized_gaussian_log_likelihood(x_start, mean, 0.5 * log_variance)
        return ops.select(t == 0, -self.per_image(likelihood) / LOG2, kl)

    @takes_arrays
    def p_losses(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor,
        self_cond: bool = False,
        offset_noise: Tensor | None = None,
        dropout_key: Tensor | None = None,
    ) -> Tensor:
        """Loss of one batch, x_start in [-1, 1] (Algorithm 1, with the weight of t applied image by image): scalar."""
        if offset_noise is not None:
            noise = noise + self.offset_noise_strength * offset_noise.reshape(*offset_noise.shape, 1, 1)
        x_t = self.q_sample(x_start, t, noise)
        x_self_cond = None
        if self.self_condition and self_cond:
            x_self_cond = ops.stop_gradient(self.predictions(x_t, t)[1])
        if dropout_key is None:
            output = self.model(x_t, t, x_self_cond)
        else:
            output = self.model(x_t, t, x_self_cond, dropout_key)
        if self.objective == "pred_noise":
            target = noise
        elif self.objective == "pred_x0":
            target = x_start
        else:
            target = self.predict_v(x_start, t, noise)
        prediction, _ = self.split_output(output)
        loss = self.per_image(self.elementwise_loss(prediction, target)) * ops.gather(self.loss_weight, t, 0)
        if self.learned_variance:
            loss = loss + VB_LOSS_WEIGHT * self.variational_bound(x_start, x_t, t, output)
        return loss.mean()

    def construct(
        self,
        img: Tensor,
        t: Tensor,
        noise: Tensor,
        self_cond: bool = False,
        offset_noise: Tensor | None = None,
        dropout_key: Tensor | None = None,
    ) -> Tensor:
        """Loss of img (B, C, H, W) in [0, 1]: scalar."""
        return self.p_losses(self.normalize(img), t, noise, self_cond, offset_noise, dropout_key)

    # --- sampling ------------------------------------------------------------------------------------------------

    def sample(
        self,
        batch_size: int = 16,
        *,
        seed: int | None = None,
        noise=None,
        return_all_timesteps: bool = False,
        progress: bool = True,
        sampler: str | None = None,
        steps: int | None = None,
        eta: float | None = None,
        first_image: int = 0,
    ) -> Tensor:
        """Images (B, C, H, W) in [0, 1]; with ``return_all_timesteps`` (B, steps + 1, C, H, W); ``progress``: a bar.

        By default DDIM when the steps are fewer than ``timesteps``. ``noise`` is a tape, see `ms_ddpm.samplers`.

        Raises:
            UserError: for a request that `check_sample` refuses, and a tape that does not fit.
        """
        self.check_sample(sampler=sampler, steps=steps, eta=eta)
        return discrete.SAMPLERS[sampler or discrete.default_sampler(self, steps)](
            self, batch_size, steps=steps, eta=eta, seed=seed, noise=noise, return_all_timesteps=return_all_timesteps,
            progress=progress, first_image=first_image,
        )  # fmt: skip

    def check_sample(self, *, sampler: str | None = None, steps: int | None = None, eta: float | None = None) -> None:
        """Raises UserError where `sample` would refuse these, before anything is drawn."""
        discrete.check_request(self, sampler or discrete.default_sampler(self, steps), steps, eta)

    def interpolate(
        self, x1: Tensor, x2: Tensor, t: int | None = None, lam: float = 0.5, *, seed: int | None = None, noise=None,
        progress: bool = True,
    ) -> Tensor:  # fmt: skip
        """Images between x1 and x2 (Ho et al., section 4.4): see `ms_ddpm.samplers.interpolate`."""
        return discrete.interpolate(self, x1, x2, t, lam, seed=seed, noise=noise, progress=progress)
