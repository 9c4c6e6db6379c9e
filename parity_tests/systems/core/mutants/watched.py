"""The mutants of this project: on which checks each is run beside its place.

``source`` names an article (docs/systems.md, "The articles"), or is "peers: words" that stand in docs/design/peers.md,
and so of its neighbours.
"""

from __future__ import annotations

from portparity.mutants.editing import Apply
from portparity.mutants.mutant import Mutant
from portparity.verdict import DIFFER

# What is run under every mutant beside its place: a little of every tier, so that a bug that shows elsewhere too, or
# that a lower tier should have shown, is seen; and more of the tier that its family belongs to.
EVERYWHERE = (
    "maths/cosine-T50*",
    "maths/loss_weight-cosine-pred_v-min_snr",
    "maths/q_sample-cosine-pynative",
    "maths/q_posterior-cosine-pynative",
    "step/p_sample-pred_v-learned-selfcond-pynative*",
    "step/model_predictions-pred_noise-clip-rederived",
    "step/ddim-pred_noise-selfcond-eta0.5",
    "layers/resnet_block_*-scale1-forward-pynative",
    "layers/linear_attention-scale1-vjp-pynative",
    "layers/attention-scale1-vjp-pynative",
    "layers/time_mlp-scale1-vjp-pynative",
    "network/tiny_*-forward-pynative",
    "training/loss-pred_v-l2-learned-plain-*",
    "training/adam-*pynative",
    "training/clip-clips",
    "training/ema_early-*",
    "sampling/ddim_eta1-pred_v-fixed-selfcond",
    "sampling/interpolate",
)
LAYERS = ("layers/*-scale1-forward-pynative", "layers/*-scale1-vjp-pynative", "network/tiny_*-vjp_input-pynative")
WATCH = {  # by family
    "schedules": ("maths/*-T50*", "maths/loss_weight-cosine-*"),
    "process": ("maths/*-cosine-pynative",),
    "reverse step": ("maths/*-cosine-pynative", "step/p_sample-*-pynative*", "step/model_predictions-*"),
    "norms": LAYERS,
    "convolutions": LAYERS,
    "blocks": LAYERS,
    "attention": LAYERS,
    "network": (*LAYERS, "network/unet_2_3-*pynative"),
    "losses": ("maths/*-cosine-pynative", "step/model_predictions-*", "training/loss-*-l2-fixed-*"),
    "optimizer": ("training/adam*pynative", "training/clip-*"),
    "average": ("training/ema-*",),
    "sampling": ("step/p_sample-*-fixed-*-pynative*", "step/ddim-*-eta0.5", "sampling/ddpm-pred_v-*"),
    "score": ("maths/sde_*-pynative", "step/score_*-pynative", "training/score_loss-*-pynative", "sampling/score_*"),
    "state": ("network/unet_2_3-*pynative",),
}


def made(
    name: str, family: str, framework: str, place: str, apply: Apply, source: str, verdict: str = DIFFER
) -> Mutant:
    """A mutant with the cases that its family is run on; in MindSpore, where that takes longer, fewer."""
    more = WATCH[family] if framework == "torch" else ()
    return Mutant(name, family, framework, place, apply, source, (*EVERYWHERE, *more), verdict)
