"""Known traps for which no mutant stands, and why. They are named as in `Mutant.source`."""

from __future__ import annotations

# fmt: off
NOT_HERE = {
    "mindspore: Conv2d pads 'same'": "for the kernels here (1, 3, 7, and 4 in strides of 2) 'same' is the padding",
    "mindspore: Embedding, Normal() init": "weights are given; initial distributions are tests/models/test_unet.py's",
    "mindspore: SmoothL1Loss reduction": "not used; a smooth l1 for l1 is a mutant",
    "mindspore: x.max(axis)": "not used",
    "mindspore: vision.Resize, ImageFolderDataset": "the data path is outside of the harness: tests/data/",
    "peers: overflow reports the scaled loss; forward runs twice": "tests/training/test_trainer.py",
    "the immiscible assignment itself": "draws are arguments here; tests/systems/diffusion/test_gaussian_diffusion.py",
    "memory keys behind the image's own": "softmax attention does not know an order: an equivalent mutant",
    "noise at t = 0 with the fixed variance": "its root is 1e-10 there: invisible, and found where it is learned",
}
# fmt: on
