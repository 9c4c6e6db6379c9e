"""Bugs of the schedulers, on either side."""

from __future__ import annotations

import math

import numpy as np

from portparity.mutants import Mutant
from portparity.mutants.editing import edit, swap

T = "torch_ref.systems.schedulers:"
DDPM, DDIM = "ms_ddpm.schedulers.ddpm:", "ms_ddpm.schedulers.ddim:"
S, ROWS_OF = "torch_ref.systems.solvers:", "ms_ddpm.maths.solvers:"
OURS = "ms_ddpm.schedulers."
WATCH = (  # beside their place
    "maths/scheduler_times-*-T37", "maths/scheduler_variance-*", "maths/scheduler_noising-linear",
    "step/scheduler_*-zero_snr-pynative", "step/scheduler_ddpm-epsilon-*-clip-pynative",
    "step/scheduler_ddim-sample-eta0.5-plain-*-pynative", "sampling/scheduler_ddim-*-eta0",
)  # fmt: skip
CLIPPED = "x_start = x_start.clamp(-self.clip, self.clip); s = torch.quantile("


def _cut(total: int, steps: int) -> list[int]:
    return [int(time) for time in np.linspace(0, total - 1, steps)][::-1]


def _karras_upwards(largest: float, smallest: float, n: int) -> np.ndarray:
    return np.linspace(smallest ** (1 / 7), largest ** (1 / 7), n) ** 7


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
    ("Karras times from the smallest", "torch", "maths/scheduler_levels-*-karras",
     swap(S + "SPREADS[use_karras_sigmas]", _karras_upwards),
     "Karras et al., eq. 5: sigma_0 is the largest"),
    ("PNDM's first step once", "torch", "sampling/scheduler_pndm-skip_prk*",
     edit(S + "PNDMScheduler.multistep", ("if self.calls == 1:", "if self.calls < 0:")),
     "diffusers: the second call does the first step again"),
    ("PNDM's second call from where the first one led", "torch", "sampling/scheduler_pndm-skip_prk*",
     edit(S + "PNDMScheduler.multistep", ("self.transfer(self.first, (output", "self.transfer(x, (output")),
     "diffusers: cur_sample"),
    ("every Runge-Kutta answer counts for Adams and Bashforth", "torch", "sampling/scheduler_pndm-prk*",
     edit(S + "PNDMScheduler.runge_kutta", ("self.outputs.append(output)", "pass"),
          ("self.ks.append(output)", "self.ks.append(output); self.outputs.append(output)")), "PNDM, Algorithm 2"),
    ("DPM-Solver's slope over the step before, not this one", "torch", "sampling/scheduler_dpm-order2*",
     edit(S + "DPMSolverMultistepScheduler.step", ("* h / (places[i][2] - places[i + 1][2])", "")),
     "DPM-Solver++, Algorithm 2: r_i"),
    ("the last steps' lower order ignored", "torch", "sampling/scheduler_dpm-order3-few",
     edit(S + "DPMSolverMultistepScheduler.order", ("few = self.lower_order_final and n < 15", "few = False")),
     "diffusers: lower_order_final below 15 steps"),
    ("half the noise of the SDE", "torch", "sampling/scheduler_dpm-sde",
     edit(S + "DPMSolverMultistepScheduler.step", ("math.sqrt(-math.expm1(-2 * h))", "math.sqrt(-math.expm1(-h))")),
     "DPM-Solver++, appendix A"),
    ("UniPC's corrector with the answer before", "torch", "sampling/scheduler_unipc-order2*",
     edit(S + "UniPCMultistepScheduler.advanced", ("D.append(end - m[0])", "D.append(m[0] - m[0])")),
     "UniPC, Algorithm 1"),
    ("a corrected step predicted from the uncorrected sample", "torch", "sampling/scheduler_unipc-order2*",
     edit(S + "UniPCMultistepScheduler.step", ("found = self.advanced(x,", "found = self.advanced(given,"),
          ("x_start, eps =", "given = x; x_start, eps =")), "UniPC, Algorithm 2"),
    ("ancestral noise of the whole level", "torch", "sampling/scheduler_ancestral-*",
     edit(S + "EulerAncestralDiscreteScheduler.step", ("+ up * noise", "+ after * noise")), "Ho et al., eq. 7"),
    ("the order of DPM-Solver forgotten (MindSpore)", "mindspore", "sampling/scheduler_dpm-order*",
     edit(OURS + "dpm:DPMSolverMultistepScheduler._order", ("return min(config.solver_order, ", "return min(1, ")),
     "diffusers: solver_order"),
    ("UniPC's B(h) always e^h - 1 (MindSpore)", "mindspore", "sampling/scheduler_unipc-*bh1*",
     edit(ROWS_OF + "unipc_row", ("UNIPC_B[b](z)", "UNIPC_B['bh2'](z)")), "UniPC, section 3.1"),
    ("samples of Euler not scaled for the network (MindSpore)", "mindspore", "sampling/scheduler_euler-*",
     edit(OURS + "euler:_Euler.scale_model_input", ("scale * x", "x")), "Karras et al., section 3"),
    ("PNDM counts its second call (MindSpore)", "mindspore", "sampling/scheduler_pndm-skip_prk*",
     edit(OURS + "pndm:PNDMScheduler._remember", ("self._calls != 1", "self._calls >= 0")),
     "diffusers: ets at counter 1"),
    ("a last time of -1 (MindSpore)", "mindspore", "maths/scheduler_levels-dpm-clipped-*",
     edit(OURS + "multistep:MultistepScheduler._first_times", ("times = times[times >= 0]", "pass")),
     "diffusers: a table read from its other end"),
    ("quantiles of another Beta (MindSpore)", "mindspore", "maths/scheduler_levels-*-beta",
     edit(ROWS_OF + "beta_quantiles", ("math.gamma(2 * shape) / math.gamma(shape) ** 2", "1.2")),
     "Abramowitz & Stegun, 26.5.1"),
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
