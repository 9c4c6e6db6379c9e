"""diffusers' schedulers in MindSpore: `DDPMScheduler` and `DDIMScheduler`, under that library's names and arguments.

A scheduler knows the noise schedule and one reverse step; the network, the loop and the random numbers are the
caller's. All mathematics is that of `ms_ddpm.maths.schedules`. The library's own chains are in `ms_ddpm.samplers`,
their steps in `ms_ddpm.systems`.
"""

from .base import Scheduler, SchedulerOutput
from .ddim import DDIMScheduler
from .ddpm import DDPMScheduler

__all__ = ["DDIMScheduler", "DDPMScheduler", "Scheduler", "SchedulerOutput"]
