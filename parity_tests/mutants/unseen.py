"""What the mutants do not cover: bugs that no case shows yet, and known traps that cannot be bugs of this code."""

from __future__ import annotations

from typing import NamedTuple

from ._edit import edit, together
from ._mutant import Mutant, made


class Unseen(NamedTuple):
    """A bug that survives, and the case that would find it: with that, its row belongs into its family's table."""

    mutant: Mutant
    missing: str


R, P = "torch_ref.", "ms_ddpm."
SQUARE = "if v.ndim == 2 and v.shape[0] == v.shape[1] else v"

# fmt: off
ROWS = (  # name, family, framework, place, bug, source, the missing case
    ("square weights transposed on the way in and out", "state", "mindspore", "state/converted-*",
     together(
         edit(P + "convert:from_torch", ("set_value(parameters[ours], state[theirs])",
              f"v = state[theirs]; set_value(parameters[ours], v.T {SQUARE})")),
         edit(P + "convert:to_torch", ("values[ours].asnumpy().copy()",
              f"(lambda v: (v.T {SQUARE}).copy())(values[ours].asnumpy())"))),
     "PARITY: transposed Dense", "the output of a network loaded by convert.from_torch, against PyTorch's"),
    ("sample() takes DDPM for DDIM", "sampling", "torch", "sampling/sample-*",
     edit(R + "diffusion:GaussianDiffusion.sample", ("samplers.ddim if", "samplers.ddpm if")),
     "PEERS: DDIM exactly when the steps are fewer", "a chain through sample() with sampling_timesteps < timesteps"),
    ("DDIM's own eta ignored", "sampling", "torch", "sampling/sample-*",
     edit(R + "samplers:ddim", ("diffusion.ddim_sampling_eta if", "0.0 if")), "PEERS: eta",
     "a chain through sample() with ddim_sampling_eta 1"),
    ("learning rate of the step ignored", "optimizer", "torch", "training/adam_rate-*",
     edit(R + "optim:Adam.step", ("lr = self.lr if lr is None else lr", "lr = self.lr")), "a schedule without effect",
     "an optimizer that is given another learning rate at each step"),
    ("dropout not scaled", "blocks", "torch", "layers/block_dropout-*",
     edit(R + "layers:Dropout.forward", (" / (1 - self.p)", "")), "Srivastava et al. 2014",
     "a block with the mask of ms_ddpm's HashDropout given to torch_ref's"),
)
UNSEEN = tuple(Unseen(made(*row), missing) for *row, missing in ROWS)
NOT_HERE = {
    "MINDSPORE: Conv2d pads 'same'": "for the kernels here (1, 3, 7, and 4 in strides of 2) 'same' is the padding",
    "MINDSPORE: BatchNorm momentum": "no BatchNorm",
    "MINDSPORE: Embedding, Normal() init": "weights are given; initial distributions are tests/test_unet.py's",
    "MINDSPORE: SmoothL1Loss reduction": "not used; a smooth l1 for l1 is a mutant",
    "MINDSPORE: x.max(axis)": "not used",
    "MINDSPORE: vision.Resize, ImageFolderDataset": "the data path is outside of the harness: tests/test_data.py",
    "PEERS: overflow reports the scaled loss; forward runs twice": "tests/test_trainer.py",
    "PEERS: immiscible assignment itself": "draws are arguments here; tests/test_diffusion.py",
    "memory keys behind the image's own": "softmax attention does not know an order: an equivalent mutant",
    "noise at t = 0 with the fixed variance": "its root is 1e-10 there: invisible, and found where it is learned",
}
# fmt: on
