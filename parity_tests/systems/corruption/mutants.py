"""Bugs of the corruption model and its BasicNet, on either side."""

from __future__ import annotations

from portparity.mutants import Mutant
from portparity.mutants.editing import edit

T, N = "torch_ref.systems.corruption.model:", "torch_ref.systems.corruption.basic_net:BasicNet."
C, B, R = (
    "ms_ddpm.systems.corruption.corruption:Corruption.",
    "ms_ddpm.models.basic:BasicNet.",
    "ms_ddpm.ops.relu:ReLU.",
)
WATCH = (  # beside their place
    "maths/noise_*-pynative", "step/corruption-*-pynative", "layers/max_pool-scale1-*-pynative",
    "network/basic_net-*-pynative", "training/corruption_loss-gaussian-*", "sampling/corruption_5-uniform-*",
)  # fmt: skip

# fmt: off
ROWS = (  # name, framework, place, bug, source
    ("image and noise change places", "torch", "maths/noise_uniform-*",
     edit(T + "corrupt", ("x * (1 - column(amount)) + noise * column(amount)",
                          "x * column(amount) + noise * (1 - column(amount))")),
     "the corruption article's words, not its code"),
    ("salt for pepper", "torch", "maths/noise_salt_and_pepper-*",
     edit(T + "salt_and_pepper", ("(damaged, 1.0).masked_fill(pepper, 0.0)",
                                  "(damaged, 0.0).masked_fill(pepper, 1.0)")),
     "Gonzalez & Woods, 5.2"),
    ("twice the share of impulses", "torch", "maths/noise_salt_and_pepper-*",
     edit(T + "salt_and_pepper", ("z < column(amount) / 2, z < column(amount)",
                                  "z < column(amount), z < 2 * column(amount)")),
     "the corruption article's prob damages twice as much"),
    ("photons not squared", "torch", "maths/noise_poisson-*",
     edit(T + "poisson", ("column(amount) ** 2", "column(amount)")), "the mean of Poisson noise is the image"),
    ("speckle that does not know the image", "torch", "maths/noise_multiplicative-*",
     edit(T + "multiplicative", ("x * (1 + column(amount) * z)", "x + column(amount) * z")), "Lee 1980, eq. 13"),
    ("equal parts of the whole way", "torch", "sampling/corruption_*",
     edit(T + "Corruption.chain", ("1 / (steps - i)", "1 / steps")), "the corruption article's mix factor"),
    ("average pooling", "torch", "step/corruption-*",
     edit(N + "__init__", ("nn.MaxPool2d(2)", "nn.AvgPool2d(2)")), "the corruption article's network"),
    ("a step away from the answer (MindSpore)", "mindspore", "step/corruption-*-pynative",
     edit(C + "step", ("x * (1 - mix) + prediction * mix", "x * mix + prediction * (1 - mix)")),
     "the corruption article's mix factor"),
    ("no ReLU at the end (MindSpore)", "mindspore", "network/basic_net*-pynative",
     edit(B + "construct", ("self.leave(self.act(self.up_layers[2](self.upsample(x) + first)))",
                            "self.leave(self.up_layers[2](self.upsample(x) + first))")),
     "the corruption article's network"),
    ("a skip left out (MindSpore)", "mindspore", "step/corruption-*-pynative",
     edit(B + "construct", ("self.upsample(x) + second", "self.upsample(x)")), "the corruption article's network"),
    ("a ReLU that lets every gradient pass (MindSpore)", "mindspore", "network/basic_net*-vjp_*-pynative",
     edit(R + "bprop", ("self.gradient(dout, out)", "dout")), "the gradient of ReLU"),
    ("loss summed over the pixels (MindSpore)", "mindspore", "training/corruption_loss-*-pynative",
     edit(C + "construct", (".mean()", ".sum()")), "the corruption article's MSELoss"),
)
# fmt: on
MUTANTS = tuple(
    Mutant(name, "corruption", framework, place, apply, source, WATCH) for name, framework, place, apply, source in ROWS
)
