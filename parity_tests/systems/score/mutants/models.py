"""Bugs in `torch_ref`: score models, their SDEs, losses, samplers and likelihood."""

from __future__ import annotations

from parity_tests.systems.core.mutants.watched import made
from portparity.mutants.editing import edit

M, S, K = (
    "torch_ref.systems.score.sde:",
    "torch_ref.systems.score.samplers:",
    "torch_ref.systems.score.model:ScoreModel.",
)
L, P = "torch_ref.systems.score.likelihood:", "torch_ref.systems.score.model:PreconditionedScore."

# fmt: off
ROWS = (  # name, place, bug, source
    ("sigma^(2t) - 1 by a difference", "maths/sde_ve-marginal_prob_std-pynative",
     edit(M + "VESDE.marginal_prob_std", ("torch.expm1(2 * math.log(self.sigma) * t)", "(self.sigma ** (2 * t) - 1)")),
     "the score article"),
    ("ln sigma for 2 ln sigma in VE's variance", "maths/sde_ve*-marginal_prob_std-pynative",
     edit(M + "VESDE.marginal_prob_std", ("/ (2 * math.log(self.sigma))", "/ math.log(self.sigma)")),
     "Song et al. 2021"),
    ("VP's deviation for sub-VP's", "maths/sde_subvp*-marginal_prob_std-pynative",
     edit(M + "SubVPSDE.marginal_prob_std", ("-torch.expm1(-self.B(t))", "torch.sqrt(-torch.expm1(-self.B(t)))")),
     "Song et al. 2021, eq. 29"),
    ("exp(-B) for exp(-2B) in sub-VP's diffusion", "maths/sde_subvp*-diffusion_coeff-pynative",
     edit(M + "SubVPSDE.diffusion_coeff", ("-2 * self.B(t)", "-self.B(t)")), "Song et al. 2021, eq. 12"),
    ("sign of the noise in the score's loss", "training/score_loss-ve-plain-value-pynative",
     edit(K + "forward", ("* std + z", "* std - z")), "Vincent 2011"),
    ("loss without the weight std^2", "training/score_loss-ve-plain-value-pynative",
     edit(K + "forward", ("* std + z", "+ z / std")), "Song et al. 2021, section 3.3"),
    ("dropped classes are not dropped", "training/score_loss-ve-classes-value-pynative",
     edit(K + "forward", ("if dropped is not None:", "if False:")), "Ho & Salimans 2022, Algorithm 1"),
    ("guidance s counted as w", "step/score_ve-euler-guided2.5-pynative",
     edit(K + "score", ("of_none + guidance_scale *", "of_class + guidance_scale *")), "Ho & Salimans 2022, eq. 6"),
    ("the data's mean taken off whole", "step/score_vp-euler-preconditioned-pynative",
     edit(P + "forward", ("x - coeff * self.data_mean", "x - self.data_mean")), "Song et al. 2021, eq. 29"),
    ("the data's variance not shrunk with them", "step/score_vp-euler-preconditioned-pynative",
     edit(P + "coeff_and_total", ("(coeff * self.sigma_data) ** 2", "self.sigma_data**2")), "Song et al. 2021, eq. 29"),
    ("network within the preconditioning given x itself", "step/score_vp-euler-preconditioned-pynative",
     edit(P + "forward", ("scaled = centred / torch.sqrt(total)", "scaled = centred")), "Karras et al. 2022, eq. 7"),
    ("c_out without sigma_data", "step/score_vp-euler-preconditioned-pynative",
     edit(P + "forward", ("return coeff * self.sigma_data /", "return coeff /")), "Karras et al. 2022, table 1"),
    ("loss of a preconditioned network in terms of z", "training/score_loss-vp-preconditioned-value-pynative",
     edit(K + "forward", ("isinstance(self.net, PreconditionedScore)", "False")), "Karras et al. 2022, eq. 8"),
    ("step of the ODE for the SDE's", "sampling/score_euler-ve-plain",
     edit(S + "euler", ("g(time) ** 2 * s", "0.5 * g(time) ** 2 * s")), "Song et al. 2021, eq. 6 and 13"),
    ("noise in the last Euler-Maruyama step", "sampling/score_euler-ve-plain",
     edit(S + "euler", ("if not last:", "if time < 1:")), "the score article"),
    ("dt for its root before the noise", "sampling/score_euler-ve-plain",
     edit(S + "euler", ("dt**0.5", "dt")), "the score article"),
    ("corrector without the 2 under the root", "step/score_vp-pc_image-plain-pynative",
     edit(S + "corrected", ("torch.sqrt(2 * e)", "torch.sqrt(e)")), "Song et al. 2021, Algorithm 4"),
    ("corrector of VP without alpha", "step/score_vp-pc_image-plain-pynative",
     edit(S + "corrected", ("2 * alpha *", "2 *")), "Song et al. 2021, Algorithm 5"),
    ("Heun's second slope at the first time", "step/score_vp-heun-plain-pynative",
     edit(S + "heun_step", ("* first, after)", "* first, now)")), "Karras et al. 2022, Algorithm 1"),
    ("divergence of the score alone", "step/score_divergence-vp-pynative",
     edit(L + "slope_and_divergence", ("slope = per_image(model.sde.drift_coeff(t)) * x",
          "slope = per_image(model.sde.drift_coeff(t)) * x.detach()")), "Song et al. 2021, eq. 40"),
    ("likelihood without the prior's scale", "sampling/score_likelihood-ve",
     edit(L + "log_likelihood", ("2 * math.pi * variance", "2 * math.pi")), "Song et al. 2021, eq. 39"),
)
# fmt: on
MUTANTS = tuple(made(name, "score", "torch", place, apply, source) for name, place, apply, source in ROWS)
