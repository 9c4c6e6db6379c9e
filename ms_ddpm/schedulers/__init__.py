"""diffusers' schedulers in MindSpore, under that library's names and arguments.

A scheduler knows the noise schedule and one reverse step; the network, the loop and the random numbers are the
caller's. All mathematics is that of `ms_ddpm.maths.schedules` and `ms_ddpm.maths.solvers`. The library's own chains
are in `ms_ddpm.samplers`, their steps in `ms_ddpm.systems`.
"""

from .base import Scheduler, SchedulerOutput
from .ddim import DDIMScheduler
from .ddpm import DDPMScheduler
from .dpm import DPMSolverMultistepScheduler
from .euler import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from .pndm import PNDMScheduler
from .unipc import UniPCMultistepScheduler

__all__ = [
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "PNDMScheduler", "Scheduler", "SchedulerOutput", "UniPCMultistepScheduler",
]  # fmt: skip
