"""The keys of the system score, and those that latent diffusion shares. Free of MindSpore, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config import Config
from ...config.keys import MAX_STEPS, key
from ...config.limits import SCORE_SAMPLERS, SMALLEST_EPS


@dataclass
class ScoreKeys(Config):
    """A stochastic differential equation, a network of its score, and how it is sampled."""

    labels_from: str = key(
        "files",
        "str",
        "files: labels of MNIST, CIFAR, .npz; folders: each folder of images is a class",
        choices=("files", "folders"),
    )
    num_classes: int = key(0, "int", "classes to condition on; 0: none", low=0, high=100_000)
    class_dropout: float = key(0.1, "float", "how often the class is hidden in training, for guidance", low=0, high=1)
    guidance_scale: float = key(1.0, "float", "classifier-free guidance in sampling; 1: none", low=0, free=True)
    sde: str = key("ve", "str", "the noising process", choices=("ve", "vp", "subvp"))
    sigma: float = key(25.0, "float", "ve: its noise grows as sigma^t", low=1.001)
    sde_beta_min: float = key(0.1, "float", "vp, subvp: beta at t = 0", low=0)
    sde_beta_max: float = key(20.0, "float", "vp, subvp: beta at t = 1", low=0)
    channel_widths: list = key([32, 64, 128, 256], "ints", "channels of each resolution", low=1)
    embed_dim: int = key(256, "int", "width of the time's Fourier features", low=2)
    fourier_scale: float = key(30.0, "float", "scale of the frequencies of the time's Fourier features", low=0)
    text_dim: int = key(256, "int", "width of the class embedding", low=1)
    num_heads: int = key(1, "int", "attention heads of the transformer blocks", low=1)
    sigma_data: Any = key(
        None, "float?", "the data's deviation, to precondition the network with (default: it is not)", low=1e-3
    )
    data_mean: float = key(0.0, "float", "the data's mean, with sigma_data")
    time_power: float = key(1.0, "float", "above 1: more training at small times", low=1e-3, high=10)
    sampling_timesteps: Any = key(
        None, "int?", "steps of sampling [500]; ode chooses its own", low=1, high=MAX_STEPS, free=True
    )
    score_sampler: str = key(
        "euler",
        "str",
        "euler (Euler-Maruyama), pc (predictor-corrector), ode (RK45), heun",
        choices=SCORE_SAMPLERS,
        free=True,
    )
    sampling_eps: float = key(1e-3, "float", "time at which sampling ends", low=SMALLEST_EPS, high=0.5, free=True)
    sampling_denoise: bool = key(False, "bool", "end with the expected image instead of a last step", free=True)
    corrector_snr: float = key(0.16, "float", "pc: signal-to-noise ratio of the corrector", low=0, free=True)


@dataclass
class ScoreConfig(ScoreKeys):
    """A score network over images, and a `ScoreModel`."""

    system: str = key("score", "name", "what is trained; see docs/systems.md")
    score_net: str = key(
        "concat",
        "str",
        "skips of the score U-Net; 'transformer': added, with attention to the class",
        choices=("concat", "add", "transformer"),
    )
    whole_images: bool = key(
        False, "bool", "zeros around the images, so that the score U-Net sees their last row and column"
    )
