"""Bugs of the first DDPM, on either side."""

from __future__ import annotations

from portparity.mutants import Mutant
from portparity.mutants.editing import edit

T = "torch_ref.systems.first_ddpm:FirstDDPM."
WATCH = ("maths/first_ddpm_*", "step/first_ddpm_backward")  # beside their place

# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("abar for its root (first DDPM)", "torch", "maths/first_ddpm_forward",
     edit(T + "forward", ("self.signal[t]", "self.alpha_bars[t]")), "Ho et al., eq. 4"),
    ("betas scaled though their ends are given (first DDPM, MindSpore)", "mindspore", "maths/first_ddpm_*",
     edit("ms_ddpm.systems.diffusion.first_ddpm:FirstDDPM.__init__",
          ('{"beta_start": min_beta, "beta_end": max_beta}', "None")),
     "lucidrains multiplies by 1000 / T"),
)
# fmt: on
MUTANTS = tuple(
    Mutant(name, "first DDPM", framework, place, apply, source, WATCH) for name, framework, place, apply, source in ROWS
)
