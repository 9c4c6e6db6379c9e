"""Bugs of batch normalisation, the autoencoder, LPIPS and latent diffusion, on either side."""

from __future__ import annotations

from portparity.mutants import Mutant
from portparity.mutants.editing import edit
from portparity.verdict import DIFFER

A, P, L = (
    "torch_ref.systems.latent.autoencoder:AutoEncoder.",
    "torch_ref.systems.latent.lpips:",
    "torch_ref.systems.latent.model:LatentDiffusion.",
)
B, M = "ms_ddpm.nn.norms:BatchNorm2d.", "ms_ddpm.systems.latent.latent_diffusion:LatentDiffusion."
WATCH = (  # beside their place
    "maths/latent_statistics*", "layers/batch_norm_*-scale1-*-pynative", "layers/lpips_unit_length-scale1-*-pynative",
    "network/autoencoder_training-*-pynative", "network/autoencoder_evaluating-*-pynative",
    "training/latent_loss-*-pynative", "sampling/latent_heun",
)  # fmt: skip

# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("momentum 0.9 for 0.1 (MindSpore)", "mindspore", "layers/batch_norm_training*-running-pynative",
     edit(B + "moved", ("self.momentum", "(1 - self.momentum)")), "mindspore: BatchNorm momentum"),
    ("biased running variance (MindSpore)", "mindspore", "layers/batch_norm_training*-running-pynative",
     edit(B + "construct", (" * (count / (count - 1))", "")), "Ioffe & Szegedy, algorithm 2: m / (m - 1)"),
    ("the batch's statistics in evaluation (MindSpore)", "mindspore", "layers/batch_norm_evaluating-*-pynative",
     edit(B + "construct", ("if self.training:", "if x is not None:")),
     "set_train(False) that does nothing"),
    ("latents not normalised (MindSpore)", "mindspore", "maths/latent_statistics*",
     edit(M + "normalised", ("(z - self.latent_mean) / self.latent_std", "z - self.latent_mean")),
     "the score article diffuses latents as they are"),
    ("pooling that drops the edge (MindSpore)", "mindspore", "layers/lpips_max_pool_ceil-*-pynative",
     edit("ms_ddpm.models.lpips:MaxPool.construct", ("if self.ceil:", "if not self.ceil:")),
      "SqueezeNet 1.1: ceil_mode"),
    ("momentum 0.9 for 0.1 in the latent's layer", "torch", "network/autoencoder_training-running-pynative",
     edit(A + "__init__", ("nn.BatchNorm2d(c3)", "nn.BatchNorm2d(c3, momentum=0.9)")), "mindspore: BatchNorm momentum"),
    ("output_padding lost", "torch", "network/autoencoder_*-pynative",
     edit(A + "__init__", (", output_padding=1", "")), "28x28 images that come back as 27x27"),
    ("LPIPS of images in [0, 1]", "torch", "network/lpips_*-pynative",
     edit(P + "LPIPS.tapped", ("2 * x - 1 - shift", "x - shift")), "the score article's call of LPIPS"),
    ("latents diffused as they are", "torch", "training/latent_loss-*-pynative",
     edit(L + "forward", ("(z - self.mean) / self.std", "z")), "the score article diffuses latents as they are"),
    ("mean forgotten in decoding", "torch", "sampling/latent_*",
     edit(L + "decode", (" + self.mean", "")), "half of the way back"),
    ("images decoded in training mode", "torch", "sampling/latent_*",
     edit(L + "__init__", (".requires_grad_(False).eval()", ".requires_grad_(False)")),
     "the score article's eval() left out"),
)
# fmt: on
STOPS = ("output_padding lost", "pooling that drops the edge (MindSpore)")  # they give another size
MUTANTS = tuple(
    Mutant(name, "latent", framework, place, apply, source, WATCH, "broken" if name in STOPS else DIFFER)
    for name, framework, place, apply, source in ROWS
)
