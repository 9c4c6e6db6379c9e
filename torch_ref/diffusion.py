"""Gaussian diffusion: the forward process, its posterior, one reverse step, and the losses.

Papers, by the name they are cited under:
    DDPM       Ho et al. 2020, https://arxiv.org/abs/2006.11239
    DDIM       Song et al. 2020, https://arxiv.org/abs/2010.02502
    Improved   Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672
    v          Salimans & Ho 2022, https://arxiv.org/abs/2202.00512, appendix D
Images are (B, C, H, W), in [-1, 1] inside and in [0, 1] outside; t is (B,) of integers 0 ... T-1.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import samplers, schedules


class ModelPrediction(NamedTuple):
    """Two views of what the network said about x_t."""

    pred_noise: Tensor
    pred_x_start: Tensor


class Objective(NamedTuple):
    """What the network is asked for: its target given (x_0, t, eps), and the x_0 that an answer at (x_t, t) implies."""

    target: Callable[["GaussianDiffusion", Tensor, Tensor, Tensor], Tensor]
    x_start: Callable[["GaussianDiffusion", Tensor, Tensor, Tensor], Tensor]


OBJECTIVES = {
    "pred_noise": Objective(lambda d, x0, t, eps: eps, lambda d, x, t, eps: d.predict_start_from_noise(x, t, eps)),
    "pred_x0": Objective(lambda d, x0, t, eps: x0, lambda d, x, t, x0: x0),
    "pred_v": Objective(
        lambda d, x0, t, eps: d.predict_v(x0, t, eps), lambda d, x, t, v: d.predict_start_from_v(x, t, v)
    ),
}
LOSSES = {"l1": lambda error: error.abs(), "l2": lambda error: error**2}
VARIATIONAL_BOUND_WEIGHT = 0.001  # lambda of Improved, eq. 16


def mean_of_image(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B,): the mean over all but the batch."""
    return x.flatten(1).mean(1)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N_1 || N_2) of two normals, elementwise, in nats."""
    ratio = torch.exp(log_variance1 - log_variance2)
    return 0.5 * (log_variance2 - log_variance1 - 1 + ratio + (mean1 - mean2) ** 2 * torch.exp(-log_variance2))


def normal_cdf(z: Tensor) -> Tensor:
    """The normal's distribution function in Improved's tanh approximation (Page 1977)."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def discretised_normal_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """DDPM eq. 13: log of N's mass in the 8-bit bin x +- 1/255, of which the first and the last reach to infinity."""
    upper = normal_cdf((x + 1 / 255 - mean) / log_scale.exp())
    lower = normal_cdf((x - 1 / 255 - mean) / log_scale.exp())
    upper = torch.where(x > 0.999, torch.ones_like(x), upper)
    lower = torch.where(x < -0.999, torch.zeros_like(x), lower)
    return torch.log((upper - lower).clamp(min=1e-15))


