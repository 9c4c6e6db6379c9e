"""Bugs of the schedulers, on either side."""

from __future__ import annotations

import math

import numpy as np

from portparity.mutants import Mutant
from portparity.mutants.editing import edit, swap

T = "torch_ref.systems.schedulers:"
DDPM, DDIM = "ms_ddpm.schedulers.ddpm:", "ms_ddpm.schedulers.ddim:"
WATCH = (  # beside their place
    "maths/scheduler_times-*-T37", "maths/scheduler_variance-*", "maths/scheduler_noising-linear",
    "step/scheduler_*-zero_snr-pynative", "step/scheduler_ddpm-epsilon-*-clip-pynative",
    "step/scheduler_ddim-sample-eta0.5-plain-*-pynative", "sampling/scheduler_ddim-*-eta0",
)  # fmt: skip
CLIPPED = "x_start = x_start.clamp(-self.clip, self.clip); s = torch.quantile("


def _cut(total: int, steps: int) -> list[int]:
    return [int(time) for time in np.linspace(0, total - 1, steps)][::-1]


# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("evenly spaced times cut, not rounded", "torch", "maths/scheduler_times-linspace-*",
     swap(T + "SPACINGS[linspace]", _cut), "mindspore: np.linspace(...).astype(int)"),
    ("an offset for every spacing", "torch", "maths/scheduler_times-trailing-*",
     edit(T + "Scheduler.set_timesteps", ('offset = self.steps_offset if self.timestep_spacing == "leading" else 0',
                                          "offset = self.steps_offset")), "diffusers adds it in \"leading\" alone"),
    ("beta for beta-tilde in a scheduler", "torch", "maths/scheduler_variance-ddpm-fixed_small-*",
     swap(T + "LOG_VARIANCES[fixed_small]", lambda raw, small, large: math.log(large)), "Ho et al., section 3.2"),
    ("sign of the velocity", "torch", "maths/scheduler_noising-*",
     edit(T + "Scheduler.get_velocity", ("signal * noise - spread * sample", "spread * sample - signal * noise")),
     "Salimans & Ho, appendix D"),
    ("a learned fraction from -1 to 1 taken for 0 to 1", "torch", "step/scheduler_ddpm-*-learned_range-*",
     swap(T + "LOG_VARIANCES[learned_range]",
          lambda raw, small, large: raw * math.log(large) + (1 - raw) * math.log(small)),
     "Nichol & Dhariwal, eq. 15, has 0 to 1; OpenAI's code -1 to 1"),
    ("clipped before the threshold", "torch", "step/scheduler_*-threshold-*",
     edit(T + "Scheduler.limit", ("s = torch.quantile(", CLIPPED)), "Saharia et al., section 2.3"),
    ("a step one time too far (MindSpore)", "mindspore", "step/scheduler_ddim-*-pynative*",
     edit(DDIM + "DDIMScheduler.previous_timestep", ("return time - len(self)", "return time - 1 - len(self)")),
     "diffusers: t - T // steps"),
    ("noise in the last step of a scheduler (MindSpore)", "mindspore", "step/scheduler_ddpm-*-pynative*",
     edit(DDPM + "DDPMScheduler._step_row", ("if time > 0 else", "if time >= 0 else")),
     "Ho et al., Algorithm 2, line 3"),
)
# fmt: on
MUTANTS = tuple(
    Mutant(name, "schedulers", framework, place, apply, source, WATCH) for name, framework, place, apply, source in ROWS
)
