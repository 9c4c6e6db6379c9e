"""Known traps for which no mutant stands, and why."""

from __future__ import annotations

# fmt: off
NOT_HERE = {
    "MINDSPORE: Conv2d pads 'same'": "for the kernels here (1, 3, 7, and 4 in strides of 2) 'same' is the padding",
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