class GaussianDiffusion(nn.Module):
    """A diffusion process around a model: any ``model(x, t, x_self_cond)``, where ``x_self_cond`` None means zeros.

    The model has ``channels``, ``out_dim`` (twice that: it learns its variance) and ``self_condition``. Tables are made
    in float64 and rounded once, to ``dtype``: with float64 they are exact, while ``.double()`` would only widen them.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        *,
        image_size: int | tuple[int, int],
        timesteps: int = 1000,
        sampling_timesteps: int | None = None,
        objective: str = "pred_v",
        beta_schedule: str = "sigmoid",
        schedule_fn_kwargs: dict[str, Any] | None = None,
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
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.num_timesteps = timesteps
        self.sampling_timesteps = timesteps if sampling_timesteps is None else sampling_timesteps
        for name, value, known in (
            ("objective", objective, tuple(OBJECTIVES)),
            ("loss_type", loss_type, tuple(LOSSES)),
            ("sampling_timesteps", self.sampling_timesteps, range(1, timesteps + 1)),
            ("the model's out_dim", model.out_dim, (model.channels, 2 * model.channels)),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {known}")
        self.model = model
        self.channels = model.channels
        self.self_condition = model.self_condition
        self.learned_variance = model.out_dim == 2 * model.channels
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.objective = objective
        self.loss_type = loss_type
        self.ddim_sampling_eta = ddim_sampling_eta
        self.auto_normalize = auto_normalize
        self.rederive_pred_noise = rederive_pred_noise  # of DDIM; False as in the library's releases of 2022
        self.offset_noise_strength = offset_noise_strength
        self.immiscible = immiscible
        betas = schedules.beta_schedule(beta_schedule, timesteps, **(schedule_fn_kwargs or {}))
        self.tables = schedules.diffusion_tables(betas)  # float64: what the buffers are rounded from
        self.tables["loss_weight"] = schedules.loss_weight(
            self.tables["alphas_cumprod"],
            objective,
            min_snr_loss_weight=min_snr_loss_weight,
            min_snr_gamma=min_snr_gamma,
            p2_loss_weight_gamma=p2_loss_weight_gamma,
            p2_loss_weight_k=p2_loss_weight_k,
        )
        for name, table in self.tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=dtype))

    def at(self, name: str, t: Tensor) -> Tensor:
        """Table ``name`` at each image's t, as (B, 1, 1, 1)."""
        return getattr(self, name)[t][:, None, None, None]

    def normalize(self, img: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return img * 2 - 1 if self.auto_normalize else img

    def unnormalize(self, x: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1]."""
        return (x + 1) / 2 if self.auto_normalize else x

    # The forward process, and three names for one point: x_0, eps and v are linear in each other given x_t.

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps   (DDPM eq. 4)."""
        return self.at("sqrt_alphas_cumprod", t) * x_start + self.at("sqrt_one_minus_alphas_cumprod", t) * noise

    def predict_start_from_noise(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_0 = x_t / sqrt(abar) - sqrt(1/abar - 1) eps   (DDPM eq. 15)."""
        return self.at("sqrt_recip_alphas_cumprod", t) * x_t - self.at("sqrt_recipm1_alphas_cumprod", t) * noise

    def predict_noise_from_start(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """eps = (x_t / sqrt(abar) - x_0) / sqrt(1/abar - 1)   (DDPM eq. 15, solved for eps)."""
        return (self.at("sqrt_recip_alphas_cumprod", t) * x_t - x0) / self.at("sqrt_recipm1_alphas_cumprod", t)

    def predict_v(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0   (v, appendix D)."""
        return self.at("sqrt_alphas_cumprod", t) * noise - self.at("sqrt_one_minus_alphas_cumprod", t) * x_start

    def predict_start_from_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 = sqrt(abar) x_t - sqrt(1 - abar) v   (v, appendix D)."""
        return self.at("sqrt_alphas_cumprod", t) * x_t - self.at("sqrt_one_minus_alphas_cumprod", t) * v

    def q_posterior(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and log variance of q(x_{t-1} | x_t, x_0)   (DDPM eq. 6 and 7)."""
        mean = self.at("posterior_mean_coef1", t) * x_start + self.at("posterior_mean_coef2", t) * x_t
        return mean, self.at("posterior_variance", t), self.at("posterior_log_variance_clipped", t)

    # The network's opinion, and one reverse step.

    def split_output(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's answer to the objective, and its variance fraction in [-1, 1] if it learns one."""
        return tuple(output.chunk(2, dim=1)) if self.learned_variance else (output, None)

    def model_predictions(
        self,
        x: Tensor,
        t: Tensor,
        x_self_cond: Tensor | None = None,
        clip_x_start: bool = False,
        rederive_pred_noise: bool = False,
    ) -> ModelPrediction:
        """eps and x_0 according to the network; eps is derived from the (clipped) x_0 unless the network gave it."""
        answer, _ = self.split_output(self.model(x, t, x_self_cond))
        x_start = OBJECTIVES[self.objective].x_start(self, x, t, answer)
        x_start = x_start.clamp(-1, 1) if clip_x_start else x_start
        if self.objective == "pred_noise" and not (clip_x_start and rederive_pred_noise):
            return ModelPrediction(answer, x_start)
        return ModelPrediction(self.predict_noise_from_start(x, t, x_start), x_start)

    def learned_log_variance(self, fraction: Tensor, t: Tensor) -> Tensor:
        """log Sigma = v log beta + (1 - v) log beta-tilde, v = (fraction + 1) / 2   (Improved eq. 15)."""
        v = (fraction + 1) / 2
        return v * torch.log(self.at("betas", t)) + (1 - v) * self.at("posterior_log_variance_clipped", t)

    def p_mean_variance(
        self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, variance and log variance of p(x_{t-1} | x_t) (DDPM eq. 1), and the x_0 they came from."""
        answer, fraction = self.split_output(self.model(x, t, x_self_cond))
        x_start = OBJECTIVES[self.objective].x_start(self, x, t, answer)
        x_start = x_start.clamp(-1, 1) if clip_denoised else x_start
        mean, variance, log_variance = self.q_posterior(x_start, x, t)
        if fraction is not None:
            log_variance = self.learned_log_variance(fraction, t)
            variance = log_variance.exp()
        return mean, variance, log_variance, x_start

    def p_sample(self, x: Tensor, t: Tensor, noise: Tensor, x_self_cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x_{t-1}, x_0): x_{t-1} = mean + sigma z, and z = 0 in the last step, t = 0   (DDPM Algorithm 2)."""
        mean, _, log_variance, x_start = self.p_mean_variance(x, t, x_self_cond)
        z = torch.where((t > 0)[:, None, None, None], noise, torch.zeros_like(noise))
        return mean + torch.exp(0.5 * log_variance) * z, x_start

    def ddim_step(
        self,
        x: Tensor,
        time: int,
        time_next: int,
        noise: Tensor,
        eta: float = 0.0,
        x_self_cond: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(x_next, x_0) of a step from ``time`` to ``time_next``; to a negative one, x_next is x_0. DDIM eq. 12 and 16:

        x_next = sqrt(abar') x_0 + sqrt(1 - abar' - sigma^2) eps + sigma z,
        sigma = eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar').
        """
        t = torch.full((len(x),), time, device=x.device)
        eps, x_start = self.model_predictions(
            x, t, x_self_cond, clip_x_start=True, rederive_pred_noise=self.rederive_pred_noise
        )
        if time_next < 0:
            return x_start, x_start
        abar, abar_next = (float(self.tables["alphas_cumprod"][i]) for i in (time, time_next))
        sigma = eta * math.sqrt((1 - abar_next) / (1 - abar)) * math.sqrt(1 - abar / abar_next)
        direction = math.sqrt(1 - abar_next - sigma**2)
        return math.sqrt(abar_next) * x_start + direction * eps + sigma * noise, x_start

    # The losses.

    def variational_bound(self, x_start: Tensor, x_t: Tensor, t: Tensor, model_output: Tensor) -> Tensor:
        """(B,) The bound's term in bits per dimension: KL(q || p), and -log p(x_0 | x_1) at t = 0   (DDPM eq. 5).

        It teaches the variance only: the mean is detached (Improved, section 3.1).
        """
        answer, fraction = self.split_output(model_output)
        predicted = OBJECTIVES[self.objective].x_start(self, x_t, t, answer.detach())
        mean, _, _ = self.q_posterior(predicted, x_t, t)
        log_variance = self.learned_log_variance(fraction, t)
        true_mean, _, true_log_variance = self.q_posterior(x_start, x_t, t)
        kl = mean_of_image(normal_kl(true_mean, true_log_variance, mean, log_variance))
        nll = -mean_of_image(discretised_normal_log_likelihood(x_start, mean, 0.5 * log_variance))
        return torch.where(t == 0, nll, kl) / math.log(2)

    def p_losses(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor,
        self_cond: bool = False,
        offset_noise: Tensor | None = None,
    ) -> Tensor:
        """The mean over images of weight_t * error (DDPM eq. 14), plus 0.001 of the bound (Improved eq. 16).

        ``self_cond``: the network first guesses x_0 without a hint, then answers with that guess, detached, as its hint
        (Chen et al. 2022, https://arxiv.org/abs/2208.04202, Algorithm 1). ``offset_noise`` (B, C) moves whole channels
        (https://www.crosslabs.org/blog/diffusion-with-offset-noise), and is part of what must be predicted.
        """
        if offset_noise is not None:
            noise = noise + self.offset_noise_strength * offset_noise[:, :, None, None]
        x_t = self.q_sample(x_start, t, noise)
        x_self_cond = None
        if self_cond and self.self_condition:
            with torch.no_grad():
                x_self_cond = self.model_predictions(x_t, t).pred_x_start
        output = self.model(x_t, t, x_self_cond)
        answer, _ = self.split_output(output)
        error = LOSSES[self.loss_type](answer - OBJECTIVES[self.objective].target(self, x_start, t, noise))
        loss = (mean_of_image(error) * self.loss_weight[t]).mean()
        if self.learned_variance:
            loss = loss + VARIATIONAL_BOUND_WEIGHT * self.variational_bound(x_start, x_t, t, output).mean()
        return loss

    def forward(
        self, img: Tensor, t: Tensor, noise: Tensor, self_cond: bool = False, offset_noise: Tensor | None = None
    ) -> Tensor:
        """The training loss of images in [0, 1]   (DDPM Algorithm 1; what is random there is an argument here)."""
        return self.p_losses(self.normalize(img), t, noise, self_cond, offset_noise)

    # Chains (samplers.py).

    def sample(self, batch_size: int = 16, *, noise: Iterable, return_all_timesteps: bool = False) -> Tensor:
        """(B, C, H, W) in [0, 1]: by DDIM exactly when ``sampling_timesteps`` are fewer than the process has."""
        sampler = samplers.ddim if self.sampling_timesteps < self.num_timesteps else samplers.ddpm
        return sampler(self, batch_size, noise=noise, return_all_timesteps=return_all_timesteps)

    def interpolate(self, x1: Tensor, x2: Tensor, t: int | None = None, lam: float = 0.5, *, noise: Iterable) -> Tensor:
        """Images between ``x1`` and ``x2``, all in [0, 1]: see ``samplers.interpolate``."""
        return samplers.interpolate(self, x1, x2, t, lam, noise=noise)
