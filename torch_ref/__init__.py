"""DDPM in PyTorch, as the papers write it: the reference that ``ms_ddpm`` is proved against.

Read it in this order; each file needs only those before it:

    schedules.py   the numbers beta_t and everything that follows from them       (numpy, float64)
    samplers.py    Algorithm 2 of DDPM, and DDIM                                  (loops over one reverse step)
    diffusion.py   q(x_t | x_0), the posterior, that one step, the losses         (equations of the papers)
    layers.py  attention.py  unet.py                                              (the network)
    optim.py  ema.py  train.py                                                    (Algorithm 1 of DDPM)

and then, as you need them, what is built on it, in systems/:

    first_ddpm.py                                                                 (the same in two methods)
    schedulers.py                                                                 (the same steps, diffusers' names)
    score/                                                                        (diffusion in continuous time)
    latent/                                                                       (scores of an autoencoder's latents)
    corruption/                                                                   (learning by corruption)
    stable_diffusion.py  clip_text.py  text_to_image.py                           (its networks, and drawing with them)

Nothing here reads a random generator but the one it is given: noise, t, coins and dropout masks are all arguments.
(One exception: a ``Unet`` made without ``rng`` starts from PyTorch's own initial weights, which ``torch.manual_seed``
rules.) Nothing computes in less than the precision of its input: a float64 network on float64 images is an oracle.

    python -m torch_ref.train --steps 400
"""

import importlib

from . import _moved
from .attention import Attention, LinearAttention, PreNorm, Residual
from .diffusion import GaussianDiffusion, ModelPrediction
from .ema import EMA
from .layers import (
    Block,
    Dropout,
    FourierPosEmb,
    LayerNorm,
    ResnetBlock,
    RMSNorm,
    SinusoidalPosEmb,
    Upsample,
    WeightStandardizedConv2d,
    downsample,
    initialise,
    time_mlp,
)
from .optim import Adam, AdamW, clip_by_global_norm
from .samplers import ddim, ddpm, interpolate
from .schedules import BETA_SCHEDULES, beta_schedule, ddim_times, diffusion_tables, loss_weight
from .systems.corruption.basic_net import BasicNet
from .systems.corruption.model import Corruption
from .systems.first_ddpm import FirstDDPM
from .systems.latent.autoencoder import AutoEncoder
from .systems.latent.lpips import LPIPS
from .systems.latent.model import LatentDiffusion
from .systems.schedulers import DDIMScheduler, DDPMScheduler
from .systems.score.model import PreconditionedScore, ScoreModel
from .systems.score.sde import VESDE, VPSDE, SubVPSDE
from .systems.score.transformer import CrossAttention, SpatialTransformer, TransformerBlock
from .systems.score.unet import ConditionalScoreUnet, GaussianFourierProjection, LatentScoreUnet, ScoreUnet
from .systems.solvers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from .unet import Unet

__all__ = [
    "BETA_SCHEDULES", "EMA", "LPIPS", "VESDE", "VPSDE", "Adam", "AdamW", "Attention", "AutoEncoder", "BasicNet",
    "Block", "ConditionalScoreUnet", "Corruption", "CrossAttention", "DDIMScheduler", "DDPMScheduler",
    "DPMSolverMultistepScheduler", "Dropout", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "FirstDDPM",
    "FourierPosEmb", "GaussianDiffusion", "GaussianFourierProjection", "LatentDiffusion", "LatentScoreUnet",
    "LayerNorm", "LinearAttention", "ModelPrediction", "PNDMScheduler", "PreNorm", "PreconditionedScore", "RMSNorm",
    "Residual", "ResnetBlock", "ScoreModel", "ScoreUnet", "SinusoidalPosEmb", "SpatialTransformer", "SubVPSDE",
    "TransformerBlock", "Unet", "UniPCMultistepScheduler", "Upsample", "WeightStandardizedConv2d", "beta_schedule",
    "clip_by_global_norm", "ddim", "ddim_times", "ddpm", "diffusion_tables", "downsample", "initialise", "interpolate",
    "loss_weight", "time_mlp",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The old name of a module, for one release."""
    if f"{__name__}.{name}" not in _moved.MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
